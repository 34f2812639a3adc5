"""Which headers go on and which end here (RFC 9110, section 7.6.1)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from .types import RawHeaders

__all__ = ["HOP_HEADER", "OWN_PREFIX", "RequestHead", "read_head", "response_headers"]

OWN_PREFIX: Final = b"x-ctxpress-"
HOP_HEADER: Final = "x-ctxpress-hop"

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
# Set anew for the upstream, or answered by the server on this side.
_REQUEST_ENDS = _HOP_BY_HOP | {b"host", b"content-length", b"expect", b"http2-settings"}
_CREDENTIALS = frozenset({b"authorization", b"x-api-key", b"api-key"})
_WATCHED = (
    _REQUEST_ENDS | _CREDENTIALS | {b"content-encoding", b"content-type", b"anthropic-version"}
)
_ANSWER_WATCHED = _HOP_BY_HOP | {b"content-type", b"content-encoding"}
_HARMLESS_OPTIONS = frozenset({b"keep-alive", b"close", b""})


@dataclass(slots=True)
class RequestHead:
    """A request's headers, sorted in one pass.

    ``forwarded`` holds what goes upstream beside credentials, in order and with duplicates;
    ``credentials`` the headers that carry the caller's key; ``own`` the ``x-ctxpress-*`` ones.
    """

    forwarded: list[tuple[str, str]] = field(default_factory=list)
    credentials: list[tuple[str, str]] = field(default_factory=list)
    own: dict[str, str] | None = None
    content_length: int | None = None
    chunked: bool = False
    encoded: bool = False
    json: bool = False
    anthropic: bool = False

    @property
    def has_body(self) -> bool:
        """Whether the request announces a body."""
        return self.chunked or self.content_length is not None

    @property
    def signed(self) -> bool:
        """Whether a signature covers the body (AWS SigV4)."""
        return any(value.startswith("AWS4-HMAC") for _, value in self.credentials)


def read_head(headers: Iterable[tuple[bytes, bytes]]) -> RequestHead:
    """Sort the headers of a request; names come in lower case, as ASGI has them."""
    head = RequestHead()
    forwarded = head.forwarded
    options: list[bytes] | None = None
    for name, value in headers:
        if name not in _WATCHED:
            if name.startswith(OWN_PREFIX):
                head.own = head.own or {}
                head.own[name.decode("latin-1")] = value.decode("latin-1")
            else:
                forwarded.append((name.decode("latin-1"), _text(value)))
        elif name in _CREDENTIALS:
            head.credentials.append((name.decode(), _text(value)))
        elif name not in _REQUEST_ENDS:
            forwarded.append((name.decode(), _text(value)))
            if name == b"content-type":
                head.json = b"json" in value.lower()
            elif name == b"content-encoding":
                head.encoded = value.strip().lower() not in (b"", b"identity")
            else:
                head.anthropic = True
        elif name == b"content-length":
            head.content_length = int(value)
        elif name == b"transfer-encoding":
            head.chunked = True
        elif name == b"connection":
            options = (options or []) + [token.strip() for token in value.lower().split(b",")]
    if options and not _HARMLESS_OPTIONS.issuperset(options):
        named = {option.decode("latin-1") for option in options}
        head.forwarded = [pair for pair in forwarded if pair[0] not in named]
    return head


def response_headers(
    raw: Iterable[tuple[bytes, bytes]], own: RawHeaders
) -> tuple[RawHeaders, bool]:
    """An upstream's response headers less those of its connection, and ours behind them.

    The second value says whether the body is a stream of events that text can be added to.
    """
    kept: RawHeaders = []
    named: set[bytes] | None = None
    events, encoded = False, False
    for pair in raw:
        name = pair[0].lower()
        if name not in _ANSWER_WATCHED:
            kept.append(pair)
        elif name == b"content-type":
            kept.append(pair)
            events = pair[1].lstrip()[:17].lower() == b"text/event-stream"
        elif name == b"content-encoding":
            kept.append(pair)
            encoded = pair[1].strip().lower() != b"identity"
        elif name == b"connection":
            options = {token.strip() for token in pair[1].lower().split(b",")}
            if not _HARMLESS_OPTIONS.issuperset(options):
                named = options if named is None else named | options
    if named:
        kept = [pair for pair in kept if pair[0].lower() not in named]
    kept += own
    return kept, events and not encoded


def _text(value: bytes) -> str:
    """The value as text that the client library writes back as the same bytes.

    It writes UTF-8; a value that is not UTF-8 has no faithful form and goes as Latin-1 text.
    """
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
