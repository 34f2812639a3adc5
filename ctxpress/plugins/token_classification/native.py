"""LLMLingua-2's token classification, done on the original string (mode `native`).

The paper (Pan et al. 2024, "LLMLingua-2: Data Distillation for Efficient and Faithful Task-Agnostic
Prompt Compression", section 4) scores every token with a small bidirectional encoder, averages the
scores of a word's tokens, and keeps the best words in their order. `native` does the same by
offsets: words are deleted from the text as it came, so all that is left is byte for byte the
original's; one ranking over the whole block instead of one a chunk; and a budget counted in the
target model's own tokenizer. Where the model reads questions, the turn's question moves the
ranking.
"""

from __future__ import annotations

import numpy as np

from ctxpress.document import Block, ContextDocument
from ctxpress.errors import ConfigError
from ctxpress.models import TokenScorer
from ctxpress.plugins.token_classification.config import TokenClassificationConfig
from ctxpress.plugins.token_classification.forcing import find_forced
from ctxpress.plugins.token_classification.parts import Part, put_together, take_apart
from ctxpress.plugins.token_classification.priorities import (
    unit_scores,
    unit_sizes,
    with_names,
    with_satellites,
)
from ctxpress.plugins.token_classification.question import question_priority
from ctxpress.plugins.token_classification.selection import Ranking, Selection
from ctxpress.plugins.token_classification.sentences import number_sentences
from ctxpress.plugins.token_classification.sharing import share_budgets
from ctxpress.stage import Skip, StageContext, StageSkip, StageTraits

__all__ = ["TokenClassificationStage"]

_ALGORITHM = "token_classification/native/2"
_CONTEXT_CHARACTERS = 400
"""A frozen stretch up to this long is read by the model as context of the words around it."""


class TokenClassificationStage:
    """Deletes the least important words of prose, tool results and documents.

    Code, JSON, questions and protected spans stay. Thread-safe: holds configuration and a scorer.
    """

    def __init__(self, config: TokenClassificationConfig, scorer: TokenScorer) -> None:
        """
        :raises ConfigError: the configuration gives the question a weight, and the scorer cannot
            read one.
        """
        self._config = config
        self._scorer = scorer
        self._question_weight = _question_weight(config, scorer)
        self._traits = StageTraits(
            query_aware=self._question_weight > 0,
            query_optional=True,
            scope="turn" if config.dynamic_ratio > 0 else "block",
            keep_ratio=config.keep_ratio,
            target_tokens=config.target_tokens,
            languages=scorer.languages,
        )

    @property
    def traits(self) -> StageTraits:
        """Extractive, in measured languages only; what else holds depends on the options."""
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
            if (part := take_apart(block, context.counter)) is not None
        }
        if not parts:
            raise StageSkip(
                Skip.NOTHING_TO_COMPRESS,
                "there is no unprotected prose here; code, JSON, questions and protected text stay",
            )
        others = [block for index, block in enumerate(document.blocks) if index not in parts]
        budgets = self._budgets(list(parts.values()), others, context)
        question = document.question if self._question_weight > 0 else None
        shared = self._config.dynamic_ratio > 0 and len(parts) > 1
        rankings: dict[int, Ranking] = {}
        for (index, part), budget in zip(parts.items(), budgets, strict=True):
            if budget < part.tokens or shared:
                rankings[index] = self._rank(part, question, context)
        if shared:
            budgets = self._share(list(parts.values()), list(rankings.values()), budgets)
        blocks = list(document.blocks)
        for (index, part), budget in zip(parts.items(), budgets, strict=True):
            if budget < part.tokens:
                blocks[index] = self._shorten(part, rankings[index], budget, context)
        return document.with_blocks(tuple(blocks))

    def _budgets(self, parts: list[Part], others: list[Block], context: StageContext) -> list[int]:
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

    def _share(self, parts: list[Part], rankings: list[Ranking], budgets: list[int]) -> list[int]:
        limits = np.array([part.tokens for part in parts])
        shares = share_budgets(
            np.minimum(budgets, limits),
            limits,
            np.repeat(np.arange(len(parts)), [len(part.units) for part in parts]),
            np.concatenate([ranking.priority for ranking in rankings]),
            np.concatenate([ranking.sizes for ranking in rankings]),
            self._config.dynamic_ratio,
        )
        return [int(share) for share in shares]

    def _rank(self, part: Part, question: str | None, context: StageContext) -> Ranking:
        """Priorities and rough token counts of the units; long frozen stretches are not read."""
        edges = [0]
        for start, end in part.frozen:
            if end - start > _CONTEXT_CHARACTERS:
                edges += [start, end]
        edges.append(len(part.text))
        stretches = list(zip(edges[::2], edges[1::2], strict=True))
        scored = self._scorer.score(
            [part.text[start:end] for start, end in stretches],
            question=question,
            checkpoint=context.checkpoint,
        )
        units = part.units
        starts = np.concatenate(
            [
                item.starts.astype(np.int64) + start
                for item, (start, _) in zip(scored, stretches, strict=True)
            ]
        )
        sentence = number_sentences(units)
        priority = unit_scores(units, starts, np.concatenate([item.keep_scores for item in scored]))
        use = [item.use_scores for item in scored if item.use_scores is not None]
        if question is not None and len(use) == len(scored):
            useful = unit_scores(units, starts, np.concatenate(use))
            priority = question_priority(priority, useful, sentence, self._question_weight)
        sizes = unit_sizes(units, starts) * units.choosable
        sizes *= part.tokens / max(1.0, float(sizes.sum()))
        priority = with_satellites(units, with_names(units, priority, sentence))
        return Ranking(priority, sizes, sentence)

    def _shorten(self, part: Part, ranking: Ranking, budget: int, context: StageContext) -> Block:
        config = self._config

        def count(text: str) -> int:
            context.checkpoint()
            return context.counter.count(text) - part.frozen_tokens

        forced = find_forced(
            part.text,
            part.units,
            config.force_tokens,
            digits=config.force_reserve_digit,
            characters=not config.drop_consecutive,
        )
        selection = Selection(
            part.units,
            ranking,
            forced,
            count,
            min_sentence_words=config.min_sentence_words,
            repeats=not config.drop_consecutive,
        )
        minimum = max(int(forced.units[part.units.choosable].sum()), int(not part.frozen_tokens))
        characters = selection.choose(budget, minimum)
        if characters is None:
            return part.block
        shorter = put_together(part, characters)
        grew = context.counter.count(shorter.text) >= part.tokens + part.frozen_tokens
        return part.block if grew else shorter


def _question_weight(config: TokenClassificationConfig, scorer: TokenScorer) -> float:
    if scorer.reads_questions:
        return config.question_weight
    if config.question_weight > 0 and "question_weight" in config.model_fields_set:
        raise ConfigError(
            "question_weight: the model of this stage cannot read questions; leave the option out"
        )
    return 0.0
