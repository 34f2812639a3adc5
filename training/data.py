"""Passages with word labels: reading, splitting, and turning them into text that looks like
prompts.

A *piece* is a run of characters with one label: 0 dropped, 1 kept in `half`, 2 kept in `core`, or
`IGNORED` for text that augmentation adds and no teacher has judged.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from ctxpress.models.encoding import EncodedText, encode_text

IGNORED = -1


@dataclass(frozen=True, slots=True)
class Passage:
    """One distilled passage; `labels[i]` in {0, 1, 2} belongs to `words[i]`."""

    id: str
    domain: str
    source: str
    words: tuple[str, ...]
    labels: tuple[int, ...]

    @property
    def text(self) -> str:
        return " ".join(self.words)


@dataclass(frozen=True, slots=True)
class Labelled:
    """An encoded text with a label and a loss weight a sub-token, both of shape (n_tokens,)."""

    encoded: EncodedText
    labels: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32]


def load_passages(path: Path) -> list[Passage]:
    """Read `passages.jsonl`; raises ValueError where labels and words do not match."""
    passages = []
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            words = tuple(row["text"].split())
            if not len(words) == len(row["half"]) == len(row["core"]):
                raise ValueError(f"passage {row['id']}: labels do not match its words")
            labels = tuple(int(h) + int(c) for h, c in zip(row["half"], row["core"], strict=True))
            passages.append(Passage(row["id"], row["domain"], row["source"], words, labels))
    return passages


def split(passages: Sequence[Passage], held_out: float) -> tuple[list[Passage], list[Passage]]:
    """(train, held-out): by a hash, about `held_out` of the words of each domain.

    Passages of one source (a file, a meeting, a question), and encyclopedia passages of one page
    title, never part: near-duplicates stay on one side.
    """
    groups = _groups(passages)
    by_domain: dict[str, list[list[Passage]]] = defaultdict(list)
    for group in groups:
        by_domain[group[0].domain].append(group)
    train: list[Passage] = []
    held: list[Passage] = []
    for domain in sorted(by_domain):
        ranked = sorted(by_domain[domain], key=lambda group: _hash(min(p.id for p in group)))
        budget = held_out * sum(len(p.words) for group in ranked for p in group)
        for group in ranked:
            size = sum(len(p.words) for p in group)
            target = held if size <= budget else train
            budget -= size if target is held else 0
            target.extend(group)
    return train, held


def _groups(passages: Iterable[Passage]) -> list[list[Passage]]:
    leader: dict[str, str] = {}

    def find(key: str) -> str:
        while leader.setdefault(key, key) != key:
            key = leader[key]
        return key

    members: dict[str, list[Passage]] = defaultdict(list)
    passages = list(passages)
    for passage in passages:
        title = passage.text.split(". ")[0] if passage.domain == "wiki" else passage.source
        leader[find(f"{passage.domain}/title/{title}")] = find(f"{passage.domain}/{passage.source}")
    for passage in passages:
        members[find(f"{passage.domain}/{passage.source}")].append(passage)
    return list(members.values())


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


# --- augmentation -----------------------------------------------------------------------------

_ATTACHED = re.compile(r"^(?:[,.;:?!)\]]+|'[a-z]{1,2}|n't)$", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.?!][\"')\]]*$")
_TITLES = frozenset({"Hon.", "Mr.", "Mrs.", "Ms.", "Dr."})
Pieces = list[tuple[str, int]]


def pieces_of(passage: Passage, rng: random.Random | None = None) -> Pieces:
    """The passage as (characters, label) pieces; with `rng`, augmented."""
    if rng is None:
        return _spaced(passage.words, passage.labels)
    words, labels = list(passage.words), list(passage.labels)
    glued = [False] * len(words)
    if passage.domain == "meeting" and rng.random() < 0.65:
        glued = [bool(_ATTACHED.match(word)) and index > 0 for index, word in enumerate(words)]
    pieces: Pieces = []
    breaks = _line_breaks(passage, rng)
    previous = IGNORED
    for index, (word, label) in enumerate(zip(words, labels, strict=True)):
        if glued[index]:
            label = max(label, previous)
        elif index:
            pieces.append((breaks.get(index, " "), IGNORED))
        elif 0 in breaks:
            pieces.append((breaks[0].lstrip("\n"), IGNORED))
        previous = label
        pieces.append((word, label))
    return _recased(_emphasised(pieces, rng), rng)


def _spaced(words: Sequence[str], labels: Sequence[int]) -> Pieces:
    pieces: Pieces = []
    for word, label in zip(words, labels, strict=True):
        pieces += [(" ", IGNORED)] * bool(pieces) + [(word, label)]
    return pieces


def _line_breaks(passage: Passage, rng: random.Random) -> dict[int, str]:
    """Word index to what stands before that word instead of a blank: new lines, list markers."""
    words = passage.words
    sentence_starts = [i + 1 for i, w in enumerate(words[:-1]) if _SENTENCE_END.search(w)]
    breaks: dict[int, str] = {}
    choice = rng.random()
    if passage.domain == "meeting" and choice < 0.6:
        breaks = dict.fromkeys(_speaker_starts(words), "\n")
    elif choice < 0.75:
        marker = rng.choice(["- ", "* ", "• ", "1. ", "", ""])
        breaks = dict.fromkeys([0, *sentence_starts], "\n" + marker)
    elif choice < 0.85:
        breaks = {start: "\n" for start in sentence_starts if rng.random() < 0.4}
    elif choice < 0.93 and passage.domain in ("wiki", "docs"):
        number = rng.randint(1, 20)
        breaks[0] = rng.choice([f"[{number}] ", f"Document [{number}]: ", "## ", "# ", "Passage: "])
        if sentence_starts and passage.domain == "wiki":
            breaks[sentence_starts[0]] = rng.choice(["\n", "\n\n", " "])
    return breaks


def _speaker_starts(words: Sequence[str]) -> list[int]:
    starts = []
    for index, word in enumerate(words):
        if not word.endswith(":") or not word[:1].isupper():
            continue
        start = index
        while start > 0 and index - start < 5 and _names_speaker(words[start - 1]):
            start -= 1
        if start:
            starts.append(start)
    return starts


def _names_speaker(word: str) -> bool:
    return word in _TITLES or (word[:1].isupper() and not re.search(r"[.?!,:]$", word))


def _emphasised(pieces: Pieces, rng: random.Random) -> Pieces:
    if rng.random() >= 0.1:
        return pieces
    mark = rng.choice(["**", "*", "_", "`"])
    return [
        (f"{mark}{chars}{mark}", label) if label == 2 and rng.random() < 0.15 else (chars, label)
        for chars, label in pieces
    ]


def _recased(pieces: Pieces, rng: random.Random) -> Pieces:
    choice = rng.random()
    if choice < 0.04:
        return [(chars.lower(), label) for chars, label in pieces]
    if choice < 0.05:
        return [(chars.upper(), label) for chars, label in pieces]
    return pieces


# --- encoding ---------------------------------------------------------------------------------


def label_pieces(tokenizer: Tokenizer, pieces: Pieces) -> Labelled:
    """Encode joined pieces; a sub-token takes the label of the piece of its first character.

    Weights are 1 / sqrt(sub-tokens of the piece): a long identifier counts more than a short word,
    but not by as much as it is longer.
    """
    encoded = encode_text(tokenizer, "".join(chars for chars, _ in pieces))
    lengths = np.array([len(chars) for chars, _ in pieces])
    owner = np.searchsorted(np.cumsum(lengths), encoded.starts, side="right")
    labels = np.array([label for _, label in pieces], dtype=np.int64)[owner]
    sizes = np.bincount(owner, minlength=len(pieces))[owner]
    weights = np.where(labels == IGNORED, 0.0, 1.0 / np.sqrt(np.maximum(sizes, 1)))
    return Labelled(encoded, labels, weights.astype(np.float32))


def epoch_stream(
    tokenizer: Tokenizer, passages: Sequence[Passage], rng: random.Random
) -> Iterator[Labelled]:
    """All passages once, augmented, in an order that keeps half of the sources together.

    Every passage but the first starts with a separator, so that the stream reads as one long text.
    """
    keyed = []
    group_keys: dict[str, float] = defaultdict(rng.random)
    for passage in passages:
        keyed.append((group_keys[passage.source] if rng.random() < 0.5 else rng.random(), passage))
    for _, passage in sorted(keyed, key=lambda item: (item[0], item[1].id)):
        separator = rng.choice(["\n\n", "\n\n", "\n", " "])
        yield label_pieces(tokenizer, [(separator, IGNORED), *pieces_of(passage, rng)])
