"""LLMLingua-2's token classification, done on the original string (mode `native`).

The paper (Pan et al. 2024, "LLMLingua-2: Data Distillation for Efficient and Faithful Task-Agnostic
Prompt Compression", section 4) scores every token with a small bidirectional encoder, averages the
scores of a word's tokens, and keeps the best words in their order. `native` does the same by
offsets: words are deleted from the text as it came, so all that is left is byte for byte the
original's; one ranking over the whole block instead of one a chunk; and a budget counted in the
target model's own tokenizer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ctxpress.document import Block, ContextDocument, Kind, Range, Span
from ctxpress.models import TokenScorer
from ctxpress.plugins.token_classification.budget import choose_units
from ctxpress.plugins.token_classification.config import TokenClassificationConfig
from ctxpress.plugins.token_classification.units import (
    BoolArray,
    FloatArray,
    IntArray,
    WordUnits,
    cut_units,
    kept_characters,
    matches,
    unit_scores,
    units_with_digits,
)
from ctxpress.stage import Skip, StageContext, StageSkip, StageTraits

__all__ = ["TokenClassificationStage"]

_ALGORITHM = "token_classification/native/1"
_KINDS = frozenset({Kind.PROSE, Kind.DOCUMENT, Kind.TOOL_RESULT, Kind.INSTRUCTION})
_CONTEXT_CHARACTERS = 400
"""A frozen stretch up to this long is read by the model as context of the words around it."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A block taken apart: its text, what of it may be worked on, and its units.

    `frozen_tokens` is what the whole text counts beyond `tokens`, the count of its free text.
    """

    block: Block
    text: str
    offsets: tuple[int, ...]
    free_spans: tuple[bool, ...]
    frozen: tuple[tuple[int, int], ...]
    units: WordUnits
    tokens: int
    frozen_tokens: int


class TokenClassificationStage:
    """Deletes the least important words of prose, tool results and documents.

    Code, JSON, questions and protected spans stay. Thread-safe: holds configuration and a scorer.
    """

    def __init__(self, config: TokenClassificationConfig, scorer: TokenScorer) -> None:
        self._config = config
        self._scorer = scorer
        self._traits = StageTraits(keep_ratio=config.keep_ratio, languages=scorer.languages)

    @property
    def traits(self) -> StageTraits:
        """Extractive, blind to the question, one block at a time, in measured languages only."""
        return self._traits

    @property
    def identity(self) -> str:
        """Version of the algorithm, and the model's name, version and hash."""
        return f"{_ALGORITHM}+{self._scorer.identity}"

    async def apply(self, document: ContextDocument, context: StageContext) -> ContextDocument:
        """Shorten the free spans of each block to the budget.

        :raises StageSkip: when no block has prose to work on.
        :raises DeadlineError: when the time budget ends first.
        """
        return await context.run(lambda: self._compress(document, context))

    def _compress(self, document: ContextDocument, context: StageContext) -> ContextDocument:
        parts = {
            index: part
            for index, block in enumerate(document.blocks)
            if (part := _take_apart(block, context)) is not None
        }
        if not parts:
            raise StageSkip(
                Skip.NOTHING_TO_COMPRESS,
                "there is no unprotected prose here; code, JSON, questions and protected text stay",
            )
        others = [block for index, block in enumerate(document.blocks) if index not in parts]
        budgets = self._budgets(list(parts.values()), others, context)
        blocks = list(document.blocks)
        for (index, part), budget in zip(parts.items(), budgets, strict=True):
            if budget < part.tokens:
                blocks[index] = self._shorten(part, budget, context)
        return document.with_blocks(tuple(blocks))

    def _budgets(self, parts: list[_Part], others: list[Block], context: StageContext) -> list[int]:
        """Free tokens to keep of each block; a request's wish goes before the configuration."""
        ratio, target = context.keep_ratio, context.target_tokens
        if ratio is None and target is None:
            if self._config.target_tokens is not None:
                return [max(0, self._config.target_tokens - part.frozen_tokens) for part in parts]
            ratio = self._config.keep_ratio
        ratio = 1.0 if ratio is None else ratio
        if target is not None:
            fixed = sum(context.counter.count(block.text) for block in others)
            fixed += sum(part.frozen_tokens for part in parts)
            free = sum(part.tokens for part in parts)
            ratio = min(ratio, max(0, target - fixed) / max(1, free))
        # The nudge undoes float error: 0.3 of 10 must be 3 tokens, and all must be all.
        return [int(ratio * part.tokens + 1e-6) for part in parts]

    def _shorten(self, part: _Part, budget: int, context: StageContext) -> Block:
        units = part.units
        scores, weights = self._score(part, context.checkpoint)
        forced, forced_characters, groups = self._forced(part)
        choosable = np.flatnonzero(~units.frozen & ~units.marker)
        priority = scores + 2.0 * forced
        order = choosable[np.argsort(-priority[choosable], kind="stable")]

        def characters(chosen: IntArray) -> BoolArray:
            kept = np.zeros(len(units), bool)
            kept[chosen] = True
            if self._config.drop_consecutive:
                kept = _drop_consecutive(kept | units.frozen, groups)
            return kept_characters(units, kept) | forced_characters

        def cost(chosen: IntArray) -> int:
            context.checkpoint()
            remaining = units.text_of(characters(chosen))
            return context.counter.count(remaining) - part.frozen_tokens

        estimates = weights[order] * (part.tokens / max(1.0, float(weights[order].sum())))
        minimum = max(int(forced[order].sum()), int(not part.frozen_tokens))
        chosen = choose_units(order, budget, cost, estimates, min(minimum, len(order)))
        if len(chosen) == len(order):
            return part.block
        shorter = _put_together(part, characters(chosen))
        grew = context.counter.count(shorter.text) >= part.tokens + part.frozen_tokens
        return part.block if grew else shorter

    def _score(self, part: _Part, checkpoint: Callable[[], None]) -> tuple[FloatArray, FloatArray]:
        """Score and rough token count of each unit; long frozen stretches are not read."""
        edges = [0]
        for start, end in part.frozen:
            if end - start > _CONTEXT_CHARACTERS:
                edges += [start, end]
        edges.append(len(part.text))
        stretches = list(zip(edges[::2], edges[1::2], strict=True))
        scored = self._scorer.score(
            [part.text[start:end] for start, end in stretches], checkpoint=checkpoint
        )
        starts = [item.starts + start for item, (start, _) in zip(scored, stretches, strict=True)]
        values = [item.keep_scores for item in scored]
        scores, sizes = unit_scores(part.units, np.concatenate(starts), np.concatenate(values))
        return scores, np.maximum(sizes, 1.0)

    def _forced(self, part: _Part) -> tuple[BoolArray, BoolArray, IntArray]:
        """Forced units, forced characters (line breaks), and each unit's force token or -1."""
        units = part.units
        forced = np.zeros(len(units), bool)
        characters = np.zeros(len(part.text), bool)
        groups = np.full(len(units), -1, np.int64)
        if self._config.force_reserve_digit:
            forced |= units_with_digits(units)
        if self._config.force_tokens:
            starts, ends, tokens = matches(part.text, self._config.force_tokens)
            first = np.searchsorted(units.ends, starts, side="right")
            last = np.searchsorted(units.starts, ends, side="left")
            change = np.zeros(len(units) + 1, np.int64)
            np.add.at(change, first, 1)
            np.add.at(change, np.maximum(last, first), -1)
            forced |= np.cumsum(change[:-1]) > 0
            whole = np.isin(starts, units.starts) & np.isin(ends, units.ends)
            groups[first[whole]] = tokens[whole]
            if not self._config.drop_consecutive:
                change = np.zeros(len(part.text) + 1, np.int64)
                np.add.at(change, starts[last <= first], 1)
                np.add.at(change, ends[last <= first], -1)
                characters = np.cumsum(change[:-1]) > 0
        return forced & ~units.frozen, characters, groups


def _take_apart(block: Block, context: StageContext) -> _Part | None:
    """Find what may be worked on; None where that is nothing but blanks."""
    offsets = np.cumsum([0, *(len(span.text) for span in block.spans)]).tolist()
    free_spans = tuple(_workable(span, block.original) for span in block.spans)
    frozen: list[tuple[int, int]] = []
    for free, start, end in zip(free_spans, offsets, offsets[1:], strict=False):
        if free or start == end:
            continue
        if frozen and frozen[-1][1] == start:
            frozen[-1] = (frozen[-1][0], end)
        else:
            frozen.append((start, end))
    text = block.text
    units = cut_units(text, offsets, frozen)
    if not (~units.frozen & ~units.marker).any():
        return None
    tokens = whole = context.counter.count(text)
    if frozen:
        tokens = context.counter.count(units.text_of(units.free))
    return _Part(
        block, text, tuple(offsets), free_spans, tuple(frozen), units, tokens, whole - tokens
    )


def _workable(span: Span, original: str) -> bool:
    if span.protected or span.kind not in _KINDS:
        return False
    return span.text == "".join(original[start:end] for start, end in span.kept)


def _put_together(part: _Part, characters: BoolArray) -> Block:
    """The block with only the selected characters in its free spans."""
    spans = list(part.block.spans)
    for index, span in enumerate(spans):
        selected = characters[part.offsets[index] : part.offsets[index + 1]]
        if not part.free_spans[index] or selected.all():
            continue
        origin = np.concatenate([np.arange(start, end) for start, end in span.kept])[selected]
        breaks = np.flatnonzero(np.diff(origin) != 1)
        starts = origin[np.append(0, breaks + 1)] if len(origin) else origin
        ends = origin[np.append(breaks, -1)] + 1 if len(origin) else origin
        kept = tuple(map(Range, starts.tolist(), ends.tolist()))
        spans[index] = span.keep(part.block.original, kept)
    return part.block.with_spans(tuple(spans))


def _drop_consecutive(kept: BoolArray, groups: IntArray) -> BoolArray:
    index = np.flatnonzero(kept)
    group = groups[index]
    repeated = np.zeros(len(index), bool)
    repeated[1:] = (group[1:] >= 0) & (group[1:] == group[:-1])
    result = kept.copy()
    result[index[repeated]] = False
    return result
