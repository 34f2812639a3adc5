"""A document that changed: unchanged tokens keep their KV at new positions, changed ones are run.

"Positional Integrity Encoding" (PIE; "Let the Code LLM Edit Itself When You Edit the Code",
arXiv 2407.03157): after an edit the keys behind it are only at wrong positions, so they are
rotated to the right ones and kept. What those tokens would have made of the changed text is not
computed again; that is the method's error, and ``ctxpress eval edits`` measures it. Keys are kept
un-rotated here, so moving them is nothing but placing them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher

import torch

from ctxpress.cache.kv import KVBlock
from ctxpress.engine.arriving import ArrivingKV
from ctxpress.engine.forward import run_rows
from ctxpress.engine.generation import Work
from ctxpress.engine.loading import RotaryModel
from ctxpress.engine.parallel import sequential_row
from ctxpress.errors import CodecError

__all__ = ["EditPlan", "plan_edit", "reencode"]

_LEAST_RUN_TOKENS = 8  # shorter runs that happen to be equal say little, and passes cost time
_MOST_COMPARED_TOKENS = 4096  # of a changed middle, old and new: comparing takes up to its square


@dataclass(frozen=True, slots=True)
class EditPlan:
    """The new text as runs: ``(start, stop, old_start)``; ``old_start`` is None for what is new.

    Runs are ranges of the new tokens, in order, and cover all of them.
    """

    runs: tuple[tuple[int, int, int | None], ...]

    @property
    def reused_tokens(self) -> int:
        return sum(stop - start for start, stop, old in self.runs if old is not None)

    @property
    def computed_tokens(self) -> int:
        return sum(stop - start for start, stop, old in self.runs if old is None)


def plan_edit(old: Sequence[int], new: Sequence[int]) -> EditPlan:
    """Which tokens of ``new`` stand in ``old``, in the same order.

    Where a very long stretch differs, only what is equal before and behind it is found.
    """
    n_same = _common_start(old, new)
    n_tail = _common_start(old[n_same:][::-1], new[n_same:][::-1])
    old_middle, new_middle = old[n_same : len(old) - n_tail], new[n_same : len(new) - n_tail]
    found = [(0, n_same, 0)] if n_same else []
    if len(old_middle) + len(new_middle) <= _MOST_COMPARED_TOKENS:
        matcher = SequenceMatcher(None, old_middle, new_middle, autojunk=False)
        found += [
            (n_same + block.b, n_same + block.b + block.size, n_same + block.a)
            for block in matcher.get_matching_blocks()
            if block.size >= _LEAST_RUN_TOKENS
        ]
    if n_tail:
        found.append((len(new) - n_tail, len(new), len(old) - n_tail))
    runs: list[tuple[int, int, int | None]] = []
    place = 0
    for start, stop, old_start in found:
        if start > place:
            runs.append((place, start, None))
        runs.append((start, stop, old_start))
        place = stop
    if place < len(new):
        runs.append((place, len(new), None))
    return EditPlan(tuple(runs))


def reencode(
    model: RotaryModel,
    prefix: KVBlock | ArrivingKV | None,
    old: KVBlock,
    new_tokens: Sequence[int],
    plan: EditPlan,
    *,
    piece_tokens: int = 512,
) -> Work[KVBlock]:
    """The KV of the changed document; a bounded piece of work between two yields.

    ``old``: the un-rotated KV of the document as it was, behind the same prefix. The result's
    identity is left empty: it is not what computing the new text would give.

    :raises CodecError: ``old`` is rotated or shorter than the plan says.
    """
    if old.keys_rotated:
        raise CodecError("keys must be un-rotated to be moved")
    if any(at is not None and at + stop - start > old.n_tokens for start, stop, at in plan.runs):
        raise CodecError(f"the plan speaks of more tokens than the {old.n_tokens} of the old text")
    placed = sequential_row(model, [] if prefix is None else [prefix])
    sequence, first = placed.row.sequence, placed.next_position
    for start, stop, at in plan.runs:
        if at is not None:
            places = torch.arange(first + start, first + stop, device=model.device)
            kept = old.keys[:, :, at : at + stop - start].to(model.device)
            values = old.values[:, :, at : at + stop - start].to(model.device, model.dtype)
            sequence.append(model.rope.rotate(kept, places).to(model.dtype), values)
            continue
        for begin in range(start, stop, piece_tokens):
            piece = list(new_tokens[begin : min(begin + piece_tokens, stop)])
            places = torch.arange(first + begin, first + begin + len(piece), device=model.device)
            ids = torch.tensor([piece], device=model.device)
            run_rows(model.model, [placed.row], ids, places[None])
            yield None
    keys, values = sequence.slice(first, first + len(new_tokens))
    places = torch.arange(first, first + len(new_tokens), device=keys.device)
    return replace(
        KVBlock(keys=model.rope.unrotate(keys, places).to(keys.dtype), values=values),
        position_start=first,
    )


def _common_start(one: Sequence[int], other: Sequence[int]) -> int:
    n = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            return n
        n += 1
    return n
