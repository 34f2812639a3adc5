"""Texts cut into sentences: ranges that cover the text without gaps, whatever it is.

A sentence ends behind a full stop, question or exclamation mark (also those of Chinese, Japanese,
Hindi, Arabic and Ethiopic) and what closes it, where the next word may begin one; at a blank line;
and at a line break before a list marker, a heading, or a line that does not go on in lower case.
What is no end: abbreviations, initials, decimal points, ordinal numbers of lists, and a mark inside
brackets that close soon.
"""

from __future__ import annotations

import re

from ctxpress.document import Range

__all__ = ["split_sentences"]

_ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof rev hon st sr jr gen col capt lt sgt maj gov sen rep pres vs etc al fig "
    "figs no nos vol vols pp p ch sec eq ref refs ed eds est approx ca cf dept univ inc ltd co "
    "corp bros jan feb mar apr jun jul aug sep sept oct nov dec mon tue wed thu fri sat sun e.g "
    "i.e u.s u.k a.m p.m b.c a.d ph.d mt ft ste pt pts tr cor thess".split()
)
_INITIALS = re.compile(r"[A-Z]\.[A-Z]")
"""Two letters are somebody's initials, or an abbreviation in mid-sentence; more are a name."""
_CLOSERS = "\"'”’»)\\]}*_"
# The looks behind keep it linear: a run of marks or blanks is tried once, not from every place.
_END = re.compile(
    rf"(?P<dense>[。！？｡؟።।॥]+[{_CLOSERS}」』）】]*\s*)"
    rf"|(?<![.!?…])(?P<mark>[.!?…]+)(?P<close>[{_CLOSERS}]*(?:\[\d{{1,3}}\])*)(?P<gap>\s+)"
    r"|(?<![ \t])(?P<blank>[ \t]*\n(?:[ \t]*\n)+[ \t]*)"
    r"|(?<![ \t])(?P<line>[ \t]*\n[ \t]*)"
)
_OPENERS = "\"'“‘«([{*_#>|-–—•"
_MARKER = re.compile(r"(?:[-*+•]|\d{1,3}[.)]|#{1,6}|>|\||[A-Za-z][.)])\s")
_LAST_WORD = re.compile(r"([^\s\"'“‘«(\[{]+)$")
_LONGEST_WORD = 24
_IN_BRACKETS = 160
"""Characters before and behind a mark among which brackets around it are looked for."""
_MAX_CHARACTERS = 4_000
"""Longer stretches without an end are cut at a blank: no text makes a step slow."""


def split_sentences(text: str) -> tuple[Range, ...]:
    """The ranges of characters of the sentences of `text`; blanks belong to what they follow.

    Linear in the text's length. An empty text has none.
    """
    ranges: list[Range] = []
    start = 0
    for match in _END.finditer(text):
        end = match.end()
        if end < len(text) and not _ends(text, match, start):
            continue
        if text[start:end].strip():
            ranges += _bounded(text, start, end)
            start = end
    if start < len(text):
        ranges += _bounded(text, start, len(text))
    return tuple(_without_blanks(text, ranges))


def _ends(text: str, match: re.Match[str], start: int) -> bool:
    """Whether the sentence that begins at `start` ends with `match`."""
    following = text[match.end()]
    if match["dense"] or match["blank"]:
        return True
    if match["line"] is not None:
        return not following.islower() or bool(_MARKER.match(text, match.end()))
    if "\n" in match["gap"] and _MARKER.match(text, match.end()):
        return True
    if match["mark"] == "." and not match["close"] and _is_abbreviated(text, match.start()):
        return "\n\n" in match["gap"]
    if "\n\n" not in match["gap"] and _in_brackets(text, start, match):
        return False
    return (
        following.isupper()
        or following.isdigit()
        or following in _OPENERS
        or not (following.islower() or following.isascii())
    )


def _is_abbreviated(text: str, stop: int) -> bool:
    """Whether the full stop at `stop` belongs to the word before it."""
    found = _LAST_WORD.search(text[max(0, stop - _LONGEST_WORD) : stop])
    if found is None:
        return False
    word = found[1]
    if len(word) == 1:
        return word.isalpha() and word != "I" or word.isdigit() and _begins_line(text, stop - 1)
    if word.isdigit():
        return len(word) <= 2 and _begins_line(text, stop - len(word))
    return word.lower() in _ABBREVIATIONS or _INITIALS.fullmatch(word) is not None


def _in_brackets(text: str, start: int, match: re.Match[str]) -> bool:
    """Whether the mark stands between brackets: `(Acts 20:33; 2 Cor. 11:7)`."""
    before = text[max(start, match.start() - _IN_BRACKETS) : match.start()]
    behind = text[match.end() : match.end() + _IN_BRACKETS]
    for opened, closed in ("()", "[]"):
        if before.rfind(opened) > before.rfind(closed) and closed not in match["close"]:
            close = behind.find(closed)
            if close >= 0 and opened not in behind[:close] and "\n\n" not in behind[:close]:
                return True
    return False


def _begins_line(text: str, start: int) -> bool:
    line = text.rfind("\n", max(0, start - 80), start) + 1
    return not text[line:start].strip() if line or start <= 80 else False


def _bounded(text: str, start: int, end: int) -> list[Range]:
    ranges = []
    while end - start > _MAX_CHARACTERS:
        cut = text.rfind(" ", start + _MAX_CHARACTERS // 2, start + _MAX_CHARACTERS) + 1
        cut = cut or start + _MAX_CHARACTERS
        ranges.append(Range(start, cut))
        start = cut
    ranges.append(Range(start, end))
    return ranges


def _without_blanks(text: str, ranges: list[Range]) -> list[Range]:
    """A range of blanks only joins the one before it."""
    joined: list[Range] = []
    for piece in ranges:
        if joined and not text[piece.start : piece.end].strip():
            joined[-1] = Range(joined[-1].start, piece.end)
        else:
            joined.append(piece)
    return joined
