"""Which stored chunks a prompt is made of, and where the tokens of each stand in it.

An ordinary prompt is one chain of full chunks from its first token on. A prompt with documents in
parallel is the prefix, every document behind the prefix alone, and the padding behind the last
document, which each document was encoded with as far as any prompt may need it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ctxpress.cache.chunk_key import CacheKey, chunk_keys
from ctxpress.cache.identity import KVIdentity
from ctxpress.integrations.vllm.prompt import ParallelLayout

__all__ = ["PromptChunk", "parallel_chunks", "prefix_chunks"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptChunk:
    """A chunk of stored KV: ``n_tokens`` of it, of which the prompt uses the first ``take``.

    ``first``: the place of its first token in the prompt. ``position``: its rotary position there.
    ``context_tokens``: how many tokens it is computed behind. ``key_scale``: 1/T for documents.
    """

    key: CacheKey
    n_tokens: int
    take: int
    first: int
    position: int
    context_tokens: int
    key_scale: float = 1.0

    @property
    def end(self) -> int:
        """The place behind its last used token."""
        return self.first + self.take


def prefix_chunks(
    identity: KVIdentity, token_ids: Sequence[int], chunk_tokens: int, *, rotated: bool
) -> list[PromptChunk]:
    """The full chunks of a prompt. ``rotated``: keys are stored with their positions."""
    whole = len(token_ids) - len(token_ids) % chunk_tokens
    keys = chunk_keys(
        identity,
        token_ids[:whole],
        chunk_tokens=chunk_tokens,
        rotated_from=0 if rotated else None,
    )
    return [
        PromptChunk(
            key=key,
            n_tokens=chunk_tokens,
            take=chunk_tokens,
            first=first,
            position=first,
            context_tokens=first,
        )
        for first, key in zip(range(0, whole, chunk_tokens), keys, strict=True)
    ]


def parallel_chunks(
    identity: KVIdentity,
    token_ids: Sequence[int],
    layout: ParallelLayout,
    *,
    chunk_tokens: int,
    block_size: int,
) -> list[PromptChunk]:
    """The chunks of a prompt with documents in parallel; or of one that encodes a document.

    :raises ValueError: the layout does not fit the prompt or vLLM's blocks; says how.
    """
    n_prefix, pads = layout.prefix_tokens, layout.pad_tokens
    _check(token_ids, layout, block_size)
    shift, scale = layout.shift_tokens, 1.0 / layout.temperature
    found = list(
        _run(identity, token_ids[:n_prefix], chunk_tokens, before="", first=0, position=shift)
    )
    behind = found[-1].key.identity.tokens if found else ""
    first = n_prefix
    last = behind
    for n_tokens in layout.document_tokens:
        run = _run(
            identity,
            token_ids[first : first + n_tokens],
            chunk_tokens,
            before=behind,
            first=first,
            position=n_prefix + shift,
            context_tokens=n_prefix,
            key_scale=scale,
        )
        found.extend(run)
        first += n_tokens
        last = run[-1].key.identity.tokens
    if pads:
        stored = [token_ids[first]] * (block_size - 1)
        n_before = n_prefix + layout.document_tokens[-1]
        found.extend(
            _run(
                identity,
                stored,
                chunk_tokens,
                before=last,
                first=first,
                position=n_before + shift,
                context_tokens=n_before,
                key_scale=scale,
                take=pads,
            )
        )
    return found


def _run(
    identity: KVIdentity,
    tokens: Sequence[int],
    chunk_tokens: int,
    *,
    before: str,
    first: int,
    position: int,
    context_tokens: int = 0,
    key_scale: float = 1.0,
    take: int | None = None,
) -> list[PromptChunk]:
    """``tokens`` in chunks; of those behind the first ``take``, none is used."""
    keys = chunk_keys(identity, tokens, chunk_tokens=chunk_tokens, before=before)
    used = len(tokens) if take is None else take
    found = []
    for offset, key in zip(range(0, len(tokens), chunk_tokens), keys, strict=True):
        size = min(chunk_tokens, len(tokens) - offset)
        if offset >= used:
            break
        found.append(
            PromptChunk(
                key=key,
                n_tokens=size,
                take=min(size, used - offset),
                first=first + offset,
                position=position + offset,
                context_tokens=context_tokens + offset,
                key_scale=key_scale,
            )
        )
    return found


def _check(token_ids: Sequence[int], layout: ParallelLayout, block_size: int) -> None:
    n_context, pads = layout.context_tokens, layout.pad_tokens
    if layout.encode:
        if n_context != len(token_ids):
            raise ValueError(f"{n_context} tokens to encode in a prompt of {len(token_ids)}")
        if pads != block_size - 1:
            raise ValueError(
                f"{pads} tokens of padding; blocks of {block_size} need {block_size - 1}"
            )
    else:
        if n_context >= len(token_ids):
            raise ValueError(f"{n_context} tokens to load in a prompt of {len(token_ids)}")
        if n_context % block_size or pads >= block_size:
            raise ValueError(
                f"{n_context} tokens to load, {pads} of them padding, do not fit blocks of "
                f"{block_size}: was another block_size given to build_prompt?"
            )
    padding = token_ids[n_context - pads : n_context]
    if any(token != padding[0] for token in padding):
        raise ValueError("the padding is not one token repeated")
