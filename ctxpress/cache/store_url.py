"""Store URLs: ``scheme://user:password@host:port/path?option=value``, checked option by option.

Passwords never reach a message: where a URL is wrong, only its scheme and option names are told.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from ctxpress.errors import ConfigError
from ctxpress.nearest import did_you_mean

__all__ = ["StoreUrl", "parse_bytes", "parse_count", "parse_flag", "parse_positive"]

T = TypeVar("T")

_UNITS = {"": 1, "b": 1, "kb": 2**10, "mb": 2**20, "gb": 2**30, "tb": 2**40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?(b?)", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """The parts of a store's URL, percent-decoded. Options are text until asked for.

    ``nodes``: hosts and ports of a ``…+cluster`` scheme, which takes several; ``None`` for no port.
    """

    scheme: str
    host: str = ""
    port: int | None = None
    nodes: tuple[tuple[str, int | None], ...] = ()
    path: str = ""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    options: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def parse(cls, url: str, *, options_of: Mapping[str, Iterable[str]]) -> StoreUrl:
        """Parse ``url``; ``options_of`` holds the option names of every known scheme.

        :raises ConfigError: an unknown scheme or option, or an address that cannot be read.
        """
        scheme, separator, _ = url.partition("://")
        if not separator or scheme not in options_of:
            raise ConfigError(f"unknown kind of store{_nearest(scheme, options_of)}")
        try:
            parts = urlsplit(url)
            nodes: tuple[tuple[str, int | None], ...] = ()
            if scheme.endswith("+cluster"):
                login, at, places = parts.netloc.rpartition("@")
                nodes = tuple(_host_and_port(place) for place in places.split(","))
                parts = parts._replace(netloc=f"{login}{at}")
            port, host = parts.port, parts.hostname or ""
            pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        except ValueError:
            # Not chained: the cause may quote a part of the password.
            raise ConfigError(f"{scheme}:// store: {_UNREADABLE}") from None
        # An unescaped '#', '?' or '/' in a password moves its rest into a later part.
        if parts.fragment or "@" in parts.query:
            raise ConfigError(f"{scheme}:// store: {_UNREADABLE}")
        options = dict(pairs)
        for name in options:
            if name not in options_of[scheme]:
                raise ConfigError(
                    f"{scheme}:// store has no option{_nearest(name, options_of[scheme])}"
                )
        if len(options) != len(pairs):
            raise ConfigError(f"{scheme}:// store: an option is given twice")
        return cls(
            scheme=scheme,
            host=host,
            port=port,
            nodes=nodes,
            path=unquote(parts.path),
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            options=options,
        )

    def option(self, name: str, read: Callable[[str], T], default: T) -> T:
        """The option ``name`` as ``read`` understands it; ``default`` where it is not given.

        :raises ConfigError: ``read`` raised ValueError.
        """
        text = self.options.get(name)
        if text is None:
            return default
        try:
            return read(text)
        except ValueError as error:
            raise ConfigError(f"{self.scheme}:// store, option {name}: {error}") from None


_UNREADABLE = (
    "the URL cannot be read; percent-encode special characters in user and password "
    "('/' is %2F, '@' is %40, '#' is %23, '?' is %3F)"
)


def _host_and_port(place: str) -> tuple[str, int | None]:
    parts = urlsplit(f"//{place}")
    if not parts.hostname or parts.path:
        raise ValueError("no host")
    return parts.hostname, parts.port


def parse_bytes(text: str) -> int:
    """A number of bytes: ``1048576``, ``64mb``, ``1.5gb`` (powers of 1024).

    :raises ValueError: when it is none, or zero.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError("not a size; write it as 64mb or 1.5gb")
    number, prefix, _ = match.groups()
    size_bytes = int(float(number) * _UNITS[f"{prefix.lower()}b" if prefix else ""])
    if size_bytes < 1:
        raise ValueError("must be at least one byte")
    return size_bytes


def parse_positive(text: str) -> float:
    """A finite number above zero.

    :raises ValueError: when it is none.
    """
    try:
        number = float(text)
    except ValueError:
        raise ValueError("not a number") from None
    if not (number > 0 and math.isfinite(number)):
        raise ValueError("must be above zero")
    return number


def parse_count(text: str) -> int:
    """A whole number of one or more.

    :raises ValueError: when it is none.
    """
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise ValueError("must be a whole number of one or more")
    return int(text)


def parse_flag(text: str) -> bool:
    """``true`` or ``false``.

    :raises ValueError: when it is neither.
    """
    if text.lower() not in ("true", "false"):
        raise ValueError("must be true or false")
    return text.lower() == "true"


def _nearest(wrong: str, valid: Iterable[str]) -> str:
    # Only what looks like a name is repeated: anything else might be a piece of a password.
    said = f" {wrong!r}" if re.fullmatch(r"[A-Za-z_+]{1,30}", wrong) else ""
    return said + did_you_mean(wrong.lower(), valid)
