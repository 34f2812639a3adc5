"""Sections as Refiner writes them: numbered quotes, each under the title of its document.

::

    1.1. ## Title
    quote
    1.2. ## Title
    quote
    2.1. ## Title
    quote

Equal major numbers are facts that agree; a distinct or contradicting fact opens the next (Refiner,
arXiv 2406.11357, section 3). What models write deviates, so reading is tolerant: quotes of several
lines, other marks and numbers, titles on the line of the quote, chatter around. Which lines are
heads is decided for the whole answer by the clearest kind of head in it, since quotes may hold
lists and headings of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

__all__ = ["Section", "parse_sections", "render_sections", "says_nothing"]

_MAX_CHARACTERS = 200_000
_MAX_SECTIONS = 512
_MIN_QUOTE_CHARACTERS = 3
_LONGEST_TITLE = 150
_FEWEST_WORDS_OF_A_SENTENCE = 6
_LONGEST_DENIAL = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One quote. `major` and `minor` count from 1; `title` is that of the quote's document."""

    major: int
    minor: int
    title: str | None
    quote: str


class _Clarity(IntEnum):
    """Kinds of heads; of those in an answer the lowest counts."""

    MARKED = 0  # a number or bullet with a title behind ##, or a bare `1.1.`
    NUMBERED = 1  # `1.1. Title`
    HEADING = 2  # `## Title`
    LISTED = 3  # `1. Title` or `1.1 Title`
    BULLET = 4  # `- Title`


@dataclass(frozen=True, slots=True)
class _Head:
    clarity: _Clarity
    number: tuple[int, ...]
    titled: bool
    rest: str


@dataclass(slots=True)
class _Draft:
    number: tuple[int, ...]
    title: str | None
    quote: str


_NUMBER = re.compile(
    r"[ \t]*(?P<before>#{1,6}[ \t]+)?[*_]{0,3}[(\[]?"
    r"(?P<number>[0-9]{1,4}(?:\.[0-9]{1,4}){0,4})(?P<close>[.):\]]{0,2})[*_]{0,3}"
    r"(?=[\s#*]|$)[ \t]*[*_]{0,3}(?P<behind>#{1,6}(?!#))?(?P<rest>.*)",
    re.DOTALL,
)
_BULLET = re.compile(r"[ \t]*[*+•-][ \t]+[*_]{0,3}(?P<behind>#{1,6}(?!#))?(?P<rest>.*)", re.DOTALL)
_HEADING = re.compile(r"[ \t]*#{1,6}[ \t]+(?P<rest>.*)", re.DOTALL)
_FENCE = re.compile(r"[ \t]*(?:```|~~~)")
_NO_TITLE = re.compile(r"\W*(?:no title|untitled|none|n/a)\W*", re.IGNORECASE)
_FAREWELL = re.compile(
    r"\W*(?:i hope|hope this|let me know|(?:these|the above) (?:quotes|sections|excerpts|passages)"
    r"|the (?:quotes|sections|excerpts|passages) above|(?:please )?note that (?:the|these|no) "
    r"(?:quotes|sections|excerpts|documents|passages|other)|no other (?:documents?|passages?))\b",
    re.IGNORECASE,
)
_DENIAL = re.compile(
    r"\W*(?:none|n/?a|nothing|empty|null|no|not|neither|there (?:is|are) no(?:thing|ne|t)?)\b",
    re.IGNORECASE,
)
_DENIAL_INSIDE = re.compile(
    r"\b(?:documents?|passages?|texts?|contexts?|excerpts?|answer|quotes?|information|evidence)\b"
    r"[^.\n]{0,80}(?:\bnot\b|n['’]t\b|\bno\b|\bnone\b|\bnothing\b|\bempty\b)"
    r"|(?:\bnot\b|n['’]t\b|\bno\b|\bnothing\b|\bunable\b)[^.\n]{0,80}"
    r"\b(?:relevant|helpful|useful|related|documents?|passages?|evidence|information)\b",
    re.IGNORECASE,
)


def parse_sections(text: str, *, titles: Iterable[str] = ()) -> tuple[Section, ...]:
    """The sections in a model's answer, in the order of their numbers, numbered anew from 1.1.

    Never raises; time is linear in the length, of which at most 200,000 characters are read.
    Quotes of under 3 characters leave, and those that stand in another quote. `titles` are the
    titles that there are: where one begins a head's line, the quote begins behind it. An answer
    that says that nothing is relevant, or has no sections, gives none (see `says_nothing`).
    """
    lines = _answer(text).split("\n")
    heads = _heads(lines)
    if not heads:
        return ()
    preamble = "\n".join(lines[: heads[0][0]]).strip()
    if preamble and heads[0][1].clarity >= _Clarity.LISTED and says_nothing(preamble):
        return ()  # what is listed are reasons
    known = sorted((t for t in map(_one_line, titles) if t), key=len, reverse=True)
    ends = [*[index for index, _ in heads[1:]], max(_end(lines, heads[0][0]), heads[-1][0] + 1)]
    drafts: list[_Draft] = []
    for number, ((index, head), end) in enumerate(zip(heads, ends, strict=True), start=1):
        body = "\n".join(lines[index + 1 : end]).strip()
        if number == len(heads):
            body = _without_farewell(body)
        title, quote = _title_and_quote(head, body, known)
        if len(quote) >= _MIN_QUOTE_CHARACTERS and not (title is None and says_nothing(quote)):
            drafts.append(_Draft(head.number, title, quote))
    drafts.sort(key=lambda draft: draft.number)
    return tuple(_numbered(_distinct(drafts)))


def render_sections(sections: Sequence[Section]) -> str:
    """The sections as text, each in a line for its number and title and the lines of its quote."""
    parts = []
    for section in sections:
        head = f"{section.major}.{section.minor}."
        title = _one_line(section.title or "")
        parts.append(f"{head} ## {title}\n{section.quote}" if title else f"{head}\n{section.quote}")
    return "\n".join(parts)


def says_nothing(text: str) -> bool:
    """Whether an answer says that nothing is relevant: empty, `none`, `no relevant …`, or so."""
    bare = _answer(text).strip()
    if not bare.strip("`~*_\"'.()[] \n\t"):
        return True
    if len(bare) > _LONGEST_DENIAL:
        return False
    return bool(_DENIAL.match(bare) or _DENIAL_INSIDE.search(bare))


def _answer(text: str) -> str:
    """The text without what a reasoning model thought before it."""
    text = text[:_MAX_CHARACTERS].replace("\r\n", "\n")
    if text.lstrip().startswith("<think>"):
        return text.partition("</think>")[2]
    before, mark, behind = text.partition("\n</think>\n")
    return behind if mark else before


def _heads(lines: Sequence[str]) -> list[tuple[int, _Head]]:
    """Indices of the lines that begin a section, and what they say."""
    candidates = [(index, head) for index, line in enumerate(lines) if (head := _head(line))]
    if not candidates:
        return []
    clearest = min(head.clarity for _, head in candidates)
    heads: list[tuple[int, _Head]] = []
    number: tuple[int, ...] = (1, 0)
    for index, head in candidates:
        follows = head.clarity is _Clarity.NUMBERED and _follows(number, head.number)
        if head.clarity != clearest and not follows:
            continue
        if not head.number:  # one more of the group above
            head = _Head(head.clarity, (number[0], (*number, 0)[1] + 1), head.titled, head.rest)
        number = head.number
        heads.append((index, head))
        if len(heads) == _MAX_SECTIONS:
            break
    return heads


def _head(line: str) -> _Head | None:
    found = _NUMBER.match(line)
    if found is not None:
        number = tuple(int(part) for part in found["number"].split("."))
        rest, titled = found["rest"].strip(), bool(found["before"] or found["behind"])
        if titled or (len(number) > 1 and found["close"] and not rest):
            return _Head(_Clarity.MARKED, number, titled, rest)
        if len(number) > 1 and found["close"]:
            return _Head(_Clarity.NUMBERED, number, False, rest)
        if rest and (len(number) > 1 or found["close"]):
            return _Head(_Clarity.LISTED, number, False, rest)
        return None
    found = _BULLET.match(line)
    if found is not None:
        titled = bool(found["behind"])
        clarity = _Clarity.MARKED if titled else _Clarity.BULLET
        return _Head(clarity, (), titled, found["rest"].strip())
    found = _HEADING.match(line)
    return _Head(_Clarity.HEADING, (), True, found["rest"].strip()) if found is not None else None


def _follows(before: tuple[int, ...], number: tuple[int, ...]) -> bool:
    major, minor = (*before, 0)[:2]
    return number in ((major, minor + 1), (major + 1, 1))


def _end(lines: Sequence[str], first: int) -> int:
    """The line at which the answer ends: where a fence that was opened before it is closed."""
    opened = sum(1 for line in lines[:first] if _FENCE.match(line)) % 2
    if opened:
        for index in range(len(lines) - 1, first, -1):
            if _FENCE.match(lines[index]):
                return index
    return len(lines)


def _without_farewell(body: str) -> str:
    paragraphs = body.split("\n\n")
    while len(paragraphs) > 1 and (
        _FAREWELL.match(paragraphs[-1]) or paragraphs[-1].strip() in ("", "---", "***", "```")
    ):
        paragraphs.pop()
    return "\n\n".join(paragraphs).rstrip()


def _title_and_quote(head: _Head, body: str, known: Sequence[str]) -> tuple[str | None, str]:
    rest = _bare(head.rest)
    for title in known:
        if rest[: len(title)].casefold() == title.casefold():
            behind = rest[len(title) :].lstrip(" \t*_")
            if not behind or behind[0] == ":":
                return title, _joined(behind[1:], body)
    if not rest:
        return None, body
    title, colon, first = _cut(rest)
    if body and len(rest) <= _LONGEST_TITLE and (head.titled or not _is_sentence(rest)):
        return _title(rest), body
    if colon and len(title) <= _LONGEST_TITLE:
        return _title(title), _joined(first, body)
    if head.titled and not body and not _is_sentence(rest):
        return _title(rest), ""
    return None, _joined(rest, body)


def _cut(rest: str) -> tuple[str, str, str]:
    """What stands before the first colon that a blank follows, the colon, and what is behind."""
    title, colon, quote = rest.partition(": ")
    return title, colon, quote.strip()


def _joined(first: str, body: str) -> str:
    return "\n".join(part for part in (first.strip(" \t*_"), body) if part)


def _bare(rest: str) -> str:
    """A head's line without emphasis around it."""
    rest = rest.strip()
    for mark in ("***", "**", "__"):
        if rest.endswith(mark) and rest.count(mark) % 2:
            rest = rest.removesuffix(mark).rstrip()  # opened before the number
        if rest.startswith(mark) and rest.endswith(mark) and len(rest) > 2 * len(mark):
            rest = rest[len(mark) : -len(mark)].strip()
    return rest


def _title(text: str) -> str | None:
    bare = _one_line(text.strip(" \t:*"))
    return None if not bare or _NO_TITLE.fullmatch(bare) else bare


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _is_sentence(text: str) -> bool:
    """Whether this is rather a quote than a title."""
    ended = text.rstrip("\"'”’)]")[-1:] in tuple(".!?。！？।")
    return len(text) > _LONGEST_TITLE or (
        ended and len(text.split()) >= _FEWEST_WORDS_OF_A_SENTENCE
    )


def _distinct(drafts: Sequence[_Draft]) -> list[_Draft]:
    """Drafts whose quote is in no other; of equal ones the first."""
    texts = [_one_line(draft.quote) for draft in drafts]
    # One search in all the longer ones costs no more than reading them.
    by_length = sorted(range(len(texts)), key=lambda index: (-len(texts[index]), index))
    kept: list[int] = []
    seen = ""
    for index in by_length:
        if texts[index] not in seen:
            kept.append(index)
            seen += "\0" + texts[index]
    return [drafts[index] for index in sorted(kept)]


def _numbered(drafts: Iterable[_Draft]) -> Iterator[Section]:
    major = minor = 0
    last: int | None = None
    for draft in drafts:
        if draft.number[0] != last:
            major, minor, last = major + 1, 0, draft.number[0]
        minor += 1
        yield Section(major=major, minor=minor, title=draft.title, quote=draft.quote)
