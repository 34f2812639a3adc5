"""Quotes chosen by a language model behind an OpenAI-compatible endpoint.

The model is asked for sections of verbatim quotes (Refiner, arXiv 2406.11357); each quote is then
looked for in the documents. What is not there is dropped: a model can choose, and cannot write.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ctxpress.document import Range
from ctxpress.errors import DeadlineError, StageError
from ctxpress.plugins.restructure.alignment import Aligner, Alignment, merge_ranges
from ctxpress.plugins.restructure.endpoint import CompletionEndpoint
from ctxpress.plugins.restructure.folding import fold
from ctxpress.plugins.restructure.prompts import (
    CHAT_VERSION,
    REFINER_VERSION,
    chat_messages,
    label_of,
    refiner_prompt,
)
from ctxpress.plugins.restructure.sections import Section, parse_sections, says_nothing
from ctxpress.relevance.scorer import Titled

__all__ = ["LLMExtractor", "Quoted"]

_VERSION = 1
"""Of how answers are read and quotes aligned."""
_MIN_LINE_WORDS, _MAX_LINES = 4, 64
_MIN_TITLE_CHARACTERS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Quoted:
    """What is quoted of one passage in one group of facts.

    `passage` is its index; `ranges` are those of its text, ascending, apart from each other. Equal
    `major` numbers, counted from 1, are facts that agree.
    """

    passage: int
    ranges: tuple[Range, ...]
    major: int


class LLMExtractor:
    """Extracts quotes by one call to a model. Safe for concurrent calls and any event loops.

    `template="chat"` asks any chat model with our own prompt by `/v1/chat/completions`;
    `"refiner"` asks Refiner-7B with the template that it was trained on, by `/v1/completions`.
    """

    def __init__(
        self,
        *,
        base_url: str,
        model: str,
        api_key: str | None = None,
        template: Literal["chat", "refiner"] = "chat",
        max_tokens: int = 2048,
        timeout_s: float = 120.0,
    ) -> None:
        """Connects to nothing. `timeout_s` bounds a call whose deadline is further off.

        :raises ConfigError: an address, key or bound that cannot work; the key is not shown.
        """
        self._endpoint = CompletionEndpoint(
            base_url=base_url,
            model=model,
            api_key=api_key,
            max_tokens=max_tokens,
            timeout_s=timeout_s,
        )
        self._template = template
        prompt = CHAT_VERSION if template == "chat" else REFINER_VERSION
        self._identity = f"llm/{_VERSION}/{template}-{prompt}/{model}/{max_tokens}"

    @property
    def identity(self) -> str:
        """Version of the reading, template, version of the prompt, model, and its limit."""
        return self._identity

    async def extract(
        self, question: str, passages: Sequence[Titled], *, deadline_s: float
    ) -> list[Quoted]:
        """What helps to answer `question`, by rising major number; empty if nothing does.

        Ranges of one passage do not overlap: what a second group quotes again joins the first
        quote. `deadline_s` is a `time.monotonic` value.

        :raises DeadlineError: it came first.
        :raises StageError: the endpoint failed, its answer is not of the expected form, was cut
            off, or holds quotes of which none is in the passages.
        """
        asked = [n for n, passage in enumerate(passages) if passage.text.strip()]
        if not asked:
            return []
        # An untitled passage goes by its number in the prompt, which counts those that are asked.
        given = [passages[n] for n in asked]
        if self._template == "refiner":
            prompt = refiner_prompt(question, given)
            answer = await self._endpoint.complete(prompt, deadline_s=deadline_s)
        else:
            messages = chat_messages(question, given)
            answer = await self._endpoint.chat(messages, deadline_s=deadline_s)
        quoted = await asyncio.to_thread(self._read, answer, given, deadline_s)
        return [Quoted(passage=asked[q.passage], ranges=q.ranges, major=q.major) for q in quoted]

    async def aclose(self) -> None:
        """Close the connections of the running loop; those of other loops end with their loops."""
        await self._endpoint.aclose()

    def _read(self, answer: str, passages: Sequence[Titled], deadline_s: float) -> list[Quoted]:
        """What an answer quotes of `passages`."""
        labels = [label_of(number, passage) for number, passage in enumerate(passages)]
        sections = parse_sections(answer, titles=labels)
        if not sections:
            if says_nothing(answer):
                return []
            raise StageError(f"{self._endpoint.label}: the answer has no sections of quotes")
        titles = _Titles(labels)
        aligner = Aligner([passage.text for passage in passages])
        found: list[tuple[int, Alignment]] = []
        for section in sections:
            if time.monotonic() >= deadline_s:
                raise DeadlineError(f"{self._endpoint.label}: the time budget ran out")
            alignments = _align(section, aligner, titles)
            found += [(section.major, alignment) for alignment in alignments]
        if not found:
            raise StageError(
                f"{self._endpoint.label}: none of the {len(sections)} quotes in the answer stands "
                "in the documents"
            )
        return _gathered(found, passages)


class _Titles:
    """The passages that a model means by a title."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._passages: dict[str, list[int]] = {}
        for number, label in enumerate(labels):
            self._passages.setdefault(_key(label), []).append(number)

    def find(self, title: str | None) -> Sequence[int]:
        """Their indices: of the same title but for case and marks, else of one in the other."""
        key = _key(title or "")
        same = self._passages.get(key)
        if same is not None or len(key) < _MIN_TITLE_CHARACTERS:
            return same or ()
        return [
            number
            for known, numbers in self._passages.items()
            if len(known) >= _MIN_TITLE_CHARACTERS and (known in key or key in known)
            for number in numbers
        ]


def _key(title: str) -> str:
    folded = fold(title).text
    return "".join(filter(str.isalnum, folded)) or folded


def _align(section: Section, aligner: Aligner, titles: _Titles) -> list[Alignment]:
    """Where a section's quote stands; where it does not as a whole, where its lines stand."""
    preferred = titles.find(section.title)
    whole = aligner.align(section.quote, preferred)
    if whole is not None:
        return [whole]
    lines = section.quote.split("\n")
    if len(lines) == 1:
        return []
    parts = [line for line in lines if len(line.split()) >= _MIN_LINE_WORDS]
    alignments = (
        aligner.align(part, preferred) for part in list(dict.fromkeys(parts))[:_MAX_LINES]
    )
    return [alignment for alignment in alignments if alignment is not None]


def _gathered(found: Sequence[tuple[int, Alignment]], passages: Sequence[Titled]) -> list[Quoted]:
    """One `Quoted` for a passage and group, without overlaps, majors without gaps."""
    taken: dict[int, list[tuple[Range, int]]] = {}
    order: dict[tuple[int, int], None] = {}
    for major, alignment in found:
        ranges = taken.setdefault(alignment.text, [])
        for start, end in alignment.ranges:
            owner = major
            # What is quoted again belongs to the group that quoted it first.
            touched = [item for item in ranges if start < item[0].end and item[0].start < end]
            if touched:
                owner = min(number for _, number in touched)
                start = min(start, *(piece.start for piece, _ in touched))
                end = max(end, *(piece.end for piece, _ in touched))
                ranges[:] = [item for item in ranges if item not in touched]
            ranges.append((Range(start, end), owner))
            order.setdefault((owner, alignment.text))
    quoted: list[Quoted] = []
    majors: dict[int, int] = {}
    for major, passage in sorted(order, key=lambda key: key[0]):
        ranges_of = [piece for piece, owner in taken[passage] if owner == major]
        if ranges_of:
            number = majors.setdefault(major, len(majors) + 1)
            merged = merge_ranges(passages[passage].text, ranges_of)
            quoted.append(Quoted(passage=passage, ranges=merged, major=number))
    return quoted
