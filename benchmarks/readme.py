"""Fills the README's example with what the tool does to it, so that the README stays true.

``--check`` only says whether the README is up to date (exit status 1 if it is not).
"""

from __future__ import annotations

import sys
from pathlib import Path

import ctxpress
from ctxpress.cli.diff import from_ranges, to_markdown

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN = "<!-- example:begin (filled by `make readme`; the text is what the tool really does) -->\n"
END = "<!-- example:end -->"
KEEP_RATIO = 0.5
TEXT = (
    "So, just to sum up what we talked about this morning: the delivery that was supposed to "
    "arrive on the 14th of May is going to be about a week late, because the supplier has had "
    "some problems with one of the machines. They did say that they would be able to send us "
    "300 of the 1,200 units by air, at their own expense, so that we can at least keep the "
    "line in Hall 2 running. Personally, I think that we should accept the offer, but I would "
    "like to have it in writing from them by tomorrow at noon, including the new date for the "
    "remaining 900 units."
)


def example() -> str:
    """The section between the markers."""
    result = ctxpress.compress(TEXT, keep_ratio=KEEP_RATIO)
    shown = to_markdown(from_ranges(TEXT, result.kept))
    estimated = ", estimated" if result.estimated else ""
    return (
        f"> {shown}\n\n"
        f"`ctxpress compress --keep-ratio {KEEP_RATIO}`: {result.tokens_before} -> "
        f"{result.tokens_after} tokens{estimated}; nothing is rewritten, words are only deleted.\n"
    )


def main() -> int:
    """Fill or check the README."""
    old = README.read_text("utf-8")
    head, tail = old.split(BEGIN)[0], old.split(END)[1]
    new = f"{head}{BEGIN}\n{example()}\n{END}{tail}"
    if "--check" in sys.argv[1:]:
        print("up to date" if new == old else "not up to date: make readme")
        return int(new != old)
    README.write_text(new, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
