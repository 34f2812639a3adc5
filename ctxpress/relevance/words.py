"""Words of a text as they are compared: folded so that forms of one word are one, in any script.

Scripts that write no blanks between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese) and
Korean, whose words carry their particles, are taken as overlapping pairs of characters, which is
what Lucene's CJK analyser does; a character that stands alone is a word. English function words
are left out. Suffixes are folded lightly: plurals as in Harman (1991, "How Effective Is
Suffixing?"), and the endings -ed, -ing, -ly and a last e.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator

__all__ = ["STOPWORDS", "words_among", "words_of"]

_DENSE = (
    "\u0e00-\u0e4e\u0e80-\u0ece\u1000-\u1049\u1100-\u11ff\u1780-\u17d3\u3005-\u3007\u3041-\u3096"
    "\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3105-\u312f\u3130-\u318f\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff"
)
# Vowel signs and points, which are no letters to Python but part of their words.
_MARKS = (
    "\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a"
    "\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed\u0711\u0730-\u074a\u0900-\u0963"
    "\u0966-\u0df3\u0f18-\u0f39\u0f3e-\u0fbc\u135d-\u135f"
)
_RUN = re.compile(
    rf"(?P<dense>[{_DENSE}]+)"
    rf"|\d+(?:[.,]\d+)+"
    rf"|(?:(?![{_DENSE}])[^\W_]|[{_MARKS}])+(?:['’](?=[a-z])[a-z]+)?"
)
_ASCII_RUN = re.compile(r"\d+(?:[.,]\d+)+|[a-z0-9]+(?:'(?=[a-z])[a-z]+)?")
"""`_RUN` where nothing but ASCII in lower case can come; three times as fast."""
STOPWORDS = frozenset(
    "a about also am an and any are as at be been being but by can could did do does doing for "
    "from had has have having he her hers him his how i if in into is it its itself just may me "
    "might much my of on or our ours shall she should so some such than that the their theirs "
    "them then there these they this those through to too up us very was we were what when where "
    "which while who whom whose why will with would you your yours".split()
)
_VOWEL = re.compile(r"[aeiouy]")
_MIN_STEM = 3


def words_among(text: str, wanted: Collection[str]) -> list[str | None]:
    """`words_of(text)`, with `None` in place of those that are not `wanted`.

    Folding an ending leaves the first two letters as they are: most words need no folding then.
    """
    beginnings = {word[:2] for word in wanted}
    found: list[str | None] = []
    for word in _plain_words(text):
        folded = _stem(word) if word[:2] in beginnings else None
        found.append(folded if folded in wanted else None)
    return found


def words_of(text: str) -> list[str]:
    """The folded words of `text` in order. Any string will do; linear in its length.

    Questions of function words alone have none. Numbers keep their points and commas; what is
    compatible in Unicode (full-width letters, ligatures) is one.
    """
    return [_stem(word) for word in _plain_words(text)]


def _plain_words(text: str) -> Iterator[str]:
    """The words of `text` with their endings, and pairs of characters."""
    if text.isascii():
        runs = _ASCII_RUN.findall(text.lower())
        words = (run.partition("'")[0] for run in runs)
        yield from (word for word in words if word not in STOPWORDS)
        return
    folded = unicodedata.normalize("NFKC", text).casefold()
    for match in _RUN.finditer(folded):
        run = match.group()
        if match["dense"] is not None:
            yield from [run] if len(run) == 1 else (run[i : i + 2] for i in range(len(run) - 1))
            continue
        word = run.replace("’", "'").partition("'")[0] if "'" in run or "’" in run else run
        if word and word not in STOPWORDS:
            yield word


def _stem(word: str) -> str:
    """`word` without its English ending; others than ASCII words are left as they are."""
    if len(word) <= _MIN_STEM or not (word.isascii() and word.isalpha()):
        return word
    if word.endswith("ies") and len(word) > 4 and word[-4] not in "ea":
        word = f"{word[:-3]}y"
    elif word.endswith("es") and word[-3] in "sxz" or word.endswith(("ches", "shes")):
        word = word[:-2]
    elif word.endswith("s") and word[-2] not in "us":
        word = word[:-1]
    for ending in ("ingly", "edly", "ing", "ed", "ly"):
        stem = word[: -len(ending)]
        if word.endswith(ending) and len(stem) >= _MIN_STEM and _VOWEL.search(stem):
            word = stem[:-1] if stem[-1] == stem[-2] and stem[-1] not in "lsz" else stem
            break
    if word.endswith("e") and len(word) > _MIN_STEM:
        word = word[:-1]
    return f"{word[:-1]}i" if word.endswith("y") and len(word) > _MIN_STEM else word
