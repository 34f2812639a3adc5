"""Stretches of a text that hang together although blanks or punctuation stand in them.

Quoted strings, Markdown headings, links, citations and rows of tables become one unit each; list
markers and the heads of tables are kept with what they belong to; the full stop of an abbreviation
is part of its word. Every pattern looks at each character a bounded number of times, so that a text
of one endless line takes linear time: repeats are possessive, bounded, or stop at the character
that begins the next match.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Stretch", "Structure", "find_structure"]

MAX_QUOTED_WORDS = 8
"""A longer quotation is a sentence of its own, and its words compete one by one."""
_MAX_QUOTED_CHARACTERS = 80
_MAX_HEADING_CHARACTERS = 200

Stretch = tuple[int, int]

# Every pattern begins with a literal character, which the search jumps to.
_QUOTED = (
    re.compile(r"“[^“”\n]{1,80}+”"),
    re.compile(r"\"(?<![\w\"]\")(?=[\w$€£#@<(\[{'‘./~&+-])[^\"\n]{1,80}+(?<=\S)\"(?!\w)"),
    re.compile(r"`(?<!``)[^`\n]{1,80}+`(?!`)"),
    re.compile(r"«[^«»\n]{1,80}+»"),
    re.compile(r"「[^「」\n]{1,24}+」"),
    re.compile(r"『[^『』\n]{1,24}+』"),
    re.compile(r"《[^《》\n]{1,24}+》"),
)
_LINK = re.compile(
    r"\[[^\[\]\n]{0,200}+\]"
    r"\((?:[^()\s]++|\([^()\s]{0,200}+\)){0,20}+(?:[ \t]++\"[^\"\n]{0,100}+\")?\)"
)
_CITATIONS = (
    re.compile(r"\[\d{1,3}(?:[,;–-][ ]?\d{1,3}){0,20}+\]"),
    re.compile(r"\([0-9A-Za-z]{1,2}\)"),
)
_HEADING = re.compile(r"(?m)^[ \t]{0,3}+(#{1,6}+[ \t]++\S[^\n]{0,198})$")
_MARKER = re.compile(
    r"(?m)^[ \t]*+(?:(?:[-*+•>]|#{1,6}+|\(?\d{1,3}[.)]|\[\d{1,3}\])[ \t]++)++(?=\S)"
)
_EMPHASIS = re.compile(r"(\*(?<![\w*]\*)\*{0,2}+)(?=[^\s*])[^*\n]{1,300}+(?<=\S)\1(?![\w*])")
_TABLE_RULE = re.compile(
    r"(?m)^[ \t]*+\|?+[ \t]*+:?+-++:?+[ \t]*+(?:\|[ \t]*+:?+-++:?+[ \t]*+)*+\|?+[ \t]*+$"
)
_FULL_STOP = re.compile(r"\.(?<=\w\.)(?![\w.])")
_ABBREVIATION = re.compile(
    r"(?<![\w.])(?:(?:[^\W\d_]{1,2}+\.){2,9}+"
    r"|(?:Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|Gen|Col|Capt|Lt|Sgt|Rev|Hon|Sen|Rep|Gov|Inc|Ltd|Co|Corp|Bros"
    r"|vs|etc|approx|ca|cf|al|fig|Fig|figs|Figs|eq|Eq|vol|Vol|pp|ed|eds|est|dept|Dept"
    r"|Ave|Blvd|Rd|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept|Sep|Oct|Nov|Dec)\."
    r"|[A-Z]\.(?=[ \t\u00a0][^\W\d_])|[Nn]os?\.(?=[ \u00a0]?\d))"
)
_LONGEST_ABBREVIATION = 28


@dataclass(frozen=True, slots=True)
class Structure:
    """Stretches [start, end) in characters; those of a list do not overlap.

    `bonds`: kept or dropped whole. `tables`: for every table its head's stretches (column names and
    the rule under them) and those of its rows; all are bonds too. `markers`: list markers and what
    else opens a line. `emphasis`: the asterisks before and after emphasised words, as pairs.
    `abbreviations`: offsets of full stops that are part of their word.
    """

    bonds: list[Stretch]
    tables: list[tuple[list[Stretch], list[Stretch]]]
    markers: list[Stretch]
    emphasis: list[tuple[Stretch, Stretch]]
    abbreviations: list[int]


def find_structure(text: str) -> Structure:
    """Find all stretches in `text`; linear in its length."""
    tables = list(_tables(text)) if "|" in text else []
    strong = [stretch for head, rows in tables for stretch in (*head, *rows)]
    if "#" in text:
        strong += [match.span(1) for match in _HEADING.finditer(text)]
    if "](" in text:
        strong += [_with_bang(text, *match.span()) for match in _LINK.finditer(text)]
    weak = [
        match.span()
        for pattern in _QUOTED
        for match in pattern.finditer(text)
        if len(match.group().split(None, MAX_QUOTED_WORDS)) <= MAX_QUOTED_WORDS
    ]
    markers = [match.span() for match in _MARKER.finditer(text)]
    for pattern in _CITATIONS:
        weak += _outside(markers, [match.span() for match in pattern.finditer(text)])
    emphasis = []
    if "*" in text:
        for match in _EMPHASIS.finditer(text):
            width = len(match[1])
            start, end = match.span()
            emphasis.append(((start, start + width), (end - width, end)))
    return Structure(
        bonds=_disjoint(strong, weak),
        tables=tables,
        markers=markers,
        emphasis=emphasis,
        abbreviations=list(_abbreviations(text)),
    )


def _abbreviations(text: str) -> Iterator[int]:
    for match in _FULL_STOP.finditer(text):
        stop = match.start()
        before = text[max(0, stop - _LONGEST_ABBREVIATION) : stop + 3]
        length = len(before) - len(text[stop + 1 : stop + 3])
        if any(found.end() == length for found in _ABBREVIATION.finditer(before)):
            yield stop


def _with_bang(text: str, start: int, end: int) -> Stretch:
    """A link, or an image with the exclamation mark before it."""
    return start - (start > 0 and text[start - 1] == "!"), end


def _tables(text: str) -> Iterator[tuple[list[Stretch], list[Stretch]]]:
    """Tables: a rule of dashes under a line with a bar, and the lines with bars that follow."""
    done = 0
    for match in _TABLE_RULE.finditer(text):
        rule_start, rule_end = match.span()
        above = text.rfind("\n", done, max(done, rule_start - 1)) + 1 or done
        if (
            rule_start <= done
            or text.find("|", rule_start, rule_end) < 0
            or text.find("|", above, rule_start) < 0
        ):
            continue
        head = [_trimmed(text, above, rule_start), _trimmed(text, rule_start, rule_end)]
        rows = []
        done = rule_end
        while done < len(text):
            end = text.find("\n", done + 1)
            end = len(text) if end < 0 else end
            if text.find("|", done, end) < 0:
                break
            rows.append(_trimmed(text, done, end))
            done = end
        yield head, rows


def _outside(markers: list[Stretch], stretches: list[Stretch]) -> list[Stretch]:
    """The stretches that do not begin within a marker: `[1] ` before a passage is one."""
    starts = [start for start, _ in markers]
    return [
        stretch
        for stretch in stretches
        if (number := bisect_right(starts, stretch[0])) == 0 or markers[number - 1][1] <= stretch[0]
    ]


def _trimmed(text: str, start: int, end: int) -> Stretch:
    """The stretch without the blanks around it; it holds a bar, so it is not empty."""
    line = text[start:end]
    return start + len(line) - len(line.lstrip()), start + len(line.rstrip())


def _disjoint(strong: list[Stretch], weak: list[Stretch]) -> list[Stretch]:
    """All stretches that do not overlap an earlier one of the list, `strong` before `weak`.

    Rows and headings swallow what stands inside; two that cross half-way cannot both be whole.
    """
    ranked = [(*stretch, 0) for stretch in strong] + [(*stretch, 1) for stretch in weak]
    ranked.sort(key=lambda item: (item[0], item[2], -item[1]))
    kept: list[tuple[int, int, int]] = []
    for start, end, weakness in ranked:
        while kept and kept[-1][1] > start and kept[-1][2] > weakness:
            kept.pop()
        if not kept or kept[-1][1] <= start:
            kept.append((start, end, weakness))
    return [(start, end) for start, end, _ in kept]
