"""Agreement with the teacher: F1 at several keep ratios, AUC, per domain, and three baselines."""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.data import Passage

Scores = npt.NDArray[np.float64]
KEEP_RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
LEVELS = {"half": 1, "core": 2}

_STOP_WORDS = frozenset(
    """a about after all also am an and any are as at be because been before being but by can could
    did do does doing for from had has have having he her here him his how i if in into is it its
    just me more most my no not now of on only or other our out over own she should so some such
    than that the their them then there these they this those through to too um uh up very was we
    were what when where which while who why will with would yeah you your okay""".split()
)


@dataclass(frozen=True, slots=True)
class Quality:
    """One scorer over one set of passages; `f1[level][i]` belongs to `KEEP_RATIOS[i]`."""

    f1: Mapping[str, tuple[float, ...]]
    auc: Mapping[str, float]
    teacher_rate: Mapping[str, float]
    f1_at_teacher_rate: Mapping[str, float]


def word_scores(
    words: Sequence[str], starts: npt.NDArray[np.int32], token_scores: npt.NDArray[np.float32]
) -> Scores:
    """Mean score of the sub-tokens of each word of `" ".join(words)`; 0 for a word without any."""
    ends = np.cumsum([len(word) + 1 for word in words])
    owner = np.searchsorted(ends, starts, side="right")
    sums = np.bincount(owner, weights=token_scores, minlength=len(words))
    counts = np.bincount(owner, minlength=len(words))
    return np.asarray(sums / np.maximum(counts, 1))


def measure(passages: Sequence[Passage], scores: Sequence[Scores]) -> Quality:
    """Each passage is cut by its own ranking; counts are pooled over passages (micro average)."""
    labels = [np.array(passage.labels) for passage in passages]
    f1, auc, rates, at_rate = {}, {}, {}, {}
    for level, threshold in LEVELS.items():
        truth = [array >= threshold for array in labels]
        f1[level] = tuple(
            _f1(truth, [_top(s, round(ratio * len(s))) for s in scores]) for ratio in KEEP_RATIOS
        )
        at_rate[level] = _f1(
            truth, [_top(s, int(t.sum())) for s, t in zip(scores, truth, strict=True)]
        )
        auc[level] = area_under_curve(np.concatenate(truth), np.concatenate(scores))
        rates[level] = float(np.concatenate(truth).mean())
    return Quality(f1, auc, rates, at_rate)


def _top(scores: Scores, count: int) -> npt.NDArray[np.bool_]:
    kept = np.zeros(len(scores), bool)
    kept[np.argsort(-scores, kind="stable")[:count]] = True
    return kept


def _f1(truth: Sequence[npt.NDArray[np.bool_]], kept: Sequence[npt.NDArray[np.bool_]]) -> float:
    all_truth, all_kept = np.concatenate(truth), np.concatenate(kept)
    return float(2 * (all_truth & all_kept).sum() / max(1, all_truth.sum() + all_kept.sum()))


def area_under_curve(truth: npt.NDArray[np.bool_], scores: Scores) -> float:
    """Mann-Whitney statistic with mid-ranks for ties."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    mid_ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positives = int(truth.sum())
    negatives = len(truth) - positives
    total = float(mid_ranks[truth].sum()) - positives * (positives + 1) / 2
    return total / max(1, positives * negatives)


def baselines(train: Sequence[Passage]) -> dict[str, Callable[[Passage], Scores]]:
    """Random order; stop words last; rarest words first (document frequencies of `train`)."""
    frequency: Counter[str] = Counter()
    for passage in train:
        frequency.update({_bare(word) for word in passage.words})

    def by_chance(passage: Passage) -> Scores:
        rng = random.Random(passage.id)
        return np.array([rng.random() for _ in passage.words])

    def stop_words(passage: Passage) -> Scores:
        kept = [bool(_bare(word)) and _bare(word) not in _STOP_WORDS for word in passage.words]
        return np.array(kept) + by_chance(passage) * 1e-3

    def rarity(passage: Passage) -> Scores:
        return np.array(
            [
                math.log((1 + len(train)) / (1 + frequency[_bare(word)])) * bool(_bare(word))
                for word in passage.words
            ]
        )

    return {"random": by_chance, "stop words": stop_words, "IDF": rarity}


def _bare(word: str) -> str:
    return re.sub(r"^\W+|\W+$", "", word).lower()


def table(rows: Mapping[str, Quality]) -> str:
    """Markdown: one row a scorer, AUC and F1 at the teacher's own rate and at each keep ratio."""
    ratios = " | ".join(f"{ratio:.0%}" for ratio in KEEP_RATIOS)
    lines = [
        f"| scorer | level | AUC | F1 at teacher's rate | {ratios} |",
        "|---|---|---|---|" + "---|" * len(KEEP_RATIOS),
    ]
    for name, quality in rows.items():
        for level in LEVELS:
            cells = " | ".join(f"{value:.3f}" for value in quality.f1[level])
            lines.append(
                f"| {name} | {level} | {quality.auc[level]:.4f} | "
                f"{quality.f1_at_teacher_rate[level]:.4f} | {cells} |"
            )
    return "\n".join(lines)
