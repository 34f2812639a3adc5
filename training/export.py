"""From torch weights to one int8 ONNX file, written node by node.

Writing the graph by hand instead of tracing it keeps it small, the same on every export, and made
of exactly the fused ONNX Runtime operators that are fast on a CPU. Linear layers are
`DynamicQuantizeMatMul`: int8 weights with one scale an output channel, activations quantised at run
time with one scale a call; the word embedding is int8 with one scale a row. Norms, attention and
the head stay in float32. The graph has no padding mask: the runtime feeds windows of real tokens
only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from training.model import ANSWER, KEEP_MIX, N_OUTPUTS, ROOTS, USE_MIX, TokenClassifier

_OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
_FUSED = "com.microsoft"
FloatArray = npt.NDArray[np.float32]


class _GraphWriter:
    """Collects nodes and constants; each method adds one and returns the name of its output."""

    def __init__(self, state: dict[str, FloatArray]) -> None:
        self.state = state
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, array: npt.NDArray[np.generic]) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(
        self, kind: str, inputs: list[str], output: str, domain: str = "", **attributes: Any
    ) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], domain=domain, **attributes))
        return output

    def linear(self, hidden: str, name: str) -> str:
        """int8 `hidden @ weight.T + bias`."""
        levels, scales = quantise_rows(self.state[f"{name}.weight"])
        return self.node(
            "DynamicQuantizeMatMul",
            [
                hidden,
                self.constant(f"{name}.weight", levels.T),
                self.constant(f"{name}.scale", scales),
                self.constant(f"{name}.zero", np.zeros(len(scales), np.int8)),
                self.constant(f"{name}.bias", self.state[f"{name}.bias"]),
            ],
            f"{name}.out",
            _FUSED,
        )

    def norm_of_sum(self, hidden: str, residual: str, name: str, epsilon: float) -> str:
        weight = self.constant(f"{name}.weight", self.state[f"{name}.weight"])
        bias = self.constant(f"{name}.bias", self.state[f"{name}.bias"])
        inputs = [self.node("Add", [hidden, residual], f"{name}.sum"), weight, bias]
        return self.node("LayerNormalization", inputs, f"{name}.out", axis=-1, epsilon=epsilon)


def quantise_rows(weight: FloatArray) -> tuple[npt.NDArray[np.int8], FloatArray]:
    """Symmetric int8, one scale a row: (rows, columns) -> levels alike, scales (rows,)."""
    scales = np.maximum(np.abs(weight).max(axis=1), 1e-12).astype(np.float32) / np.float32(127)
    levels = np.clip(np.rint(weight / scales[:, None]), -127, 127).astype(np.int8)
    return levels, scales


def _embed(graph: _GraphWriter, epsilon: float) -> str:
    levels, scales = quantise_rows(graph.state["words.weight"])
    words = graph.constant("words.weight", levels)
    row_scales = graph.constant("words.scale", scales[:, None])
    raw = graph.node("Gather", [words, "token_ids"], "words.levels")
    real = graph.node("Cast", [raw], "words.float", to=TensorProto.FLOAT)
    scale = graph.node("Gather", [row_scales, "token_ids"], "words.row_scales")
    word = graph.node("Mul", [real, scale], "words.out")

    dims = graph.node("Shape", ["token_ids"], "dims", start=1, end=2)
    zero = graph.constant("zero", np.zeros(1, np.int64))
    table = graph.constant("positions.weight", graph.state["positions.weight"])
    position = graph.node("Slice", [table, zero, dims, zero], "positions.out")
    shapes = graph.constant("shapes.weight", graph.state["shapes.weight"])
    shape = graph.node("Gather", [shapes, "shape_ids"], "shapes.out")

    total = graph.node(
        "Add", [graph.node("Add", [word, shape], "embedding.pair"), position], "embedding"
    )
    weight = graph.constant("embedding_norm.weight", graph.state["embedding_norm.weight"])
    bias = graph.constant("embedding_norm.bias", graph.state["embedding_norm.bias"])
    inputs = [total, weight, bias]
    return graph.node("LayerNormalization", inputs, "embedding_norm.out", axis=-1, epsilon=epsilon)


def build_graph(model: TokenClassifier) -> onnx.ModelProto:
    """`token_ids`, `shape_ids` (batch, n_tokens) int32 -> three outputs, each float32.

    `scores` (batch, n_tokens, 2) are those of `training.model.scores`: to keep, and of use for the
    question. `logits` (batch, n_tokens, N_OUTPUTS) are the head's, `hidden` (batch, n_tokens,
    hidden_dim) what it sees. Only what is asked for is computed.
    """
    shape = model.shape
    state = {name: tensor.detach().float().numpy() for name, tensor in model.state_dict().items()}
    graph = _GraphWriter(state)
    hidden = _embed(graph, shape.norm_epsilon)
    for index in range(shape.n_layers):
        name = f"layers.{index}"
        qkv = graph.linear(hidden, f"{name}.qkv")
        parts = [f"{name}.{part}" for part in ("query", "key", "value")]
        graph.nodes.append(helper.make_node("Split", [qkv], parts, axis=-1))
        mixed = graph.node(
            "MultiHeadAttention", parts, f"{name}.mixed", _FUSED, num_heads=shape.n_heads
        )
        mixed = graph.linear(mixed, f"{name}.attention_out")
        hidden = graph.norm_of_sum(mixed, hidden, f"{name}.attention_norm", shape.norm_epsilon)
        inner = graph.linear(hidden, f"{name}.inner")
        inner = graph.node("Gelu", [inner], f"{name}.gelu", _FUSED)
        outer = graph.linear(inner, f"{name}.outer")
        hidden = graph.norm_of_sum(outer, hidden, f"{name}.outer_norm", shape.norm_epsilon)
    hidden = graph.node("Identity", [hidden], "hidden")

    weight = graph.constant("head.weight", state["head.weight"].T)
    bias = graph.constant("head.bias", state["head.bias"])
    product = graph.node("MatMul", [hidden, weight], "head.product")
    levels = graph.node("Sigmoid", [graph.node("Add", [product, bias], "logits")], "levels")
    mix = np.array([KEEP_MIX, USE_MIX], np.float32).T
    bounds = [
        graph.constant(name, np.array([value]))
        for name, value in (("first", ANSWER), ("end", N_OUTPUTS), ("axis", 2))
    ]
    answer = graph.node("Slice", [levels, *bounds], "answer.level")
    root = answer
    for number in range(ROOTS):
        root = graph.node("Sqrt", [root], f"answer.root{number}")
    joined = graph.node("Concat", [levels, root], "joined", axis=-1)
    graph.node("MatMul", [joined, graph.constant("mix", mix)], "scores")

    axes = ["batch", "n_tokens"]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT32, axes)
        for name in ("token_ids", "shape_ids")
    ]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [*axes, width])
        for name, width in (("scores", 2), ("logits", N_OUTPUTS), ("hidden", shape.hidden_dim))
    ]
    body = helper.make_graph(graph.nodes, "token_classifier", inputs, outputs, graph.constants)
    proto = helper.make_model(body, opset_imports=_OPSETS, ir_version=10, producer_name="ctxpress")
    onnx.checker.check_model(proto)
    return proto


def export(model: TokenClassifier, path: Path) -> None:
    """Write the int8 graph; the same weights give the same bytes."""
    path.write_bytes(build_graph(model).SerializeToString(deterministic=True))
