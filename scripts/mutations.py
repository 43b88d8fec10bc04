"""Spoil the content of a file: bytes of any file, and what a format is made of.

All is drawn from a generator of random numbers, so that the same one gives the same content.
"""

import copy
import io
import json
import re
import zipfile
from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
from onnx import TensorProto, helper
from ruamel.yaml import YAML

Mutation = Callable[[bytes, Random], bytes]

# At the ends of what integers and floats hold, and around them.
NUMBERS = [0, 1, -1, 2, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1]
TEXTS = ["", "0", "-1", "nan", "NaN", "inf", "-Infinity", "1e999", "9" * 40, "null", "true", "~"]
TEXTS += ['"', "'", "[", "{", "[" * 2000, "=1+1", "\x00", "\ufeff", "\u202e", "../../x", "&a *a"]
VALUES: list[Any] = [None, True, -1, 0, 10**30, 1e308, "", "x" * 999, "\x00", [], {}, [[]]]
LARGEST = 200_000  # bytes of what is made; more would only take time


class Pickled:
    """What writes a file where a pickle is run."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return open, ("executed", "w")


def spoil(content: bytes, others: list[bytes], mutation: Mutation | None, random: Random) -> bytes:
    """A file that is spoiled once to four times; `others` are of its kind.

    `mutation` knows the format; half of the files are spoiled byte by byte alone.
    """
    if mutation is not None and random.random() < 0.5:
        content = mutation(content, random)
        if random.random() < 0.7:
            return content[:LARGEST]
    for _ in range(random.choice((1, 1, 2, 4))):
        content = of_bytes(content, random.choice(others), random)
    return content[:LARGEST]


def of_bytes(content: bytes, other: bytes, random: Random) -> bytes:
    """Bytes of which some are changed, cut, repeated, or those of another file."""
    end = len(content)
    place = random.randrange(end + 1)
    length = min(end - place, random.choice((1, 1, 2, 4, 8, 64, 512)))
    match random.randrange(8):
        case 0 if end > place:
            flipped = content[place] ^ (1 << random.randrange(8))
            return content[:place] + bytes([flipped]) + content[place + 1 :]
        case 1:
            return content[:place]
        case 2:
            return content[:place] + content[place + length :]
        case 3:
            return content[:place] + random.randbytes(length or 1) + content[place:]
        case 4:
            part = content[place : place + length]
            return content[:place] + part * random.choice((2, 10, 500)) + content[place:]
        case 5:
            start = random.randrange(len(other) + 1)
            return content[:place] + other[start:]
        case 6:
            size = random.choice((1, 2, 4, 8))
            number = random.choice(NUMBERS) & (256**size - 1)
            return content[:place] + number.to_bytes(size, "little") + content[place + size :]
        case _:
            return content[:place] + random.randbytes(length) + content[place + length :]


def of_text(content: bytes, random: Random) -> bytes:
    """A text of which a word, a number or a line is another."""
    text = content.decode("utf-8", "replace")
    kind = random.choice((r"[^\n]*\n", r"-?\d[\d.e+-]*", r"\w+", r"[,:;\[\]{}\"]"))
    found = list(re.finditer(kind, text))
    if not found:
        return content
    one, other = random.choice(found), random.choice(found)
    new = random.choice((other[0], "", one[0] * 2, random.choice(TEXTS)))
    return (text[: one.start()] + new + text[one.end() :]).encode("utf-8", "replace")


def of_yaml(content: bytes, random: Random) -> bytes:
    """YAML of which a value is another, missing, or made of many references to itself."""
    if random.random() < 0.1:
        bomb = "a0: &a0 [x, x]\n" + "".join(
            f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 99)
        )
        odd = (bomb, "[" * 3000, "train: {{}}\n", "train:\ntrain:\n", "- a\n", "%YAML 9.9\n---\n")
        return random.choice(odd).encode() + content
    if random.random() < 0.5:
        return of_text(content, random)
    value = changed(YAML(typ="safe", pure=True).load(content), random)
    return json.dumps(value).encode()


def of_json(content: bytes, random: Random) -> bytes:
    """JSON of which a value is another, missing, there twice, or nested deeply."""
    try:
        value = json.loads(content)
    except ValueError:
        return of_text(content, random)
    if random.random() < 0.02:
        return (b"[" * 50_000) if random.random() < 0.5 else b'{"a":' * 50_000
    return json.dumps(changed(value, random)).encode()


def changed(value: Any, random: Random) -> Any:
    """The same value with one part of it changed."""
    value = copy.deepcopy(value)
    place: Any = value
    parent: Any = None
    key: Any = None
    while isinstance(place, dict | list) and place and random.random() < 0.85:
        keys = list(place) if isinstance(place, dict) else range(len(place))
        parent, key = place, random.choice(keys)
        place = parent[key]
    if parent is None:
        return random.choice(VALUES)
    match random.randrange(4):
        case 0:
            del parent[key]
        case 1 if isinstance(parent, dict):
            parent[random.choice(TEXTS)] = parent.pop(key)
        case 2 if isinstance(parent, list):
            parent.append(place)
        case _:
            parent[key] = random.choice([*VALUES, copy.deepcopy(value)])
    return value


def of_parquet(content: bytes, random: Random) -> bytes:
    """A table with other columns, types, rows or words about itself."""
    try:
        table = pq.read_table(pa.BufferReader(content))
        table = _other_table(table, random)
        sink = io.BytesIO()
        pq.write_table(table, sink, compression=random.choice(("none", "zstd", "gzip")))
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError):
        return content
    return sink.getvalue()


def _other_table(table: pa.Table, random: Random) -> pa.Table:
    said = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    place = random.randrange(table.num_columns)
    name, column = table.column_names[place], table.column(place)
    rows = len(table)
    match random.randrange(9):
        case 0:
            return table.drop_columns(name)
        case 1:
            return table.append_column(name, column)
        case 2:
            type_ = random.choice((pa.string(), pa.int64(), pa.float64(), pa.large_string()))
            return table.set_column(place, name, column.cast(type_))
        case 3:
            return table.set_column(place, name, pa.nulls(rows, column.type))
        case 4:
            return table.slice(random.randrange(rows + 1), random.randrange(rows + 1))
        case 5:
            return pa.concat_tables([table, table.slice(0, random.randrange(rows + 1))])
        case 6 if said:
            key = random.choice(list(said))
            said[key] = of_json(said[key].encode(), random).decode("utf-8", "replace")[:10_000]
        case 7 if said:
            said.pop(random.choice(list(said)))
        case _:
            return table.set_column(place, name, _other_values(column, random))
    return table.replace_schema_metadata(said)


def _other_values(column: pa.ChunkedArray, random: Random) -> pa.Array:
    values = column.to_pylist()
    place = random.randrange(len(values))
    odd = random.choice((float("nan"), float("inf"), -1.0, 1e300, 0.0))
    if pa.types.is_string(column.type):
        values[place] = random.choice((random.choice(values), *TEXTS[:8]))
    elif pa.types.is_fixed_size_list(column.type) and values[place]:
        values[place][random.randrange(len(values[place]))] = odd
    else:
        values[place] = odd
    return pa.array(values, column.type)


def of_npz(content: bytes, random: Random) -> bytes:
    """Arrays of other shapes, types or names, or a pickle among them."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception:  # of many kinds: it may be spoiled already
        return content
    name = random.choice(list(arrays))
    array = arrays[name]
    match random.randrange(8):
        case 0:
            del arrays[name]
        case 1:
            arrays[random.choice((*arrays, f"{name}x", "0.sizes.x", "9.category.values"))] = array
        case 2:
            arrays[name] = array.reshape(-1)[: random.randrange(array.size + 1)]
        case 3:
            arrays[name] = np.resize(array, (3, 2))
        case 4:
            types = ("f2", "f4", "f8", "i8", "U3", "?", "c8", "S4")
            arrays[name] = np.zeros(array.shape, random.choice(types))
        case 5:
            arrays[name] = np.array([Pickled()], dtype=object)
        case 6:
            arrays[name] = np.array(random.choice(NUMBERS))
        case _:
            arrays[name] = np.full(array.shape, random.choice((np.nan, np.inf, 1e300)))
    sink = io.BytesIO()
    save = random.choice((np.savez, np.savez, np.savez_compressed))
    save(sink, **arrays)
    return sink.getvalue()


def of_zip(content: bytes, random: Random) -> bytes:
    """A zip file with another name in it, a bomb, or what is no file."""
    sink = io.BytesIO(content)
    try:
        with zipfile.ZipFile(sink, "a") as archive:
            names = ("../x.png", "/x.png", "a\\b.png", "x" * 300, "\x00.png", "picture.png", "d/")
            packed = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA))
            some = b"\x00" * random.choice((0, 9, 2_000_000))
            archive.writestr(zipfile.ZipInfo(random.choice(names)), some, packed)
    except (zipfile.BadZipFile, ValueError, OSError):
        return content
    return sink.getvalue()


def of_onnx(content: bytes, random: Random) -> bytes:
    """A model with other operators, arrays, names or words about itself."""
    try:
        model = onnx.load_model_from_string(content)
        _other_model(model, random)
        return model.SerializeToString()
    except Exception:  # of many kinds: it may be spoiled already
        return content


def _other_model(model: onnx.ModelProto, random: Random) -> None:
    graph = model.graph
    node, array = random.choice(graph.node), random.choice(graph.initializer)
    match random.randrange(15):
        case 0:
            node.op_type = random.choice(
                ("Loop", "If", "Expand", "Tile", "Add", "Conv", "x", "Exp")
            )
        case 1 if node.input:
            node.input[random.randrange(len(node.input))] = random.choice(
                [other.output[0] for other in graph.node]
            )
        case 2:
            graph.node.remove(node)
        case 3:
            graph.node.append(node)
        case 4 if node.attribute:
            attribute = random.choice(node.attribute)
            attribute.i = random.choice(NUMBERS) - 2**31
            attribute.ints.extend([random.choice(NUMBERS)])
            attribute.type = random.randrange(12)
        case 5 if array.dims:
            array.dims[random.randrange(len(array.dims))] = random.choice(NUMBERS)
        case 6:
            array.dims.append(random.choice(NUMBERS))
        case 7:
            array.data_type = random.randrange(25)
        case 8:
            array.data_location = TensorProto.EXTERNAL
            for key, value in (("location", "model.onnx"), ("length", "4"), ("offset", "0")):
                array.external_data.add(key=key, value=value)
        case 9 if model.metadata_props:
            entry = random.choice(model.metadata_props)
            entry.value = of_json(entry.value.encode(), random).decode("utf-8", "replace")
        case 10 if model.metadata_props:
            model.metadata_props.remove(random.choice(model.metadata_props))
        case 11:
            _add_giant(graph, random)
        case 12:
            value = random.choice([*graph.input, *graph.output])
            value.name = random.choice(("x", value.name, node.output[0], "embedding"))
            value.type.tensor_type.elem_type = random.randrange(17)
            for length in value.type.tensor_type.shape.dim:
                length.dim_value = random.choice(NUMBERS)
        case 13:
            numbers = np.frombuffer(array.raw_data, np.uint8).copy()
            numbers[random.randrange(len(numbers)) :] = random.choice((0, 127, 255))
            array.raw_data = numbers.tobytes()
        case _:
            model.opset_import[0].version = random.choice((-1, 0, 1, 7, 13, 18, 25, 99))


def _add_giant(graph: onnx.GraphProto, random: Random) -> None:
    """Add operators that make much of little, or that never come to an end."""
    shape = helper.make_tensor("giant", TensorProto.INT64, [2], [200_000, 200_000])
    row = helper.make_tensor("row", TensorProto.FLOAT, [1, 9999], [0.0] * 9999)
    graph.initializer.extend([shape, row])
    last = graph.output[0].name
    match random.randrange(4):
        case 0:
            graph.node.append(helper.make_node("ConstantOfShape", ["giant"], ["made"]))
        case 1:
            graph.node.append(helper.make_node("Expand", ["row", "giant"], ["made"]))
        case 2:
            graph.node.append(helper.make_node("Transpose", ["row"], ["column"]))
            graph.node.append(helper.make_node("MatMul", ["column", "row"], ["made"]))
        case _:
            names = [f"made_{number}" for number in range(30_000)]
            graph.node.extend(
                helper.make_node("Identity", [one], [other]) for one, other in pairwise(names)
            )
    graph.node[-1].output[0] = "made"
    for one in graph.node:
        if one.output[0] == last:
            one.output[0] = "before"
    graph.node.append(helper.make_node("Max", ["before", "made"], [last]))
