"""Tasks in context with exact answers, for measuring what a way of handling KV state costs.

A task is a short prefix, self-contained documents and questions. `prefix + "".join(documents) +
question` is the sequential prompt; encoded in parallel, each document stands alone behind the
prefix. Prefix and documents end at a line break, where the reference model's tokenizer always
cuts, so that pieces tokenised alone give the tokens of the whole. Documents have a title and no
running number: what is encoded in parallel has no order.

Everything is a function of `(kind, split, seed, index)`. The reference model was trained on
`split="train"`: other random streams, and facts from the other part of all (entity, attribute,
value) combinations.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from ctxpress.evaluation.kv_words import (
    ADJECTIVES,
    DIGITS,
    LABELS,
    NAMES,
    NOUNS,
    PLACES,
    VALUES,
    VERBS,
)

TaskKind = Literal["retrieval", "two_hop", "labelling", "copying", "counting"]
Split = Literal["train", "evaluation"]

KINDS: tuple[TaskKind, ...] = get_args(TaskKind)
PREFIX = "Read the documents and answer the questions.\n"
MAX_DOCUMENTS = 128
MAX_QUESTIONS = 8
HELD_OUT_OF = 4
"""One of so many (entity, attribute, value) combinations is held out of training."""

_HEADER_TOKENS = 4  # "Document", ":", " Marlow", "\n"
_FILLER_TOKENS = 8  # "The old tower stood near the lamp."
_MAX_COUNT = 9


@dataclass(frozen=True, slots=True)
class ContextTask:
    """One context with questions about it; each question is asked alone, behind the documents."""

    kind: str
    prefix: str
    """Ends with a line break."""
    documents: tuple[str, ...]
    """Each begins with `Document: <title>` and ends with a line break."""
    questions: tuple[str, ...]
    """Each ends where the answer starts: `Question: What is the code of Marlow?\\nAnswer: The code
    of Marlow is`."""
    answers: tuple[str, ...]
    """What stands between the question and the next line break, stripped."""


@dataclass(frozen=True, slots=True)
class _Fact:
    entity: str
    attribute: str
    value: str

    @property
    def sentence(self) -> str:
        return f"The {self.attribute} of {self.entity} is {self.value}."

    @property
    def question(self) -> str:
        return _question(f"{self.attribute} of {self.entity}")

    @property
    def n_tokens(self) -> int:
        return 6 + DIGITS.get(self.attribute, 1)


def generate_tasks(
    kind: TaskKind,
    *,
    n_documents: int,
    n_tasks: int,
    seed: int,
    document_tokens: int = 24,
    n_questions: int | None = None,
    split: Split = "evaluation",
) -> list[ContextTask]:
    """Make `n_tasks` tasks of `n_documents` documents of about `document_tokens` tokens each.

    `n_questions` is the most a task asks, by default as many as there are documents, at most
    `MAX_QUESTIONS`; a task has fewer where its documents do not hold enough. Raises ValueError
    on an unknown kind or split and on sizes outside their bounds.
    """
    return list(
        stream_tasks(
            kind,
            n_documents=n_documents,
            n_tasks=n_tasks,
            seed=seed,
            document_tokens=document_tokens,
            n_questions=n_questions,
            split=split,
        )
    )


def stream_tasks(
    kind: TaskKind,
    *,
    n_documents: int,
    n_tasks: int,
    seed: int,
    document_tokens: int = 24,
    n_questions: int | None = None,
    split: Split = "evaluation",
) -> Iterator[ContextTask]:
    """Like `generate_tasks`, one at a time."""
    if kind not in _MAKERS:
        raise ValueError(f"unknown kind of task {kind!r}; there are {', '.join(KINDS)}")
    if split not in get_args(Split):
        raise ValueError(f"unknown split {split!r}; there are {', '.join(get_args(Split))}")
    least = 2 if kind == "two_hop" else 1
    if not least <= n_documents <= MAX_DOCUMENTS:
        raise ValueError(f"n_documents is {n_documents}, not in {least}..{MAX_DOCUMENTS}")
    if document_tokens < 1:
        raise ValueError(f"document_tokens is {document_tokens}, not positive")
    if n_questions is not None and n_questions < 1:
        raise ValueError(f"n_questions is {n_questions}, not positive")
    asked = min(n_documents, MAX_QUESTIONS) if n_questions is None else n_questions
    for index in range(n_tasks):
        rng = random.Random(f"{kind}/{split}/{seed}/{index}")
        yield _MAKERS[kind](_Maker(rng, split, document_tokens), n_documents, asked)


def is_held_out(entity: str, attribute: str, value: str) -> bool:
    """Whether training never shows this fact."""
    return zlib.crc32(f"{entity}|{attribute}|{value}".encode()) % HELD_OUT_OF == 0


@dataclass(frozen=True, slots=True)
class _Maker:
    """What all tasks share: facts of the split, filler, documents."""

    rng: random.Random
    split: Split
    document_tokens: int

    def fact(self, entity: str, attribute: str) -> _Fact:
        n_digits = DIGITS.get(attribute)
        if n_digits is None:
            values = list(VALUES[attribute])
            self.rng.shuffle(values)
            for value in values:
                if self._allowed(entity, attribute, value):
                    return _Fact(entity, attribute, value)
            return self.fact(entity, "code")  # a few entities have no held-out value of this kind
        while True:
            value = "".join(self.rng.choices("0123456789", k=n_digits))
            if self._allowed(entity, attribute, value):
                return _Fact(entity, attribute, value)

    def _allowed(self, entity: str, attribute: str, value: str) -> bool:
        return is_held_out(entity, attribute, value) == (self.split == "evaluation")

    def document(self, title: str, sentences: list[str], n_tokens: int) -> str:
        """A document of these sentences in any order, filled up to about `document_tokens`."""
        left = self.document_tokens - _HEADER_TOKENS - n_tokens
        mixed = list(sentences)
        while left >= _FILLER_TOKENS:
            mixed.append(self._filler())
            left -= _FILLER_TOKENS
        self.rng.shuffle(mixed)
        return f"Document: {title}\n{' '.join(mixed)}\n"

    def _filler(self) -> str:
        noun, other = self.rng.sample(NOUNS, 2)
        adjective = self.rng.choice(ADJECTIVES)
        return (
            f"The {adjective} {noun} {self.rng.choice(VERBS)}"
            f" {self.rng.choice(PLACES)} the {other}."
        )

    def names(self, count: int) -> list[str]:
        return self.rng.sample(NAMES, count)


def _question(thing: str) -> str:
    # The answer begins with the words of the question, as the facts do: what precedes a value in
    # a document precedes it here, so that a small model may find it by what precedes.
    return f"Question: What is the {thing}?\nAnswer: The {thing} is"


def _task(kind: TaskKind, documents: list[str], asked: list[tuple[str, str]]) -> ContextTask:
    questions, answers = zip(*asked, strict=True)
    return ContextTask(kind, PREFIX, tuple(documents), questions, answers)


def _retrieval(maker: _Maker, n_documents: int, n_questions: int) -> ContextTask:
    # All documents draw from the same few attributes: neither entity nor attribute alone will do.
    rng = maker.rng
    room = maker.document_tokens - _HEADER_TOKENS
    attributes = rng.sample([*VALUES, *DIGITS], rng.randint(2, 4))
    documents, facts = [], []
    for name in maker.names(n_documents):
        own: dict[str, _Fact] = {}
        for attribute in rng.sample(attributes, rng.randint(1, len(attributes))):
            fact = maker.fact(name, attribute)
            if not own or sum(f.n_tokens for f in own.values()) + fact.n_tokens <= room:
                own.setdefault(fact.attribute, fact)
        facts.append(list(own.values()))
        sentences = [fact.sentence for fact in own.values()]
        documents.append(maker.document(name, sentences, sum(f.n_tokens for f in own.values())))
    # The first questions are about different documents, the others about any fact that is left.
    firsts = [rng.choice(own) for own in facts]
    rng.shuffle(firsts)
    rest = [fact for own in facts for fact in own if fact not in firsts]
    rng.shuffle(rest)
    asked = [(fact.question, fact.value) for fact in [*firsts, *rest][:n_questions]]
    return _task("retrieval", documents, asked)


def _two_hop(maker: _Maker, n_documents: int, n_questions: int) -> ContextTask:
    rng = maker.rng
    attribute = rng.choice([*VALUES, *DIGITS])
    names = maker.names(n_documents)
    facts = {name: maker.fact(name, attribute) for name in names}
    friends = dict(zip(names, names[1:] + names[:1], strict=True))
    documents = [
        maker.document(
            name,
            [f"The friend of {name} is {friends[name]}.", facts[name].sentence],
            7 + facts[name].n_tokens,
        )
        for name in rng.sample(names, n_documents)
    ]
    asked = []
    for name in rng.sample(names, min(n_documents, n_questions)):
        fact = facts[friends[name]]
        question = _question(f"{fact.attribute} of the friend of {name}")
        asked.append((question, fact.value))
    return _task("two_hop", documents, asked)


def _labelling(maker: _Maker, n_documents: int, n_questions: int) -> ContextTask:
    # What a label means is made anew in each context; words asked about are not among the shots.
    rng = maker.rng
    shots_each = max(1, (maker.document_tokens - _HEADER_TOKENS) // 8)
    n_shots = n_documents * shots_each
    categories = rng.sample(list(VALUES), min(rng.randint(2, 4), max(1, n_shots)))
    labels = dict(zip(categories, rng.sample(LABELS, len(categories)), strict=True))
    half = {c: rng.sample(VALUES[c], len(VALUES[c])) for c in categories}
    cut = {c: len(words) // 2 for c, words in half.items()}
    drawn = [*categories, *rng.choices(categories, k=n_shots)][:n_shots]
    rng.shuffle(drawn)
    shots = [f"Input: {rng.choice(half[c][: cut[c]])}\nLabel: {labels[c]}\n" for c in drawn]
    documents = [
        f"Document: {name}\n" + "".join(shots[i * shots_each : (i + 1) * shots_each])
        for i, name in enumerate(maker.names(n_documents))
    ]
    pool = [(word, labels[c]) for c in categories for word in half[c][cut[c] :]]
    asked = [
        (f"Input: {word}\nLabel:", label)
        for word, label in rng.sample(pool, min(n_questions, len(pool)))
    ]
    return _task("labelling", documents, asked)


def _copying(maker: _Maker, n_documents: int, n_questions: int) -> ContextTask:
    rng = maker.rng
    documents, asked = [], []
    for name in maker.names(n_documents):
        words = " ".join(rng.sample(NOUNS, rng.randint(3, 6)))
        sentence = f"The note of {name} is {words}."
        documents.append(maker.document(name, [sentence], 6 + words.count(" ") + 1))
        asked.append((_question(f"note of {name}"), words))
    return _task("copying", documents, rng.sample(asked, min(n_documents, n_questions)))


def _counting(maker: _Maker, n_documents: int, n_questions: int) -> ContextTask:
    rng = maker.rng
    attribute = rng.choice(list(VALUES))
    most = min(_MAX_COUNT, n_documents)
    asked_values = rng.sample(VALUES[attribute], min(n_questions, MAX_QUESTIONS))
    counts: dict[str, int] = {}
    left = n_documents
    for value in asked_values:
        counts[value] = rng.randint(0, min(most, left))
        left -= counts[value]
    others = [value for value in VALUES[attribute] if value not in counts]
    held = [value for value, count in counts.items() for _ in range(count)]
    held += rng.choices(others, k=left)
    rng.shuffle(held)
    documents = [
        maker.document(name, [_Fact(name, attribute, value).sentence], 7)
        for name, value in zip(maker.names(n_documents), held, strict=True)
    ]
    asked = [
        (f"Question: How many have the {attribute} {value}?\nAnswer:", str(count))
        for value, count in counts.items()
    ]
    return _task("counting", documents, asked)


_MAKERS: Mapping[str, Callable[[_Maker, int, int], ContextTask]] = MappingProxyType(
    {
        "retrieval": _retrieval,
        "two_hop": _two_hop,
        "labelling": _labelling,
        "copying": _copying,
        "counting": _counting,
    }
)

__all__ = [
    "HELD_OUT_OF",
    "KINDS",
    "MAX_DOCUMENTS",
    "MAX_QUESTIONS",
    "PREFIX",
    "ContextTask",
    "Split",
    "TaskKind",
    "generate_tasks",
    "is_held_out",
    "stream_tasks",
]
