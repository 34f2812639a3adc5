"""Pieces of prompts to tokens, each piece that comes again for nothing."""

from __future__ import annotations

import hashlib
import threading
from array import array
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from ctxpress.tokenizer_folder import TokenizerFolder

__all__ = ["PieceCache", "RequestTokenizer"]

_MAX_TOKENS = 4 * 1024 * 1024  # of four bytes
_SHORT_CHARACTERS = 256


class PieceCache:
    """Token ids of texts that were seen lately; for many threads."""

    def __init__(self, tokenizer: TokenizerFolder, max_tokens: int = _MAX_TOKENS) -> None:
        self.tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._held: OrderedDict[bytes, array[int]] = OrderedDict()
        self._n_tokens = 0
        self._lock = threading.Lock()

    def token_ids(self, text: str) -> Sequence[int]:
        """The tokens of a piece of text."""
        if len(text) < _SHORT_CHARACTERS:
            return self.tokenizer.token_ids(text)
        key = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        with self._lock:
            ids = self._held.get(key)
            if ids is not None:
                self._held.move_to_end(key)
                return ids
        ids = array("I", self.tokenizer.token_ids(text))
        with self._lock:
            if key not in self._held and len(ids) <= self._max_tokens:
                self._held[key] = ids
                self._n_tokens += len(ids)
                while self._n_tokens > self._max_tokens:
                    self._n_tokens -= len(self._held.popitem(last=False)[1])
        return ids


class RequestTokenizer:
    """The tokenizer as one request needs it: with the variables that it has for the template."""

    def __init__(self, cache: PieceCache, variables: Mapping[str, Any]) -> None:
        self._cache = cache
        self._variables = variables

    @property
    def name(self) -> str:
        return self._cache.tokenizer.name

    @property
    def leading_ids(self) -> Sequence[int]:
        return self._cache.tokenizer.leading_ids

    def token_ids(self, text: str) -> Sequence[int]:
        return self._cache.token_ids(text)

    def chat_text(self, messages: Sequence[Mapping[str, str]]) -> str:
        return self._cache.tokenizer.chat_text(messages, self._variables)
