"""Keys of chunks of KV: which model, which tokens behind which, in which form.

KV of a token depends on all tokens before it, so a chunk's identity holds a chain of digests: a
chunk is found again only behind the same text. Digests are over length-prefixed fields, so that
no two different sets of fields give the same bytes.
"""

from __future__ import annotations

import array
import hashlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from ctxpress.cache.identity import KVIdentity

if TYPE_CHECKING:
    from ctxpress.cache.codec import Codec

__all__ = ["DEFAULT_CHUNK_TOKENS", "CacheKey", "KVLevel", "chunk_keys", "tokens_digest"]

DEFAULT_CHUNK_TOKENS = 256
_DIGEST_CHARS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class KVLevel:
    """One form that a chunk is kept in: a codec's name, and the SHA-256 of its calibration."""

    codec: str
    calibration: str = ""

    @classmethod
    def of(cls, codec: Codec) -> KVLevel:
        """The level that ``codec`` writes and reads."""
        return cls(codec=codec.name, calibration=codec.calibration_sha256)

    def __str__(self) -> str:
        return f"{self.codec}@{self.calibration[:12]}" if self.calibration else self.codec


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheKey:
    """The KV of one chunk of tokens, whatever level it is kept at.

    ``identity``: every field of it counts, the empty ones too; ``tokens`` is that of
    :func:`tokens_digest`. ``rotated_from``: the position of the first token where keys are kept
    rotated, and ``None`` where they are kept un-rotated and fit any position.

    :raises ValueError: the identity names no model or no tokens, or the position is negative.
    """

    identity: KVIdentity
    rotated_from: int | None = None

    def __post_init__(self) -> None:
        if not self.identity.model or not self.identity.tokens:
            raise ValueError("a key's identity must name the model and the tokens")
        if self.rotated_from is not None and self.rotated_from < 0:
            raise ValueError(f"rotated_from must not be negative, and is {self.rotated_from}")

    def digest(self, level: KVLevel) -> bytes:
        """SHA-256 of this key and ``level``; the same on every machine."""
        position = "" if self.rotated_from is None else str(self.rotated_from)
        values = [getattr(self.identity, field.name) for field in fields(self.identity)]
        return _sha256("kv chunk", *values, position, level.codec, level.calibration).digest()


def tokens_digest(token_ids: Iterable[int], *, before: str = "") -> str:
    """SHA-256 of token ids and of all that stood ``before`` them, in hexadecimal.

    ``before`` is the digest of the tokens before these; empty at the start of a text.

    :raises ValueError: ``before`` is no such digest, or an id does not fit into 32 bits.
    """
    if before and not (len(before) == _DIGEST_CHARS and set(before) <= set("0123456789abcdef")):
        raise ValueError("before is not a digest of tokens: 64 hexadecimal digits")
    try:
        ids = array.array("I", token_ids)
    except (OverflowError, TypeError) as error:
        raise ValueError(f"token ids are whole numbers from 0 to 2**32 - 1: {error}") from None
    if sys.byteorder == "big":
        ids.byteswap()
    digest = _sha256("tokens", before)
    digest.update(ids.tobytes())  # last and alone, so it needs no length
    return digest.hexdigest()


def chunk_keys(
    identity: KVIdentity,
    token_ids: Sequence[int],
    *,
    chunk_tokens: int = DEFAULT_CHUNK_TOKENS,
    before: str = "",
    rotated_from: int | None = None,
) -> list[CacheKey]:
    """The keys of ``token_ids`` in chunks of ``chunk_tokens``, the last of what is left.

    ``identity`` names the model; its ``tokens`` is replaced. ``before``: see
    :func:`tokens_digest`. ``rotated_from``: the position of the first token, for rotated keys.

    :raises ValueError: see :class:`CacheKey`, :func:`tokens_digest`; chunks of no tokens.
    """
    if chunk_tokens < 1:
        raise ValueError(f"chunk_tokens must be at least 1, and is {chunk_tokens}")
    keys = []
    for start, chunk in _chunks(token_ids, chunk_tokens):
        before = tokens_digest(chunk, before=before)
        position = None if rotated_from is None else rotated_from + start
        keys.append(CacheKey(identity=replace(identity, tokens=before), rotated_from=position))
    return keys


def _chunks(token_ids: Sequence[int], size: int) -> Iterator[tuple[int, Sequence[int]]]:
    for start in range(0, len(token_ids), size):
        yield start, token_ids[start : start + size]


def _sha256(kind: str, *texts: str) -> hashlib._Hash:
    """A hash over ``kind`` and ``texts``, each behind its length."""
    digest = hashlib.sha256()
    for text in (f"ctxpress {kind}", *texts):
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest
