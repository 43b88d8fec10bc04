"""Build an ONNX model, operator by operator.

ONNX is a file format for models that runs without the library that trained them:
https://onnx.ai. The same operators and constants give the same bytes.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# Old enough for the runtimes that are in use, new enough for all that is built here.
FORMAT_VERSION = 8
OPERATORS_VERSION = 17
ML_OPERATORS_VERSION = 3
ML = "ai.onnx.ml"  # the domain of the operators for trees, texts and the like


class Graph:
    """Operators that are added one after the other; each gives the name of its result.

    Names begin with a slash: inputs have the names of columns, which do not.
    """

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[bytes, onnx.TensorProto] = {}  # by the digest of their content
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        # Of what is being added: names of one scope do not meet those of another.
        self.scope = ""

    def input(self, name: str, type_: type[np.generic], *shape: int) -> str:
        """An input of n numbers or texts, or of n arrays of `shape`."""
        self._inputs.append(_value_info(name, type_, shape))
        return name

    def constant(self, values: np.ndarray | np.generic) -> str:
        """An array, or texts, that the model holds; the same values are held once."""
        tensor = numpy_helper.from_array(np.asarray(values))
        content = hashlib.sha256(tensor.SerializeToString(deterministic=True)).digest()
        if content not in self._constants:
            tensor.name = f"/constant_{len(self._constants)}"
            self._constants[content] = tensor
        return self._constants[content].name

    def add(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """An operator of the ONNX standard and its inputs; returns the name of its one output."""
        name = f"/{operator.lower()}_{len(self._nodes)}"
        node = helper.make_node(operator, inputs, [name], name, domain=domain or None, **attributes)
        self._nodes.append(node)
        return name

    def add_all(
        self, operator: str, *inputs: str, outputs: int, domain: str = "", **attributes: Any
    ) -> tuple[str, ...]:
        """An operator with several outputs, such as TopK; returns their names."""
        name = f"/{operator.lower()}_{len(self._nodes)}"
        names = tuple(f"{name}_{number}" for number in range(outputs))
        self._nodes.append(
            helper.make_node(operator, inputs, names, name, domain=domain or None, **attributes)
        )
        return names

    def cast(self, value: str, type_: type[np.generic]) -> str:
        """The same numbers as another type."""
        return self.add("Cast", value, to=_element_type(type_))

    def standardize(
        self, value: str, mean: np.ndarray | np.generic, scale: np.ndarray | np.generic
    ) -> str:
        """(value - mean) / scale"""
        return self.add("Div", self.add("Sub", value, self.constant(mean)), self.constant(scale))

    def linear(self, value: str, weights: np.ndarray, offsets: np.ndarray) -> str:
        """value @ weights + offsets"""
        product = self.add("MatMul", value, self.constant(weights))
        return self.add("Add", product, self.constant(offsets))

    def columns(self, values: Sequence[str]) -> str:
        """Vectors (n,) side by side: (n, number of them)."""
        last_axis = self.constant(np.array([1]))
        parts = [self.add("Unsqueeze", value, last_axis) for value in values]
        return self.add("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]

    def all_of(self, conditions: Sequence[str]) -> str:
        """Where each of the conditions holds."""
        return reduce(lambda one, other: self.add("And", one, other), conditions)

    def name(self, value: str, name: str) -> str:
        """Call the value `value` something by which it is found in the file: `/SCOPE/NAME`."""
        return self._rename(value, "/".join(["", *filter(None, [self.scope]), name]))

    def _rename(self, value: str, name: str) -> str:
        self._nodes.append(helper.make_node("Identity", [value], [name], name))
        return name

    def output(self, name: str, value: str, type_: type[np.generic], *shape: int) -> None:
        """Give the value called `value` out as `name`, in the shape that `input` says."""
        self._rename(value, name)
        self._outputs.append(_value_info(name, type_, shape))

    def to_bytes(self, metadata: Mapping[str, Any], description: str) -> bytes:
        """The content of the .onnx file; each value of `metadata` is kept as JSON."""
        graph = helper.make_graph(
            self._nodes, "graph", self._inputs, self._outputs, list(self._constants.values())
        )
        model = helper.make_model(
            graph,
            ir_version=FORMAT_VERSION,
            opset_imports=[
                helper.make_opsetid("", OPERATORS_VERSION),
                helper.make_opsetid(ML, ML_OPERATORS_VERSION),
            ],
            doc_string=description,
        )
        texts = {
            # Sorted: the order of keys in params.yaml is of no meaning.
            key: json.dumps(value, ensure_ascii=False, sort_keys=True)
            for key, value in metadata.items()
        }
        helper.set_model_props(model, texts)
        onnx.checker.check_model(model)
        return model.SerializeToString(deterministic=True)


def _element_type(type_: type[np.generic]) -> int:
    if type_ is np.str_:
        return TensorProto.STRING
    return helper.np_dtype_to_tensor_dtype(np.dtype(type_))


def _value_info(name: str, type_: type[np.generic], shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, _element_type(type_), ["rows", *shape])


def nodes_between(
    model: onnx.ModelProto, inputs: Sequence[str], outputs: Sequence[str]
) -> list[onnx.NodeProto]:
    """The operators of a model that lead from some of its results to others."""
    wanted, nodes = set(outputs) - set(inputs), []
    for node in reversed(model.graph.node):
        if wanted.intersection(node.output):
            nodes.append(node)
            wanted.update(set(node.input).difference(inputs))
    return nodes[::-1]
