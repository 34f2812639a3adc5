"""What a text is made of, in numbers that tell how many tokens it has.

Byte-pair encoders first cut text into words, groups of digits, runs of punctuation and runs of
white space, then cut rare words into pieces. The features count such things; the bundled
WordPiece tokenizer says how rare a Latin word is. All are sums over the text and (nearly) all
shrink when a word is deleted, so an estimate with coefficients that are not negative does too.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["FEATURES", "TextFeatures"]

_SLICE_CHARACTERS = 2**20  # bounds memory, about 30 bytes a character
_MAX_WORD_CHARACTERS = 60  # WordPiece gives up on words of more than 100
_WORDS_A_CALL = 4_096
_MAX_WORDS_KNOWN = 32_768  # bounds the memory of known words: at most 5 MB
_NOT_LATIN = re.compile("[^A-Za-zÀ-ÖØ-öø-ɏḀ-ỿ]+")
_LONG_WORD = re.compile(f"[^ ]{{{_MAX_WORD_CHARACTERS}}}(?=[^ ])")

# Classes of characters: name, and its ranges of code points, ends included. Later ones win.
_CLASSES: dict[str, tuple[tuple[int, int], ...]] = {
    "other": ((0x0, 0xFFFF),),
    "punctuation": ((0x21, 0x7E),),
    "digit": ((0x30, 0x39),),
    "lower": ((0x61, 0x7A),),
    "upper": ((0x41, 0x5A),),
    "space": ((0x09, 0x09), (0x20, 0x20), (0xA0, 0xA0), (0x2000, 0x200A), (0x3000, 0x3000)),
    "newline": ((0x0A, 0x0D), (0x85, 0x85), (0x2028, 0x2029)),
    "sign": ((0xA1, 0xBF), (0xD7, 0xD7), (0xF7, 0xF7), (0x200B, 0x2027), (0x202A, 0x206F)),
    "accented": ((0xC0, 0xD6), (0xD8, 0xF6), (0xF8, 0x24F), (0x1E00, 0x1EFF)),
    "mark": ((0x300, 0x36F),),
    "greek": ((0x370, 0x3FF), (0x1F00, 0x1FFF)),
    "cyrillic": ((0x400, 0x52F),),
    "hebrew": ((0x590, 0x5FF),),
    "arabic": ((0x600, 0x6FF), (0x750, 0x77F), (0x8A0, 0x8FF), (0xFB50, 0xFDFF), (0xFE70, 0xFEFE)),
    "devanagari": ((0x900, 0x97F),),
    "indic": ((0x980, 0xDFF),),
    "thai": ((0xE00, 0xE7F),),
    "symbol": ((0x2070, 0x2BFF),),
    "kana": ((0x3040, 0x30FF),),
    "han": ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF)),
    "hangul": ((0x1100, 0x11FF), (0xAC00, 0xD7AF)),
    "wide_sign": ((0x3001, 0x303F), (0xFF00, 0xFFEF)),
    "surrogate": ((0xD800, 0xDFFF),),
    "astral": (),
}
_NUMBER = {name: number for number, name in enumerate(_CLASSES)}
_SPACE, _NEWLINE = _NUMBER["space"], _NUMBER["newline"]
_LOWER, _UPPER, _DIGIT = _NUMBER["lower"], _NUMBER["upper"], _NUMBER["digit"]
_PUNCTUATION = _NUMBER["punctuation"]
_WHITE = (_SPACE, _NEWLINE)
_LATIN = (_LOWER, _UPPER, _NUMBER["accented"])
_COUNTED = (
    "other", "sign", "accented", "mark", "greek", "cyrillic", "hebrew", "arabic", "devanagari",
    "indic", "thai", "symbol", "kana", "han", "hangul", "wide_sign", "surrogate", "astral",
)  # fmt: skip
_WORDS_COUNTED = ("greek", "cyrillic", "hebrew", "arabic", "devanagari", "indic", "hangul", "other")

FEATURES: tuple[str, ...] = (
    "latin_words",            # words of Latin letters at the beginning or after white space
    "joined_words",           # words after anything else, and parts of long ones
    "latin_pieces",           # what WordPiece cuts off from them
    "capitals_inside",        # capitals after a small letter: getUserName has two
    "capitals_in_a_row",      # capitals after a capital: README has five
    "digit_groups",           # groups of up to three digits
    "numbers_after_space",    # byte-pair encoders seldom join a number with the space before
    "punctuation_runs",       # runs of ASCII punctuation
    "punctuation_changes",    # neighbours in such runs that differ
    "punctuation_repeats",    # neighbours in such runs that are the same
    "line_ends",              # runs of white space with a line end
    "indents",                # runs of two or more spaces or tabs at the beginning of a line
    "wide_spaces",            # such runs elsewhere
    "white_characters",       # characters of white space beyond the first of a run
    *(f"{name}_characters" for name in _COUNTED),
    *(f"{name}_words" for name in _WORDS_COUNTED),
)  # fmt: skip


class TextFeatures:
    """Counts :data:`FEATURES`. Safe to use from several threads."""

    def __init__(self, load_tokenizer: Callable[[], Any]) -> None:
        """``load_tokenizer`` gives the WordPiece tokenizer; it is called at the first count."""
        self._load_tokenizer = functools.cache(load_tokenizer)
        self._pieces: dict[str, int] = {}

    def count(self, text: str) -> NDArray[np.float64]:
        """One number a feature; all zero for the empty string."""
        import numpy as np

        total = np.zeros(len(FEATURES))
        for part in _slices(text):
            total += self._count_slice(part)
        return total

    def _count_slice(self, text: str) -> NDArray[np.float64]:
        import numpy as np

        words, pieces = self._latin(text)
        codes, classes = _classified(text)
        pairs, alike = _pairs(classes)
        counts = np.bincount(classes, minlength=len(_CLASSES)).tolist()
        spaced = _between(pairs, _WHITE, _LATIN) + (classes[0] in _LATIN)
        return np.array(
            [
                spaced,
                words - spaced,
                pieces,
                pairs[_LOWER][_UPPER],
                alike[_UPPER],
                _digit_groups(classes) if counts[_DIGIT] else 0,
                pairs[_SPACE][_DIGIT],
                counts[_PUNCTUATION] - alike[_PUNCTUATION],
                *_changes(codes, classes, alike[_PUNCTUATION]),
                _line_ends(classes) if counts[_NEWLINE] else 0,
                *(_wide_spaces(classes) if alike[_SPACE] else (0, 0)),
                _between(pairs, _WHITE, _WHITE),
                *(counts[_NUMBER[name]] for name in _COUNTED),
                *(counts[_NUMBER[name]] - alike[_NUMBER[name]] for name in _WORDS_COUNTED),
            ],
            dtype=np.float64,
        )

    def _latin(self, text: str) -> tuple[int, int]:
        """Latin words, and the pieces that WordPiece cuts off from them."""
        spaced = _LONG_WORD.sub(r"\g<0> ", _NOT_LATIN.sub(" ", text))
        counted = Counter(spaced.split())
        known = self._pieces
        unknown = [word for word in counted if word not in known]
        if unknown:
            fresh = self._cut(unknown)
            if len(known) + len(fresh) > _MAX_WORDS_KNOWN:
                known = self._pieces = {word: known[word] for word in counted if word in known}
            if len(known) + len(fresh) <= _MAX_WORDS_KNOWN:
                known.update(fresh)
            else:
                known = known | fresh
        return counted.total(), sum(known[word] * times for word, times in counted.items())

    def _cut(self, words: Sequence[str]) -> dict[str, int]:
        tokenizer = self._load_tokenizer()
        pieces: dict[str, int] = {}
        # The tokenizer keeps the interpreter to itself for a whole call, so calls are short.
        for start in range(0, len(words), _WORDS_A_CALL):
            some = words[start : start + _WORDS_A_CALL]
            encoding = tokenizer.encode(some, is_pretokenized=True, add_special_tokens=False)
            tokens = Counter(encoding.word_ids)
            pieces |= {word: max(tokens[number] - 1, 0) for number, word in enumerate(some)}
        return pieces


def _slices(text: str) -> Iterator[str]:
    for start in range(0, len(text), _SLICE_CHARACTERS):
        yield text[start : start + _SLICE_CHARACTERS]


@functools.cache
def _class_table() -> NDArray[np.uint8]:
    import numpy as np

    table = np.zeros(0x10000, dtype=np.uint8)
    for name, ranges in _CLASSES.items():
        for first, last in ranges:
            table[first : last + 1] = _NUMBER[name]
    return table


def _classified(text: str) -> tuple[NDArray[np.integer[Any]], NDArray[np.uint8]]:
    """The code point and the class of every character; `text` is not empty."""
    import numpy as np

    if text.isascii():
        ascii_codes = np.frombuffer(text.encode("ascii"), dtype=np.uint8)
        return ascii_codes, _class_table()[ascii_codes]
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    classes = _class_table()[np.minimum(codes, 0xFFFF)]
    classes[codes > 0xFFFF] = _NUMBER["astral"]
    classes[(codes >= 0x20000) & (codes < 0x40000)] = _NUMBER["han"]
    return codes, classes


def _pairs(classes: NDArray[np.uint8]) -> tuple[list[list[int]], list[int]]:
    """How often each class stands right before each other one, and before itself.

    Most features are sums of these.
    """
    import numpy as np

    n_classes = len(_CLASSES)
    joined = classes[:-1] * np.uint16(n_classes) + classes[1:]
    counted = np.bincount(joined, minlength=n_classes * n_classes).reshape(n_classes, n_classes)
    return counted.tolist(), counted.diagonal().tolist()


def _between(pairs: Sequence[Sequence[int]], before: Sequence[int], after: Sequence[int]) -> int:
    return sum(pairs[left][right] for left in before for right in after)


def _digit_groups(classes: NDArray[np.uint8]) -> int:
    """Groups of up to three digits in runs of digits."""
    import numpy as np

    digit = np.zeros(len(classes) + 2, np.int8)
    digit[1:-1] = classes == _DIGIT
    edges = np.flatnonzero(np.diff(digit))
    return int(((edges[1::2] - edges[::2] + 2) // 3).sum())


def _changes(
    codes: NDArray[np.integer[Any]], classes: NDArray[np.uint8], n_inside: int
) -> tuple[int, int]:
    """Neighbours in runs of punctuation, `n_inside` in all: those that differ, and those alike."""
    if not n_inside:
        return 0, 0
    n_alike = int(((classes[1:] == _PUNCTUATION) & (codes[1:] == codes[:-1])).sum())
    return n_inside - n_alike, n_alike


def _line_ends(classes: NDArray[np.uint8]) -> int:
    """Runs of white space with a line end: the running count of runs moved between their ends."""
    import numpy as np

    newline = classes == _NEWLINE
    white = newline | (classes == _SPACE)
    starts = white.copy()
    starts[1:] &= ~white[:-1]
    run = np.cumsum(starts)[newline]
    return 1 + int((run[1:] != run[:-1]).sum())


def _wide_spaces(classes: NDArray[np.uint8]) -> tuple[int, int]:
    """Runs of two or more spaces: at the beginning of a line, and elsewhere."""
    space = classes == _SPACE
    wide = space[:-1] & space[1:]
    wide[1:] &= ~space[:-2]
    n_indents = int((wide[1:] & (classes[:-2] == _NEWLINE)).sum()) + int(wide[0])
    return n_indents, int(wide.sum()) - n_indents
