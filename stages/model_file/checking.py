"""Whether an ONNX file can be run without harm, found out before anything of it is run.

A file may come from anywhere. It may name other files to read, hold programs of its own, or make
a few bytes into more numbers than there is memory for.
"""

from collections.abc import Collection, Mapping
from math import prod
from pathlib import Path
from typing import Any

import onnx
from onnx import AttributeProto, TensorProto, helper

from stages.model_file.graph import ML

# The operators that a model may be built of. None draws at random, reads a file, holds a graph of
# its own, or gives more numbers than its inputs say.
OPERATORS = {
    "": {
        *("Abs", "Add", "And", "ArgMax", "Cast", "Clip", "Concat", "Div", "Equal", "Exp", "Gather"),
        *("Gemm", "Greater", "Identity", "IsInf", "IsNaN", "Less", "Log", "LogSoftmax", "MatMul"),
        *("Max", "Mean", "Min", "Mul", "Neg", "Not", "Or", "Pow", "ReduceMax", "ReduceMean"),
        *("ReduceMin", "ReduceSum", "ReduceSumSquare", "Relu", "Sigmoid", "Softmax", "Softplus"),
        *("Sqrt", "Sub", "Sum", "Tanh", "TopK", "Transpose", "Unsqueeze", "Where"),
    },
    ML: {"LabelEncoder", "TreeEnsembleRegressor"},
}
# What a file of protocol buffers may have.
MOST_BYTES = 2**31 - 1
MOST_NODES = 20_000
# An array of more numbers says nothing of the shape of a result.
MOST_OF_A_SHAPE = 64

# What an operator may hold beside its inputs.
ATTRIBUTES = {
    *(AttributeProto.FLOAT, AttributeProto.INT, AttributeProto.STRING, AttributeProto.TENSOR),
    *(AttributeProto.FLOATS, AttributeProto.INTS, AttributeProto.STRINGS),
}
# Operators whose results have sizes that their inputs do not bound: those have to be known.
MAKERS = {
    *("CenterCropPad", "Col2Im", "ConstantOfShape", "EyeLike", "Expand", "MaxUnpool", "NonZero"),
    *("OneHot", "Pad", "Range", "Resize", "Tile", "Upsample"),
}
# Types of which several numbers share a byte.
PACKED = {TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT4E2M1}


def read_model(path: Path) -> tuple[bytes, onnx.ModelProto]:
    """The content of an ONNX file, and what it says.

    Raises OSError, ValueError and what protocol buffers raise.
    """
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
    content = path.read_bytes()
    return content, onnx.load_model_from_string(content)


def check_model(
    model: onnx.ModelProto,
    rows: int,
    most: int,
    operators: Mapping[str, Collection[str]] | None = None,
) -> dict[str, tuple[int, ...]]:
    """Look at all that a model would do with so many rows; return the shapes of its results.

    All results together may have `most` numbers. `operators` are those that it may have, by their
    domains; None allows any that is of the standard and holds no graph. A shape that cannot be told
    is left out, which with `operators` is an error.

    Raises ValueError, or an error of onnx, for what it may not do.
    """
    graph = model.graph
    if len(graph.node) > MOST_NODES:
        raise ValueError(f"it has {len(graph.node):,} operators, more than {MOST_NODES:,}")
    if model.functions or model.training_info or graph.sparse_initializer:
        raise ValueError("it has functions of its own, or what only training needs")
    for tensor in graph.initializer:
        _check_tensor(tensor)
    for node in graph.node:
        if operators is not None and node.op_type not in operators.get(node.domain, ()):
            raise ValueError(f"it has the operator {node.op_type[:40]}, which no model has")
        for attribute in node.attribute:
            _check_attribute(node, attribute)
    if operators is not None:
        onnx.checker.check_model(model)  # each name is given once, and before it is used
    known = _shapes(model, rows, strict=operators is not None)
    together = 0
    for node in graph.node:
        for name in filter(None, node.output):
            if name not in known:
                if operators is not None or node.op_type in MAKERS:
                    raise ValueError(f"nobody can tell how much {node.op_type[:40]} gives")
                continue
            together += prod(known[name])
            if together > most:
                raise ValueError("it makes more numbers than any model needs")
    return known


def _check_attribute(node: onnx.NodeProto, attribute: AttributeProto) -> None:
    if attribute.type not in ATTRIBUTES or attribute.ref_attr_name:
        raise ValueError(f"its operator {node.op_type[:40]} holds a graph of its own")
    if attribute.type == AttributeProto.TENSOR:
        _check_tensor(attribute.t)


def _check_tensor(tensor: TensorProto) -> None:
    """Raises ValueError for numbers that lie in another file, or are not as many as it says."""
    if tensor.external_data or tensor.data_location == TensorProto.EXTERNAL:
        raise ValueError("it keeps numbers in another file, which is not read: save it as one file")
    numbers = prod(tensor.dims)
    if min(tensor.dims, default=0) < 0 or numbers > MOST_BYTES:
        raise ValueError(f"its array {tensor.name[:40]} has an impossible size")
    if tensor.data_type == TensorProto.STRING:
        found = len(tensor.string_data)
    else:
        field = helper.tensor_dtype_to_field(tensor.data_type)
        size = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        found = len(tensor.raw_data) // size if tensor.raw_data else len(getattr(tensor, field))
    if found < numbers and tensor.data_type not in PACKED:
        raise ValueError(f"its array {tensor.name[:40]} is cut off")


def _shapes(model: onnx.ModelProto, rows: int, strict: bool) -> dict[str, tuple[int, ...]]:
    """The shape of each result, as far as onnx can tell, where an open length is `rows`."""
    graph = model.graph
    small = [one for one in graph.initializer if prod(one.dims) <= MOST_OF_A_SHAPE]
    names = {one.name for one in graph.initializer}
    inputs: list[Any] = []
    for one in graph.input:
        if one.name not in names:
            inputs.append(onnx.ValueInfoProto())
            inputs[-1].CopyFrom(one)
            for length in inputs[-1].type.tensor_type.shape.dim:
                if not length.HasField("dim_value"):
                    length.dim_value = rows
    inputs += [
        helper.make_tensor_value_info(one.name, one.data_type, one.dims)
        for one in graph.initializer
        if prod(one.dims) > MOST_OF_A_SHAPE
    ]
    # What a model says itself of its results may be wrong.
    outputs = [helper.make_empty_tensor_value_info(one.name) for one in graph.output]
    light = helper.make_model(
        helper.make_graph(graph.node, "light", inputs, outputs, small),
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
    )
    found = onnx.shape_inference.infer_shapes(
        light, check_type=strict, strict_mode=strict, data_prop=True
    )
    known = {}
    for value in [*found.graph.value_info, *found.graph.output, *found.graph.input]:
        shape = value.type.tensor_type.shape
        if value.type.tensor_type.HasField("shape") and all(
            length.HasField("dim_value") for length in shape.dim
        ):
            known[value.name] = tuple(length.dim_value for length in shape.dim)
    return known
