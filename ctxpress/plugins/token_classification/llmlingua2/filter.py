"""Which contexts and which words remain: percentiles of probabilities, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ctxpress.errors import ParityError
from ctxpress.plugins.token_classification.llmlingua2.options import LLMLingua2Options
from ctxpress.plugins.token_classification.llmlingua2.words import ChunkWords

__all__ = ["choose_contexts", "choose_words", "context_score", "fraction"]


def fraction(wanted: float, available: int, argument: str) -> float:
    """`wanted` of `available` as a rate of at most 1.

    :raises ParityError: nothing is available (a `ZeroDivisionError`).
    """
    if available == 0:
        raise ParityError(
            f"{argument} cannot be turned into a rate: the context is empty",
            mirrors=ZeroDivisionError,
            argument=argument,
        )
    return min(wanted / available, 1.0)


def context_score(chunks: Sequence[ChunkWords]) -> float:
    """The mean probability of all words of a context, nothing forced.

    :raises ParityError: it has no words (a `ZeroDivisionError`).
    """
    probabilities = [value for chunk in chunks for value in chunk.free_probabilities]
    if not probabilities:
        raise ParityError(
            "a context without words cannot be ranked", mirrors=ZeroDivisionError,
            argument="context",
        )  # fmt: skip
    return sum(probabilities) / len(probabilities)


def context_rate(options: LLMLingua2Options, n_contexts: int, n_tokens: int) -> float:
    """The fraction of contexts to keep.

    Where nothing was said about contexts it is half way between the rate and 1, or room for twice
    the tokens asked for: the words are filtered afterwards.

    :raises ParityError: the contexts are empty and a number of tokens was asked for.
    """
    rate = options.context_level_rate
    target = options.context_level_target_token
    by_words = options.use_token_level_filter
    if options.target_context <= 0 and rate >= 1.0 and target <= 0:
        if options.target_token < 0 and options.rate < 1.0:
            rate = (options.rate + 1.0) / 2 if by_words else options.rate
        if options.target_token >= 0:
            target = options.target_token * 2 if by_words else options.target_token
    if options.target_context >= 0:
        rate = fraction(options.target_context, n_contexts, "target_context")
    if target >= 0:
        rate = fraction(target, n_tokens, "context_level_target_token")
    return rate


def choose_contexts(scores: Sequence[float], rate: float, forced: Sequence[int]) -> list[int]:
    """Numbers of the contexts to keep, in order; forced ones come on top of the rate.

    :raises ParityError: there is no context, or the rate is not in [0, 1].
    """
    threshold = _percentile(scores, 100 * (1 - rate), "context_level_rate")
    return [index for index, score in enumerate(scores) if score >= threshold or index in forced]


def choose_words(
    chunk: ChunkWords,
    reduce: float,
    options: LLMLingua2Options,
    count: Callable[[str], int],
) -> list[str]:
    """Words of a chunk that remain when the fraction `reduce` of its tokens is deleted.

    Words weigh as many tokens as `count` says, XLM-R's `▁` included. Words at the threshold go, so
    where all have one probability none remains.

    :raises ParityError: the chunk has no words (an `IndexError`), or the rate is not positive (a
        `ValueError`).
    """
    forced = frozenset(options.force_tokens)
    probabilities = chunk.probabilities
    if options.drop_consecutive:
        probabilities = _without_repeats(chunk, reduce, forced)
    expanded: list[float] = []
    for word, probability in zip(chunk.words, probabilities, strict=True):
        expanded += [probability] * count(word)
    threshold = _percentile(expanded, 100 * reduce + 1, "rate")
    kept: list[str] = []
    for word, probability in zip(chunk.words, probabilities, strict=True):
        if not (probability > threshold or (threshold == 1.0 and probability == 1.0)):
            continue
        if options.drop_consecutive and word in forced and kept and kept[-1] == word:
            continue
        kept.append(word)
    return kept


def _without_repeats(chunk: ChunkWords, reduce: float, forced: frozenset[str]) -> list[float]:
    """Probabilities with 0 for a force token that repeats the last and nothing kept between."""
    threshold = _percentile(chunk.probabilities, 100 * reduce, "rate")
    result: list[float] = []
    previous: str | None = None
    kept_between = False
    for word, probability in zip(chunk.words, chunk.probabilities, strict=True):
        value = probability
        if word in forced:
            if kept_between:
                kept_between = False
            elif word == previous:
                value = 0.0
            previous = word
        else:
            kept_between |= bool(probability > threshold)
        result.append(value)
    return result


def _percentile(values: Sequence[float], percent: float, argument: str) -> Any:
    """numpy's percentile at `percent` cut to an integer, in the precision of `values`."""
    try:
        return np.percentile(values, int(percent))
    except IndexError as error:
        raise ParityError(
            "there is nothing to rank: no context, or no word that the model knows",
            mirrors=IndexError,
            argument="context",
        ) from error
    except (ValueError, OverflowError) as error:
        raise ParityError(f"{argument}: {error}", mirrors=type(error), argument=argument) from error
