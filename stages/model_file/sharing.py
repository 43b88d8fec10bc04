"""What several results of a model share, so that it is computed once."""

from collections.abc import Collection, Mapping, Sequence

import onnx
from onnx import numpy_helper

MIXED = ""  # in place of the name of a kind


def share(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Take out of a model each operator that does what an earlier one has done.

    What is gathered from results side by side, and is just one of them, is that one: so what looks
    at the embedding alone depends on nothing else. Results of `Identity` keep their names, and the
    model its outputs. `shapes` are those of the results.
    """
    constants = {constant.name: constant for constant in model.graph.initializer}
    kept_names = {value.name for value in model.graph.output}
    beside: dict[str, list[str]] = {}  # the results that stand side by side in another
    same: dict[str, str] = {}  # earlier results, by the names of those that are the same
    done: dict[bytes, Sequence[str]] = {}
    nodes = []
    for node in model.graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]
        outputs = list(node.output)
        axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
        if kept_names.intersection(outputs):
            nodes.append(node)
            continue
        if node.op_type == "Gather" and axis == 1 and node.input[1] in constants:
            columns, end = numpy_helper.to_array(constants[node.input[1]]).tolist(), 0
            for name in beside.get(node.input[0], []):
                if name not in shapes:
                    break  # an array of the model
                start, end = end, end + shapes[name][1]
                if columns == list(range(start, end)):
                    same[outputs[0]] = name
            if outputs[0] in same:
                continue
        if node.op_type == "Identity":
            beside[outputs[0]] = beside.get(node.input[0], [])
        else:
            if node.op_type == "Concat" and axis == 1:
                beside[outputs[0]] = list(node.input)
            does = onnx.NodeProto()
            does.CopyFrom(node)
            for field in ("name", "output"):
                does.ClearField(field)
            first = done.setdefault(does.SerializeToString(deterministic=True), outputs)
            if first is not outputs:
                same |= dict(zip(outputs, first, strict=True))
                continue
        nodes.append(node)
    # Copies, as the graph's own nodes go when they are cleared.
    kept = onnx.GraphProto()
    kept.node.extend(nodes)
    model.graph.ClearField("node")
    model.graph.node.extend(kept.node)


def kinds_of_results(
    nodes: Sequence[onnx.NodeProto], kind_of: Mapping[str, str], wanted: Collection[str]
) -> dict[str, str]:
    """The results that are made from inputs of one kind, and from which the others are made.

    They have all that the model makes of one kind alone. `kind_of` has the kind of each input.
    Returns the kinds of results that are `wanted`, or that an operator takes beside another kind.

    Raises ValueError when a result that is wanted is made of constants alone.
    """
    kinds = dict(kind_of)
    found: dict[str, str] = {}
    for node in nodes:
        taken = {name: kinds[name] for name in node.input if name in kinds}
        if not taken:
            continue  # made of constants
        together = set(taken.values())
        kind = together.pop() if len(together) == 1 else MIXED
        kinds |= dict.fromkeys(node.output, kind)
        if kind == MIXED:
            found |= taken
    for name in wanted:
        if name not in kinds:
            raise ValueError(f"its {name} depend on none of its inputs")
        found[name] = kinds[name]
    return {name: kind for name, kind in found.items() if kind != MIXED}
