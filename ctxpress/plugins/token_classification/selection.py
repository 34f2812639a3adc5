"""Choosing units for a budget: the best ones that fit, and no sentence left as a stray word."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ctxpress.plugins.token_classification.budget import choose_units
from ctxpress.plugins.token_classification.characters import BoolArray, FloatArray, IntArray
from ctxpress.plugins.token_classification.forcing import Forced, drop_consecutive
from ctxpress.plugins.token_classification.remaining import Remainder
from ctxpress.plugins.token_classification.sentences import stunted
from ctxpress.plugins.token_classification.units import Units

__all__ = ["Ranking", "Selection"]

_WASTE = 0.005
"""More than this part of the budget left unspent, and sentences that were left out are begun."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """What decides about units, all (n_units,).

    `priority`: the higher, the sooner kept; `sizes`: rough tokens; `sentence`: ascending numbers.
    """

    priority: FloatArray
    sizes: FloatArray
    sentence: IntArray


class Selection:
    """Chooses among the units of one text; `count` are the exact tokens of a string."""

    def __init__(
        self,
        units: Units,
        ranking: Ranking,
        forced: Forced,
        count: Callable[[str], int],
        *,
        min_sentence_words: int,
        repeats: bool,
    ) -> None:
        self._units = units
        self._ranking = ranking
        self._forced = forced
        self._count = count
        self._min_sentence_words = min_sentence_words
        self._repeats = repeats
        self._remainder = Remainder(units, forced.units)

    def choose(self, budget_tokens: int, minimum: int) -> BoolArray | None:
        """The characters to keep, (n,), of which free text counts `budget_tokens` at most.

        At least `minimum` units are kept, whatever they cost. None where everything fits.
        """
        units, ranking = self._units, self._ranking
        priority = ranking.priority + 2.0 * self._forced.units
        order = np.lexsort((units.satellite, -priority))
        order = order[units.choosable[order]]
        minimum = min(minimum, len(order))
        sizes = ranking.sizes
        chosen, spent = choose_units(order, budget_tokens, self._cost, sizes[order], minimum)
        if len(chosen) == len(order):
            return None
        if self._min_sentence_words > 1:
            sizes = sizes * (spent / max(1.0, float(sizes[chosen].sum())))
            chosen = self._without_stumps(order, chosen, budget_tokens, minimum, sizes)
        return self._characters(chosen)

    def _without_stumps(
        self,
        order: IntArray,
        chosen: IntArray,
        budget_tokens: int,
        minimum: int,
        sizes: FloatArray,
    ) -> IntArray:
        """Drop the sentences with too few words and spend what they cost on others.

        First on the sentences that stay anyway, which cannot make new stumps; if these are used up,
        on the best of the others, one sentence after another, so that one stump at most is left.
        """
        stumps, alive = self._stumps(chosen)
        if not stumps.any():
            return chosen
        sentence = self._ranking.sentence
        base = chosen[~stumps[sentence[chosen]]]
        rest = order[~self._mask(base)[order]]

        def extend(base: IntArray, more: IntArray) -> tuple[IntArray, int]:
            ranked = np.concatenate([base, more])
            return choose_units(ranked, budget_tokens, self._cost, sizes[ranked], minimum)

        staying = alive[sentence[rest]]
        found, spent = extend(base, rest[staying])
        if budget_tokens - spent > _WASTE * budget_tokens or not len(base):
            others = rest[~staying]
            best = np.zeros(len(alive))
            np.maximum.at(best, sentence[others], self._ranking.priority[others])
            others = others[np.lexsort((sentence[others], -best[sentence[others]]))]
            found, _ = extend(found, others)
        stumps, alive = self._stumps(found)
        clean = found[~stumps[sentence[found]]]
        return clean if len(clean) and (alive.any() or self._units.frozen.any()) else found

    def _stumps(self, chosen: IntArray) -> tuple[BoolArray, BoolArray]:
        """Which sentences are stumps, and which others have words, (n_sentences,) each."""
        units, sentence = self._units, self._ranking.sentence
        kept = self._kept(chosen)
        exempt = self._forced.units | units.frozen
        stumps = stunted(units, sentence, kept, exempt, self._min_sentence_words)
        words = kept & ~units.satellite & ~units.dependent
        alive = np.bincount(sentence, weights=words, minlength=len(stumps)) > 0
        return stumps, alive & ~stumps

    def _mask(self, chosen: IntArray) -> BoolArray:
        mask = np.zeros(len(self._units), bool)
        mask[chosen] = True
        return mask

    def _kept(self, chosen: IntArray) -> BoolArray:
        kept = self._remainder.kept(self._mask(chosen))
        return kept if self._repeats else drop_consecutive(kept, self._forced.tokens)

    def _characters(self, chosen: IntArray) -> BoolArray:
        return self._remainder.characters(self._kept(chosen)) | self._forced.characters

    def _cost(self, chosen: IntArray) -> int:
        return self._count(self._units.text_of(self._characters(chosen)))
