"""Questions that a large language model wrote for passages of the training data.

`written_questions.tsv` has three columns: the first ten hexadecimal digits of the SHA-256 of the
passage, the question, and its answer, which stands in the passage as it is. The passages themselves
come from the data; a question whose passage is not there, or must not be seen, is left out.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from training.questions import Example, Item, Range, sentences_of, titled, with_question

QUESTIONS = Path(__file__).with_name("written_questions.tsv")
_ALONE_CHANCE = 0.5
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Written:
    """A passage with what was asked about it; `items` have it as their only passage."""

    text: str
    title: str
    items: tuple[Item, ...]

    @property
    def answers(self) -> tuple[Range, ...]:
        """Where the answers to all of the questions stand."""
        spans = {span for item in self.items for span in _occurrences(self.text, item.answers[0])}
        return tuple(sorted(spans))


def load_written(
    titles: Mapping[str, str], hidden: Collection[str], path: Path = QUESTIONS
) -> list[Written]:
    """Questions about the texts that are the keys of `titles`, except those in `hidden`.

    :raises ValueError: a line has not three columns, or its answer is not in its passage.
    """
    by_key = {key_of(text): text for text in titles if text not in hidden}
    found: dict[str, list[Item]] = {}
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        key, question, answer = _columns(line, number)
        if key not in by_key:
            continue
        text = by_key[key]
        quote = _sentence_with(text, answer, question)
        if quote is None:
            raise ValueError(f"{path.name}:{number}: the answer is not in the passage")
        asked = found.setdefault(text, [])
        item = Item(
            id=f"W{key}-{len(asked)}",
            question=question,
            answers=(answer,),
            titles=(titles[text],),
            passages=(text,),
            quoted=((quote,),),
            gold=0,
        )
        asked.append(item)
    return [Written(text, titles[text], tuple(items)) for text, items in found.items()]


def key_of(text: str) -> str:
    """What a passage is called in the file."""
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def written_examples(written: Sequence[Written], rng: random.Random) -> Iterator[Example]:
    """One epoch: every question, and half of the passages by themselves with all answers."""
    for passage in written:
        for item in passage.items:
            yield with_question(item, 0, rng)
        if rng.random() < _ALONE_CHANCE:
            alone = Example(passage.text, None, answers=passage.answers, has_quotes=False)
            yield titled(alone, passage.title, rng)


def _columns(line: str, number: int) -> tuple[str, str, str]:
    columns = line.split("\t")
    if len(columns) != 3:
        raise ValueError(f"{QUESTIONS.name}:{number}: has {len(columns)} columns, not 3")
    return columns[0], columns[1], columns[2]


def _occurrences(text: str, answer: str) -> list[Range]:
    return [match.span() for match in re.finditer(re.escape(answer), text)]


def _sentence_with(text: str, answer: str, question: str) -> Range | None:
    """The sentence that holds the answer; of several, the one most like the question."""
    asked = set(_WORD.findall(question.lower()))
    best: tuple[int, Range] | None = None
    for start, end in _occurrences(text, answer):
        inside = [s for s in sentences_of(text) if s[0] < end and start < s[1]]
        if not inside:
            continue
        span = (inside[0][0], inside[-1][1])
        shared = len(asked & set(_WORD.findall(text[slice(*span)].lower())))
        if best is None or shared > best[0]:
            best = (shared, span)
    return best[1] if best is not None else None
