"""A BERT encoder with shape embeddings and a head of four outputs, small enough to read at once.

One trunk serves both readings of a text: alone, `[CLS] text [SEP]`, and behind a question, `[CLS]
question [SEP] text [SEP]`, where the question's sub-tokens have shape embeddings of their own.

Written out instead of imported so that training, the ONNX graph (`training.export`) and the
reference scores use the same few operations.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as functional
from safetensors.torch import load_file
from torch import Tensor, nn

from ctxpress.models.encoding import N_QUESTION_SHAPES, N_SHAPES

N_OUTPUTS = 4
HALF, CORE, QUOTE, ANSWER = range(N_OUTPUTS)
"""Outputs a sub-token, as logits: the cumulative levels P(label >= 1) (kept in `half`) and
P(label >= 2) (kept in `core`); P(in a quote that helps with the question); P(in an answer): to the
question that was read or, without one, to a question that somebody asked about the passage."""


@dataclass(frozen=True, slots=True)
class EncoderShape:
    """Sizes of the encoder; the defaults are those of MiniLM-L6-H384."""

    n_layers: int = 6
    n_heads: int = 12
    hidden_dim: int = 384
    inner_dim: int = 1536
    vocabulary_size: int = 30522
    max_positions: int = 512
    norm_epsilon: float = 1e-12


class EncoderLayer(nn.Module):
    """Post-norm transformer layer: (batch, n_tokens, hidden) to the same shape."""

    def __init__(self, shape: EncoderShape, dropout: float) -> None:
        super().__init__()
        self.n_heads = shape.n_heads
        self.qkv = nn.Linear(shape.hidden_dim, 3 * shape.hidden_dim)
        self.attention_out = nn.Linear(shape.hidden_dim, shape.hidden_dim)
        self.attention_norm = nn.LayerNorm(shape.hidden_dim, eps=shape.norm_epsilon)
        self.inner = nn.Linear(shape.hidden_dim, shape.inner_dim)
        self.outer = nn.Linear(shape.inner_dim, shape.hidden_dim)
        self.outer_norm = nn.LayerNorm(shape.hidden_dim, eps=shape.norm_epsilon)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        batch, n_tokens, width = hidden.shape
        qkv = self.qkv(hidden).view(batch, n_tokens, 3, self.n_heads, width // self.n_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, mask)
        mixed = mixed.transpose(1, 2).reshape(batch, n_tokens, width)
        hidden = self.attention_norm(hidden + self.dropout(self.attention_out(mixed)))
        inner = functional.gelu(self.inner(hidden))
        normed: Tensor = self.outer_norm(hidden + self.dropout(self.outer(inner)))
        return normed


class TokenClassifier(nn.Module):
    """Sub-token ids and shapes, (batch, n_tokens) int64 each, to logits (batch, n_tokens,
    N_OUTPUTS).

    `real`, (batch, n_tokens) bool, marks what is not padding; `None` where nothing is.
    """

    def __init__(self, shape: EncoderShape, dropout: float = 0.1) -> None:
        super().__init__()
        self.shape = shape
        self.words = nn.Embedding(shape.vocabulary_size, shape.hidden_dim)
        self.positions = nn.Embedding(shape.max_positions, shape.hidden_dim)
        self.shapes = nn.Embedding(N_SHAPES + N_QUESTION_SHAPES, shape.hidden_dim)
        self.embedding_norm = nn.LayerNorm(shape.hidden_dim, eps=shape.norm_epsilon)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(EncoderLayer(shape, dropout) for _ in range(shape.n_layers))
        self.head = nn.Linear(shape.hidden_dim, N_OUTPUTS)

    def forward(self, token_ids: Tensor, shape_ids: Tensor, real: Tensor | None = None) -> Tensor:
        mask = None if real is None else real[:, None, None, :]
        positions = self.positions.weight[: token_ids.shape[1]]
        hidden = self.words(token_ids) + positions + self.shapes(shape_ids)
        hidden = self.dropout(self.embedding_norm(hidden))
        for layer in self.layers:
            hidden = layer(hidden, mask)
        logits: Tensor = self.head(self.dropout(hidden))
        return logits


ROOTS = 3
"""How often the square root is taken of the last output's probability for the mixes: it spreads
small probabilities, so that second and third candidates come before what is none."""
KEEP_MIX = (0.1, 0.35, 0.0, 0.55, 0.0)
"""Shares in a keep score of the outputs' probabilities and of the root of the last. That of
what people ask for costs some tenths of a point of agreement with the teacher, and far more answers
survive."""
USE_MIX = (0.0, 0.0, 0.05, 0.0, 0.95)
"""The same for the score of use for a question."""


def scores(logits: Tensor) -> Tensor:
    """(…, N_OUTPUTS) logits to (…, 2): keep score and score of use, each in [0, 1]."""
    levels = torch.sigmoid(logits.float())
    levels = torch.cat([levels, levels[..., ANSWER:] ** 0.5**ROOTS], dim=-1)
    return levels @ torch.tensor([KEEP_MIX, USE_MIX]).T


def thinned(model: TokenClassifier, n_layers: int) -> TokenClassifier:
    """A smaller classifier that begins with `n_layers` of the model's layers, evenly spaced.

    With none at all, what is left are static embeddings: a score for every sub-token by itself.
    """
    student = TokenClassifier(dataclasses.replace(model.shape, n_layers=n_layers))
    chosen = torch.linspace(0, model.shape.n_layers - 1, n_layers).round().int().tolist()
    state = {k: v for k, v in model.state_dict().items() if not k.startswith("layers.")}
    for new, old in enumerate(chosen):
        state |= {f"layers.{new}.{k}": v for k, v in model.layers[old].state_dict().items()}
    student.load_state_dict(state)
    return student


def averaged(models: Sequence[TokenClassifier]) -> TokenClassifier:
    """A classifier whose weights are the mean of those of `models`, which share their shape."""
    states = [model.state_dict() for model in models]
    mean = TokenClassifier(models[0].shape)
    mean.load_state_dict({name: sum(s[name] for s in states) / len(states) for name in states[0]})
    return mean.eval()


def load_pretrained(folder: Path, n_layers: int) -> TokenClassifier:
    """The first `n_layers` layers of MiniLM (`model.safetensors` in `folder`); the head is new."""
    source = load_file(folder / "model.safetensors")
    model = TokenClassifier(EncoderShape(n_layers=n_layers))
    state = model.state_dict()
    state["words.weight"] = source["embeddings.word_embeddings.weight"]
    state["positions.weight"] = source["embeddings.position_embeddings.weight"]
    first, second = source["embeddings.token_type_embeddings.weight"]
    state["shapes.weight"] = torch.cat(
        [first.repeat(N_SHAPES, 1), second.repeat(N_QUESTION_SHAPES, 1)]
    )
    for part in ("weight", "bias"):
        state[f"embedding_norm.{part}"] = source[f"embeddings.LayerNorm.{part}"]
        for index in range(n_layers):
            old, new = f"encoder.layer.{index}", f"layers.{index}"
            state[f"{new}.qkv.{part}"] = torch.cat(
                [
                    source[f"{old}.attention.self.{name}.{part}"]
                    for name in ("query", "key", "value")
                ]
            )
            for target, origin in (
                ("attention_out", "attention.output.dense"),
                ("attention_norm", "attention.output.LayerNorm"),
                ("inner", "intermediate.dense"),
                ("outer", "output.dense"),
                ("outer_norm", "output.LayerNorm"),
            ):
                state[f"{new}.{target}.{part}"] = source[f"{old}.{origin}.{part}"]
    model.load_state_dict(state)
    return model
