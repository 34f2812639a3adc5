"""Runs a compressor over a set: one row a compressor, ratio and view of the question."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ctxpress.evaluation.compressors import Compressor
from ctxpress.evaluation.datasets import Item
from ctxpress.evaluation.metrics import Interval, bootstrap_interval
from ctxpress.stage import TokenCounter

__all__ = ["QuestionView", "Row", "evaluate", "target_of", "views_of"]

QuestionView = Literal["hidden", "shown", "unread"]
"""`unread`: the compressor is a baseline, which never reads a question."""

TARGETS: dict[tuple[str, QuestionView, str], float] = {
    ("nq", "hidden", "0.50"): 0.88,
    ("nq", "hidden", "0.33"): 0.76,
    ("nq", "hidden", "0.20"): 0.60,
    ("nq", "shown", "0.33"): 0.94,
    ("nq", "shown", "0.20"): 0.87,
}
_PROBLEMS_TARGET = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One compressor at one ratio over all items of a set.

    `score` is the mean over `items` items, `low` and `high` the ends of its 95 % interval;
    `contrast` the mean of what need not survive, where the set has such a thing. Tokens are sums;
    `tokens_per_second` counts tokens before compression. `untouched` items were left whole.
    """

    set: str
    compressor: str
    question: QuestionView
    keep_ratio: float
    items: int
    score: float
    low: float
    high: float
    contrast: float | None
    target: float | None
    tokens_before: int
    tokens_after: int
    tokens_per_second: float
    untouched: int
    untouched_reason: str | None

    @property
    def achieved_ratio(self) -> float:
        """Tokens after over tokens before."""
        return self.tokens_after / max(1, self.tokens_before)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {**asdict(self), "achieved_ratio": self.achieved_ratio}


def target_of(name: str, view: QuestionView, keep_ratio: float) -> float | None:
    """What the pipeline must reach on a set; ratios are compared to two digits."""
    if name == "gsm8k":
        return None if view == "unread" else _PROBLEMS_TARGET
    return TARGETS.get((name, view, f"{int(keep_ratio * 100 + 1e-6) / 100:.2f}"))


def views_of(
    items: Sequence[Item], compressor: Compressor, wanted: Sequence[QuestionView]
) -> list[QuestionView]:
    """How a compressor is run over a set: once, unless there is a question that it may read."""
    if not compressor.reads_questions:
        return ["unread"]
    if all(item.question is None for item in items):
        return ["hidden"]
    return list(wanted)


async def evaluate(
    name: str,
    items: Sequence[Item],
    compressor: Compressor,
    counter: TokenCounter,
    *,
    view: QuestionView,
    keep_ratio: float,
    on_item: Callable[[], None] = lambda: None,
) -> Row:
    """Compress every item and score what is left; `on_item` is called after each.

    :raises CtxpressError: the compressor failed, or an item cannot score its output.
    """
    scores, contrasts, reasons = [], [], []
    before = after = 0
    seconds = 0.0
    for item in items:
        question = item.question if view == "shown" else None
        done = await compressor.compress(item.text, question, keep_ratio)
        score = item.score(done.text, done.kept)
        scores.append(score.value)
        if score.contrast is not None:
            contrasts.append(score.contrast)
        if done.untouched is not None:
            reasons.append(done.untouched)
        before += counter.count(item.text)
        after += counter.count(done.text)
        seconds += done.seconds
        on_item()
    interval: Interval = bootstrap_interval(scores)
    return Row(
        set=name,
        compressor=compressor.name,
        question=view,
        keep_ratio=keep_ratio,
        items=len(items),
        score=sum(scores) / len(scores),
        low=interval.low,
        high=interval.high,
        contrast=sum(contrasts) / len(contrasts) if contrasts else None,
        target=target_of(name, view, keep_ratio),
        tokens_before=before,
        tokens_after=after,
        tokens_per_second=before / max(seconds, 1e-9),
        untouched=len(reasons),
        untouched_reason=max(set(reasons), key=reasons.count) if reasons else None,
    )
