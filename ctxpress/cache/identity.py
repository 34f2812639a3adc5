"""Which KV this is: the model that computed it, and the text that it was computed from."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ctxpress.errors import IdentityMismatchError

__all__ = ["KVIdentity"]

_MAX_FIELD_CHARS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class KVIdentity:
    """What KV belongs to; an empty field says nothing.

    ``model``: name or digest of the weights. ``revision``: their revision. ``tokenizer``: its
    digest. ``rope``: the rotary embedding's parameters in one line. ``dtype``: that of the
    tensors, which a block or container that says so must have. ``tokens``: SHA-256 of the token
    ids and of all that stood before them. ``shard``: the part of the heads, as ``0/1``.

    :raises ValueError: a field is no text, too long, or not printable ASCII.
    """

    model: str = ""
    revision: str = ""
    tokenizer: str = ""
    rope: str = ""
    dtype: str = ""
    tokens: str = ""
    shard: str = ""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, str) or len(value) > _MAX_FIELD_CHARS:
                raise ValueError(
                    f"identity.{field.name} must be a text of at most {_MAX_FIELD_CHARS} characters"
                )
            if not (value.isascii() and value.isprintable()):
                raise ValueError(f"identity.{field.name} must be printable ASCII")

    def require(self, expected: KVIdentity) -> None:
        """Return where every field that ``expected`` names is the same here.

        :raises IdentityMismatchError: one is not; the message names it and both values.
        """
        for field in fields(self):
            wanted, held = getattr(expected, field.name), getattr(self, field.name)
            if wanted and wanted != held:
                raise IdentityMismatchError(
                    f"the container's {field.name} is {held!r}, and {wanted!r} was asked for"
                )
