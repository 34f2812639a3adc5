"""Token counts in the target model's own tokenizer where it is at hand, else estimates that say so.

Nothing is ever downloaded. Looked for, in this order:

1. ``<tokenizer_dir>/<model>/tokenizer.json``, which an operator put there;
2. for OpenAI's models, the package ``tiktoken`` with the encoding's file in its cache folder;
3. for other names, ``tokenizer.json`` in the Hugging Face cache;
4. the bundled WordPiece tokenizer with coefficients calibrated for the model's family.
"""

from __future__ import annotations

import hashlib
import logging
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ctxpress import stage
from ctxpress.token_estimate import estimate_tokens, weights_of
from ctxpress.token_features import TextFeatures
from ctxpress.token_files import (
    find_hugging_face_file,
    find_tiktoken_file,
    find_tokenizer_file,
    read_capped,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = [
    "EstimatingCounter",
    "TiktokenCounter",
    "TokenCounter",
    "TokenCounters",
    "TokenizersCounter",
    "create_counter",
    "family_of",
]

logger = logging.getLogger(__name__)

_ESTIMATE_VERSION = 1  # raised with every change of features or coefficients
_BLANK_CHARACTERS = 100_000
_MAX_MODELS = 256

# The first pattern that is found in a model's lower-case name, between separators, decides.
_FAMILIES: tuple[tuple[str, str], ...] = (
    (r"gpt-?[5-9]|gpt-4o|gpt-4\.[15]|chatgpt-4o|gpt-oss|o[1-9]|codex", "o200k_base"),
    (r"gpt-?4|gpt-?3\.?5|text-embedding-(3|ada)|davinci-002|babbage-002", "cl100k_base"),
    (r"claude|anthropic", "claude"),
    (
        r"(?:code)?llama|mi[sx]tral|qwen|deepseek|gemma|phi|granite|falcon|yi|glm|kimi|vicuna",
        "llama",
    ),
)
_DEFAULT_FAMILY = "o200k_base"


class TokenCounter(stage.TokenCounter, Protocol):
    """Counts tokens: what stages are promised, and many texts at once.

    Any string is fine: lone surrogates count as replacement characters, names of special tokens
    (``<|endoftext|>``) as ordinary text. Safe to use from several threads.
    """

    def count_many(self, texts: Sequence[str]) -> list[int]:
        """:meth:`count` of every text, in order."""


class TiktokenCounter:
    """The exact count of an OpenAI encoding."""

    estimated = False

    def __init__(self, name: str, encode: Callable[[str], Sequence[int]]) -> None:
        """``encode`` turns text into token ids, special tokens read as text."""
        self.identity = f"tiktoken:{name}"
        self._encode = encode

    def count(self, text: str) -> int:
        """Tokens in ``text``."""
        return sum(len(self._encode(part)) for part in _cut_blanks(_well_formed(text)))

    def count_many(self, texts: Sequence[str]) -> list[int]:
        """:meth:`count` of every text."""
        return [self.count(text) for text in texts]


class TokenizersCounter:
    """The exact count of a ``tokenizer.json``; nothing is added in front or behind."""

    estimated = False

    def __init__(self, content: bytes) -> None:
        """Read the file's ``content``.

        :raises ValueError: it is no tokenizer.
        """
        self.identity = f"tokenizers:{hashlib.sha256(content).hexdigest()[:16]}"
        self._tokenizer = _read_tokenizer(content)

    def count(self, text: str) -> int:
        """Tokens in ``text``."""
        return len(self._tokenizer.encode(_well_formed(text), add_special_tokens=False))

    def count_many(self, texts: Sequence[str]) -> list[int]:
        """:meth:`count` of every text."""
        return [self.count(text) for text in texts]


class EstimatingCounter:
    """An estimate for a family of tokenizers; ``token_estimate`` says how far it is off."""

    estimated = True

    def __init__(
        self, family: str = _DEFAULT_FAMILY, *, features: TextFeatures | None = None
    ) -> None:
        """``features`` may be shared: they hold the bundled tokenizer, read at the first count."""
        self.identity = f"bundled-calibrated:{_ESTIMATE_VERSION}:{family}"
        self._features = features or TextFeatures(_load_bundled)
        self._weights = weights_of(family)

    def count(self, text: str) -> int:
        """About how many tokens ``text`` has.

        :raises ModelError: the bundled tokenizer is damaged.
        """
        return estimate_tokens(text, self._features, self._weights)

    def count_many(self, texts: Sequence[str]) -> list[int]:
        """:meth:`count` of every text."""
        return [self.count(text) for text in texts]


class TokenCounters:
    """Counters by model, each loaded once. Thread-safe.

    Model names come from requests: names are forgotten above a bound, and names that come to the
    same counter share it, as all estimates share one tokenizer.
    """

    def __init__(self, *, tokenizer_dir: Path | None = None) -> None:
        self._tokenizer_dir = tokenizer_dir
        self._features = TextFeatures(_load_bundled)
        self._lock = threading.Lock()
        self._by_model: dict[str | None, TokenCounter] = {}
        self._by_identity: dict[str, TokenCounter] = {}

    def known(self, model: str | None) -> TokenCounter | None:
        """The counter of ``model`` where it has been loaded; never takes long."""
        return self._by_model.get(model)

    def load(self, model: str | None) -> TokenCounter:
        """The counter of ``model``; may read files for up to a second."""
        with self._lock:
            counter = self._by_model.get(model)
            if counter is None:
                counter = create_counter(
                    model, tokenizer_dir=self._tokenizer_dir, features=self._features
                )
                if len(self._by_model) >= _MAX_MODELS:
                    self._by_model.clear()
                    self._by_identity.clear()
                counter = self._by_identity.setdefault(counter.identity, counter)
                self._by_model[model] = counter
            return counter


def create_counter(
    model: str | None, *, tokenizer_dir: Path | None = None, features: TextFeatures | None = None
) -> TokenCounter:
    """The best counter at hand for ``model``; an estimate for names that nobody knows.

    Loading an exact one takes up to a second. A file that cannot be read is passed over,
    with a warning. ``features`` are what an estimate counts with; :class:`TokenCounters` shares
    them.
    """
    name = model or ""
    family = family_of(name)
    own = find_tokenizer_file(name, tokenizer_dir) if tokenizer_dir else None
    if own is not None and (counter := _open_tokenizer(own)) is not None:
        return counter
    if family in ("o200k_base", "cl100k_base"):
        return _open_tiktoken(family) or EstimatingCounter(family, features=features)
    cached = find_hugging_face_file(name)
    if cached is not None and (counter := _open_tokenizer(cached)) is not None:
        return counter
    return EstimatingCounter(family or _DEFAULT_FAMILY, features=features)


def family_of(model: str) -> str | None:
    """The family whose coefficients suit ``model``; ``None`` for unknown names.

    Prefixes of routers and regions do not matter: ``azure/gpt-4o``, ``eu.anthropic.claude-…``.
    """
    for pattern, family in _FAMILIES:
        if re.search(rf"(?<![a-z0-9])(?:{pattern})(?![a-z])", model.lower()):
            return family
    return None


def _open_tokenizer(path: Path) -> TokenizersCounter | None:
    content = read_capped(path)
    try:
        if content is not None:
            return TokenizersCounter(content)
        logger.warning("%s cannot be read or is too large; its counts are estimated", path)
    except ValueError as error:
        logger.warning("%s: %s; its counts are estimated", path, error)
    return None


def _open_tiktoken(name: str) -> TiktokenCounter | None:
    if find_tiktoken_file(name) is None:
        return None
    try:
        import tiktoken
    except ImportError:
        return None
    return TiktokenCounter(name, tiktoken.get_encoding(name).encode_ordinary)


def _read_tokenizer(content: bytes) -> Tokenizer:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_buffer(content)
    except Exception as error:  # tokenizers raises bare Exception
        raise ValueError(f"not a tokenizer: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


def _load_bundled() -> Tokenizer:
    from ctxpress.models import load_bundled_tokenizer

    return load_bundled_tokenizer()


def _cut_blanks(text: str) -> Iterator[str]:
    """``text`` cut inside white space of many thousand characters, on which tiktoken panics.

    Such texts count for a token more a cut.
    """
    start = 0
    for position in range(_BLANK_CHARACTERS, len(text), _BLANK_CHARACTERS):
        if text[position : position + _BLANK_CHARACTERS].isspace():
            yield text[start:position]
            start = position
    yield text[start:]


def _well_formed(text: str) -> str:
    """``text`` with lone surrogates replaced, as the wire would."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
