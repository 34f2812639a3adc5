"""Questions with passages: reading, splitting, and one labelled example a (question, passage).

A *quote* is a stretch that a teacher copied out because it helps with the question; an *answer* is
an occurrence of one of the annotated answers inside a quote.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Range = tuple[int, int]
_WORD = re.compile(r"\w+")
_ARTICLES = frozenset({"a", "an", "the"})
_SENTENCE = re.compile(r"[^.!?\n]+(?:[.!?](?=\S)[^.!?\n]*)*[.!?]?")
_NAME_OR_NUMBER = re.compile(
    r"\d[\d,.]*\d|\d|[A-Z][\w'’-]+(?: (?:of|the|de|and|van|von)(?= [A-Z])| [A-Z][\w'’.-]*\w)*"
)


@dataclass(frozen=True, slots=True)
class Example:
    """A text, perhaps a question, and what is known about the text's characters.

    The passage is `text[passage_start:]`; a title may stand before it. `quoted`, `answers`: ranges
    of characters with the label 1. `unsure`: ranges that the loss of the answers leaves out.
    `has_quotes`, `has_answers`: whether the two labels are known at all; `has_levels`: whether a
    teacher is to label the text's `half` and `core`.
    """

    text: str
    question: str | None
    quoted: tuple[Range, ...] = ()
    answers: tuple[Range, ...] = ()
    unsure: tuple[Range, ...] = ()
    has_quotes: bool = True
    has_answers: bool = True
    has_levels: bool = True
    passage_start: int = 0


@dataclass(frozen=True, slots=True)
class Item:
    """A question with its passages; `quoted[i]` are the quoted ranges of `passages[i]`.

    `answers` are empty where nobody annotated them. `titles[i]` belongs to `passages[i]`.
    """

    id: str
    question: str
    answers: tuple[str, ...]
    titles: tuple[str, ...]
    passages: tuple[str, ...]
    quoted: tuple[tuple[Range, ...], ...]
    gold: int | None

    @property
    def useful(self) -> tuple[int, ...]:
        """Numbers of the passages that are quoted or were annotated as holding the answer."""
        numbers = {index for index, ranges in enumerate(self.quoted) if ranges}
        return tuple(sorted(numbers | ({self.gold} if self.gold is not None else set())))


def load_items(path: Path) -> list[Item]:
    """Read `items.jsonl`; raises ValueError where a quote does not lie in its passage."""
    items = []
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            texts = tuple(passage["text"] for passage in row["passages"])
            quoted: list[list[Range]] = [[] for _ in texts]
            for quote in row["quotes"]:
                start, end = quote["start"], quote["end"]
                if not 0 <= start < end <= len(texts[quote["passage"]]):
                    raise ValueError(f"item {row['id']}: a quote lies outside its passage")
                quoted[quote["passage"]].append((start, end))
            items.append(
                Item(
                    id=row["id"],
                    question=row["question"],
                    answers=tuple(row["answers"]),
                    titles=tuple(passage["title"] for passage in row["passages"]),
                    passages=texts,
                    quoted=tuple(tuple(sorted(ranges)) for ranges in quoted),
                    gold=row["gold"],
                )
            )
    return items


def split_items(items: Sequence[Item], held_out: float) -> tuple[list[Item], list[Item]]:
    """(train, held-out) by a hash of the id.

    A training item loses every passage that is useful to a held-out question.
    """
    held = [item for item in items if _fraction(item.id) < held_out]
    hidden = {item.passages[index] for item in held for index in item.useful}
    train = [_without(item, hidden) for item in items if _fraction(item.id) >= held_out]
    return [item for item in train if item.passages], held


def _fraction(key: str) -> float:
    return int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) / 2**32


def _without(item: Item, hidden: set[str]) -> Item:
    kept = [index for index, text in enumerate(item.passages) if text not in hidden]
    gold = kept.index(item.gold) if item.gold in kept else None
    return Item(
        item.id,
        item.question,
        item.answers,
        tuple(item.titles[i] for i in kept),
        tuple(item.passages[i] for i in kept),
        tuple(item.quoted[i] for i in kept),
        gold,
    )


def with_question(item: Item, index: int, rng: random.Random) -> Example:
    """Passage `index` behind its question, with or without its title."""
    quoted = item.quoted[index]
    found = find_answers(item.passages[index], item.answers)
    inside = tuple(f for f in found if any(a < f[1] and f[0] < b for a, b in quoted))
    example = Example(
        text=item.passages[index],
        question=_as_asked(item.question, rng),
        quoted=quoted,
        answers=inside,
        unsure=tuple(f for f in found if f not in inside) if item.answers else quoted,
    )
    return titled(example, item.titles[index], rng)


def alone(item: Item, index: int, rng: random.Random) -> Example:
    """Passage `index` without the question; answers are known where they were annotated."""
    found = find_answers(item.passages[index], item.answers) if item.quoted[index] else ()
    example = Example(
        text=item.passages[index],
        question=None,
        answers=found,
        has_quotes=False,
        has_answers=bool(found),
    )
    return titled(example, item.titles[index], rng)


def titled(example: Example, title: str, rng: random.Random) -> Example:
    """The text behind its title, as retrieval prints it, or by itself."""
    before = rng.choice([f"{title}. ", f"{title}. ", f"{title}\n", f"Title: {title}\n", "", ""])
    shift = len(before)

    def moved(ranges: Iterable[Range]) -> tuple[Range, ...]:
        return tuple((start + shift, end + shift) for start, end in ranges)

    return dataclasses.replace(
        example,
        text=before + example.text,
        quoted=moved(example.quoted),
        answers=moved(example.answers),
        unsure=moved(example.unsure),
        passage_start=shift,
    )


def _as_asked(question: str, rng: random.Random) -> str:
    choice = rng.random()
    if choice < 0.3:
        question = question[:1].upper() + question[1:]
    return question if choice > 0.5 or question.endswith("?") else question + "?"


def find_answers(text: str, answers: Sequence[str]) -> tuple[Range, ...]:
    """Where one of the answers stands, whatever its case, punctuation and articles."""
    words = [(m.group().lower(), m.start(), m.end()) for m in _WORD.finditer(text)]
    words = [word for word in words if word[0] not in _ARTICLES]
    found: set[Range] = set()
    for answer in answers:
        wanted = [w for w in _WORD.findall(answer.lower()) if w not in _ARTICLES]
        for start in range(len(words) - len(wanted) + 1) if wanted else ():
            if all(words[start + i][0] == w for i, w in enumerate(wanted)):
                found.add((words[start][1], words[start + len(wanted) - 1][2]))
    return tuple(sorted(found))


def sentences_of(text: str) -> list[Range]:
    """Ranges of characters of the sentences, roughly."""
    return [match.span() for match in _SENTENCE.finditer(text)]


def cloze(text: str, rng: random.Random) -> Example | None:
    """A question made of a sentence of the text: a name or number is asked for.

    Half of the sentence's other words are left out, so that matching words is not enough (after
    Lewis, Denoyer and Riedel 2019, "Unsupervised Question Answering by Cloze Translation").
    """
    sentences = [span for span in sentences_of(text) if len(text[slice(*span)].split()) >= 8]
    if not sentences:
        return None
    start, end = rng.choice(sentences)
    spans = [m.span() for m in _NAME_OR_NUMBER.finditer(text, start + 1, end)]
    if not spans:
        return None
    first, last = rng.choice(spans)
    answer = text[first:last]
    ask = ("how many", "when", "what number") if answer[0].isdigit() else ("who", "what", "where")
    rest = (text[start:first] + " " + text[last:end]).split()
    kept = [word.strip(".,;:()\"'“”").lower() for word in rest if rng.random() < 0.5]
    if len(kept) < 3:
        return None
    if rng.random() < 0.3:
        rng.shuffle(kept)
    question = f"{rng.choice(ask)} {' '.join(word for word in kept if word)}"
    occurrences = [m.span() for m in re.finditer(re.escape(answer), text)]
    return Example(
        text=text,
        question=question,
        quoted=((start, end),),
        answers=((first, last),),
        unsure=tuple(o for o in occurrences if o != (first, last)),
    )


def character_labels(
    example: Example,
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """(quoted, in an answer, unsure whether in an answer), (n_characters,) each."""
    masks = []
    for ranges in (example.quoted, example.answers, example.unsure):
        mask = np.zeros(len(example.text), bool)
        for start, end in ranges:
            mask[start:end] = True
        masks.append(mask)
    quoted, answers, unsure = masks
    return quoted, answers, unsure & ~answers


def epoch_examples(items: Sequence[Item], rng: random.Random) -> Iterator[Example]:
    """One epoch: each question with its useful passages and another; a useful passage by itself."""
    for item in items:
        useful = item.useful
        for index in useful:
            yield with_question(item, index, rng)
        others = [i for i in range(len(item.passages)) if i not in useful]
        for index in rng.sample(others, min(len(others), 1)):
            yield with_question(item, index, rng)
        if item.answers and useful and rng.random() < 0.7:
            yield alone(item, rng.choice(useful), rng)


def cloze_examples(texts: Sequence[str], count: int, rng: random.Random) -> Iterator[Example]:
    """Up to `count` clozes over `texts`; some texts have none."""
    for _ in range(count):
        if (example := cloze(rng.choice(texts), rng)) is not None:
            yield example
