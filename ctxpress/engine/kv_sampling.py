"""KV of sample texts, and the gradients that say what errors in it would cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from ctxpress.cache.kv import KVBlock
from ctxpress.engine.loading import RotaryModel, new_cache
from ctxpress.engine.prefilling import prefill_rows

__all__ = ["sample_kv"]


def sample_kv(
    model: RotaryModel,
    contexts: Sequence[Sequence[int]],
    targets: Sequence[Sequence[int]],
    *,
    seed: int = 0,
) -> tuple[list[KVBlock], list[KVBlock]]:
    """The un-rotated KV of each of ``contexts``, and the gradients of a likelihood in it.

    ``contexts``: token ids of one length, ``targets``: what follows each, shorter ones padded in
    effect by not being counted. The likelihood is that of tokens drawn, at every place of the
    target, from the model's own distribution there; so the mean product of gradients is the
    Fisher information: half of it in the direction of an error is the divergence that the error
    causes, summed over the target. Blocks and gradients are float32 and on the CPU.

    :raises ContextLengthError: a context and its target are too long for the model.
    """
    generator = torch.Generator(device=model.device).manual_seed(seed)
    run = prefill_rows(model, contexts)
    blocks = [run.block(row, dtype="float32") for row in range(len(contexts))]
    with torch.enable_grad():
        # Copies: what was made in inference mode takes no gradients.
        keys = torch.stack([block.keys for block in blocks]).clone().requires_grad_()
        values = torch.stack([block.values for block in blocks]).clone().requires_grad_()
        likelihood = _likelihood(model, keys, values, targets, generator)
        slopes = torch.autograd.grad(likelihood, (keys, values))
    gradients = [
        replace(block, keys=of_keys, values=of_values)
        for block, of_keys, of_values in zip(blocks, *(s.cpu() for s in slopes), strict=True)
    ]
    return [replace(b, keys=b.keys.cpu(), values=b.values.cpu()) for b in blocks], gradients


def _likelihood(
    model: RotaryModel,
    keys: torch.Tensor,
    values: torch.Tensor,
    targets: Sequence[Sequence[int]],
    generator: torch.Generator,
) -> torch.Tensor:
    """``keys``, ``values``: ``(n_rows, n_layers, n_kv_heads, n_tokens, head_dim)``, un-rotated."""
    n_tokens = keys.shape[3]
    places = torch.arange(n_tokens, device=model.device)
    cache = new_cache(model.n_layers)
    for layer in range(model.n_layers):
        rotated = model.rope.rotate(keys[:, layer], places, layer)
        cache.update(rotated.to(model.dtype), values[:, layer].to(model.dtype), layer)
    longest = max(len(target) for target in targets)
    rows = torch.tensor([[*t, *[0] * (longest - len(t))] for t in targets], device=model.device)
    counted = torch.tensor(
        [[place < len(t) for place in range(longest)] for t in targets], device=model.device
    )
    logits = model.model(
        input_ids=rows,
        position_ids=(places[-1:] + 1 + torch.arange(longest, device=model.device)).expand(
            len(rows), -1
        ),
        past_key_values=cache,
        use_cache=True,
    ).logits
    log_probs = torch.log_softmax(logits.float(), dim=-1)
    flat = log_probs.detach().exp().flatten(0, 1)
    drawn = torch.multinomial(flat, 1, generator=generator).view(rows.shape)
    chosen = log_probs.gather(-1, drawn[..., None])[..., 0]
    return (chosen * counted).sum()
