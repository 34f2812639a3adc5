"""Where training starts: with the heads that language models learn first already in place.

Induction heads form suddenly, after a long plateau (Olsson et al. 2022, "In-context Learning and
Induction Heads", transformer-circuits.pub), and retrieval from the context builds on them. Weights
chosen so that a rough form of them is there from the first step take the plateau away; training
changes all of it. Compare Trockman and Kolter 2023, "Mimetic Initialization of Self-Attention
Layers", which starts attention near what trained attention looks like.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from training.reference_model.model import Shape

_EMBEDDING_STD = 0.25
_CONSTANT = 5.0  # of the first dimension, in standard deviations of the others
_FINAL_GAIN = 0.04 / _EMBEDDING_STD
_FREQUENCIES = 10  # the fastest rotations tell neighbouring positions apart
_OFFSET_GAIN = 1.3
_MATCH_GAIN = 2.0
_WRITE_GAIN = 0.25
_COPY_GAIN = 0.5
_INDUCTION_LAYERS = (2, 4)


@torch.no_grad()
def place_heads(model: Any, shape: Shape) -> None:
    """Place look-back heads into the first layer and induction heads into two later ones.

    All embeddings get one dimension of the same value: what is multiplied with it does not depend
    on the token. Embeddings are as large as what layers soon add to them. Raises ValueError where
    a head is wider than the model.
    """
    if shape.head_dim > shape.hidden:
        raise ValueError(f"head_dim {shape.head_dim} is more than hidden {shape.hidden}")
    model.model.embed_tokens.weight.normal_(0, _EMBEDDING_STD)
    model.model.embed_tokens.weight[:, 0] = _CONSTANT * _EMBEDDING_STD
    model.model.norm.weight.fill_(_FINAL_GAIN)
    first = model.model.layers[0].self_attn
    written = _look_back(first, shape)
    for index in _INDUCTION_LAYERS:
        if index < shape.layers:
            _induce(model.model.layers[index].self_attn, first, written[0], shape)


def _look_back(attention: Any, shape: Shape) -> list[torch.Tensor]:
    """Head `h` looks `h + 1` tokens back, and writes what it finds into a subspace of its own.

    Its logits are a sum of cosines of the distance less `h + 1`. Returns the bases of the
    subspaces, each (hidden, head_dim).
    """
    dim = shape.head_dim
    half = dim // 2
    n_used = min(_FREQUENCIES, half)
    rates = (shape.rope_theta ** (-torch.arange(0, dim, 2) / dim))[:n_used]
    attention.q_proj.weight.normal_(0, 0.005)
    attention.k_proj.weight.normal_(0, 0.005)
    attention.v_proj.weight.normal_(0, shape.hidden**-0.5)
    for kv_head in range(shape.kv_heads):
        attention.k_proj.weight[kv_head * dim : kv_head * dim + n_used, 0] = _OFFSET_GAIN
    written = []
    for head in range(shape.heads):
        start, phase = head * dim, rates * (head + 1)
        query = attention.q_proj.weight[start : start + dim, 0]
        query[:n_used] = _OFFSET_GAIN * torch.cos(phase)
        query[half : half + n_used] = -_OFFSET_GAIN * torch.sin(phase)
        basis = torch.linalg.qr(torch.randn(shape.hidden, dim))[0]
        attention.o_proj.weight[:, start : start + dim] = _WRITE_GAIN * basis
        written.append(basis)
    return written


def _induce(attention: Any, first: Any, written: torch.Tensor, shape: Shape) -> None:
    """All heads look for tokens behind one like the current one, and copy what they find.

    The query is the current token as the first look-back head writes it, the key what that head
    wrote.
    """
    dim, groups = shape.head_dim, shape.heads // shape.kv_heads
    attention.v_proj.weight.normal_(0, shape.hidden**-0.5)
    for head in range(shape.heads):
        own = slice(head * dim, (head + 1) * dim)
        shared = slice(head // groups * dim, (head // groups + 1) * dim)
        attention.q_proj.weight[own] = _MATCH_GAIN * first.v_proj.weight[:dim]
        attention.q_proj.weight[own, 0] = 0
        attention.k_proj.weight[shared] = _MATCH_GAIN * written.T
        copied = attention.v_proj.weight[shared].T
        attention.o_proj.weight[:, own] = _COPY_GAIN / groups * copied
