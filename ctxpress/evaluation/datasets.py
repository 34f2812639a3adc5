"""Evaluation sets: JSON lines in, items out that can score what is left of them.

=========  ====================  ============================================================
set        file                  fields of a line
=========  ====================  ============================================================
`nq`       `nq_dev.jsonl`        `question`, `answers` (a list), `text` (the gold passage)
`gsm8k`    `gsm8k_dev.jsonl`     `question` (the word problem); others are not looked at
`meeting`  `meeting_dev.jsonl`   `question`, `turns` (a list), `relevant` (indices of turns)
=========  ====================  ============================================================
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ctxpress.document import Range
from ctxpress.errors import FormatError
from ctxpress.evaluation.metrics import (
    answer_survives,
    content_words,
    numbers_survive,
    share_kept,
)

__all__ = ["SETS", "AnswerItem", "DataError", "Item", "MeetingItem", "ProblemItem", "Score",
           "read_items", "read_rows", "string_of", "strings_of"]  # fmt: skip


class DataError(FormatError):
    """A data set is missing or malformed; the message names the file and the line."""


class Score(NamedTuple):
    """`value` in [0, 1], 1 is best; `contrast` is the same of what need not survive."""

    value: float
    contrast: float | None = None


class Item(Protocol):
    """One text of a set. `question` is what may be shown to the compressor, if there is one."""

    @property
    def text(self) -> str:
        """What is compressed."""

    @property
    def question(self) -> str | None:
        """What will be asked of the text."""

    def score(self, compressed: str, kept: Sequence[Range]) -> Score:
        """How much survived in `compressed`, made of the ranges `kept` of the text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerItem:
    """A question and a passage that holds an answer; scores 1 if an answer survives, else 0."""

    question: str
    answers: tuple[str, ...]
    text: str

    def score(self, compressed: str, kept: Sequence[Range]) -> Score:
        """See :func:`answer_survives`."""
        return Score(float(answer_survives(self.answers, compressed)))


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemItem:
    """A word problem; scores 1 if all of its numbers survive, else 0.

    Its question is a part of the text, so there is none to show.
    """

    text: str
    question: None = None

    def score(self, compressed: str, kept: Sequence[Range]) -> Score:
        """See :func:`numbers_survive`."""
        return Score(float(numbers_survive(self.text, compressed)))


@dataclass(frozen=True, slots=True, kw_only=True)
class MeetingItem:
    """A question about a transcript and the indices of the turns that it needs.

    Scores the share of the relevant turns' content words that is kept; the contrast is the same
    share of the other turns.
    """

    question: str
    turns: tuple[str, ...]
    relevant: frozenset[int]

    @property
    def text(self) -> str:
        """A line a turn."""
        return "\n".join(self.turns)

    def score(self, compressed: str, kept: Sequence[Range]) -> Score:
        """By ranges, since the same words occur in many turns.

        :raises DataError: `compressed` is not made of `kept`: a stage wrote text of its own.
        """
        text = self.text
        if "".join(text[start:end] for start, end in kept) != compressed:
            raise DataError("set meeting: only pipelines that do nothing but delete can be scored")
        relevant: list[Range] = []
        others: list[Range] = []
        start = 0
        for number, turn in enumerate(self.turns):
            words = [Range(start + a, start + b) for a, b in content_words(turn)]
            (relevant if number in self.relevant else others).extend(words)
            start += len(turn) + 1
        return Score(share_kept(relevant, kept), share_kept(others, kept))


def read_items(folder: Path, name: str, limit: int | None = None) -> list[Item]:
    """The first `limit` items (all without a limit) of the set `name` in `folder`.

    :raises DataError: no such set or file, or a malformed line.
    """
    if name not in SETS:
        raise DataError(f"no set is called {name!r}; there are {', '.join(SETS)}")
    rows = read_rows(folder / f"{name}_dev.jsonl", limit)
    return [SETS[name](row, place) for row, place in rows]


def read_rows(path: Path, limit: int | None = None) -> list[tuple[Mapping[str, Any], str]]:
    """The first `limit` objects of a file of JSON lines, each with its place (`file:line`).

    :raises DataError: no such file, nothing in it, or a malformed line.
    """
    rows: list[tuple[Mapping[str, Any], str]] = []
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if limit is not None and len(rows) >= limit:
                    break
                if line.strip():
                    place = f"{path}:{number}"
                    rows.append((_read_line(line, place), place))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; the set {_set_of(path)} is read from it") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text: {error.reason}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    if not rows:
        raise DataError(f"{path}: there are no items in it")
    return rows


def _set_of(path: Path) -> str:
    return path.name.removesuffix("_dev.jsonl")


def _read_line(line: str, place: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{place}: not JSON: {error}") from None
    if not isinstance(row, dict):
        raise DataError(f"{place}: an object is needed, not {type(row).__name__}")
    return row


def _answer_item(row: Mapping[str, Any], place: str) -> AnswerItem:
    answers = strings_of(row, "answers", place)
    return AnswerItem(
        question=string_of(row, "question", place),
        answers=answers,
        text=string_of(row, "text", place),
    )


def _problem_item(row: Mapping[str, Any], place: str) -> ProblemItem:
    return ProblemItem(text=string_of(row, "question", place))


def _meeting_item(row: Mapping[str, Any], place: str) -> MeetingItem:
    turns = strings_of(row, "turns", place)
    relevant = row.get("relevant")
    if not isinstance(relevant, list) or not relevant:
        raise DataError(f"{place}: relevant: a list of indices of turns is needed")
    for index in relevant:
        if type(index) is not int or not 0 <= index < len(turns):
            raise DataError(f"{place}: relevant: {index!r} is no index of {len(turns)} turns")
    question = string_of(row, "question", place)
    return MeetingItem(question=question, turns=turns, relevant=frozenset(relevant))


def string_of(row: Mapping[str, Any], field: str, place: str) -> str:
    """The field of a row that must be a string.

    :raises DataError: it is not, or blank.
    """
    value = row.get(field)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{place}: {field}: a string that is not blank is needed")
    return value


def strings_of(row: Mapping[str, Any], field: str, place: str) -> tuple[str, ...]:
    """The field of a row that must be a list of strings.

    :raises DataError: it is not, or empty.
    """
    values = row.get(field)
    if not isinstance(values, list) or not values or not all(isinstance(v, str) for v in values):
        raise DataError(f"{place}: {field}: a list of strings is needed, not empty")
    return tuple(values)


SETS: Mapping[str, Callable[[Mapping[str, Any], str], Item]] = {
    "nq": _answer_item,
    "gsm8k": _problem_item,
    "meeting": _meeting_item,
}
