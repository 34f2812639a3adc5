"""Keys and seals of one tenant, the secret that they come from, and the folder that holds it.

Law 7: every key in every store is derived from HMAC(secret, tenant), so nothing crosses tenants.
Law 8: stored bytes are hostile; a value counts only if its seal was made with the tenant's key.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import re
import secrets
import sys
from dataclasses import dataclass, field
from pathlib import Path

from ctxpress.errors import ConfigError

__all__ = ["Namespace", "load_secret", "state_dir"]

_KEY_VERSION = "ctxpress:1"
_PURPOSE = re.compile(r"[a-z][a-z0-9-]*")
_SEAL_BYTES = 16
_SECRET_BYTES = 32
_MAX_SECRET_FILE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Namespace:
    """One tenant's keys and seals. Its ``repr`` tells nothing about the secret."""

    _key: bytes = field(repr=False)

    @classmethod
    def derive(cls, secret: bytes, tenant: str) -> Namespace:
        """The namespace of ``tenant`` under ``secret``.

        :raises ConfigError: the secret is empty.
        """
        if not secret:
            raise ConfigError("the ctxpress secret is empty; give at least 16 random bytes")
        name = b"ctxpress namespace\0" + _utf8(tenant)
        return cls(hmac.digest(secret, name, "sha256"))

    def key(self, purpose: str, *parts: bytes | str) -> str:
        """The store key for ``parts``: ``ctxpress:1:<purpose>:<64 hex digits>``.

        Parts are hashed with their lengths and types, so ``("a", "bc")``, ``("ab", "c")`` and
        ``(b"a", "bc")`` have different keys. Nobody without the secret can compute or invert it.

        :raises ValueError: ``purpose`` is not one word of lower-case letters, digits or dashes.
        """
        if not _PURPOSE.fullmatch(purpose):
            raise ValueError(f"not a purpose: {purpose!r}")
        mac = hmac.new(self._key, _prefixed(b"key", purpose.encode()), "sha256")
        for part in parts:
            if isinstance(part, str):
                mac.update(_prefixed(b"str", _utf8(part)))
            else:
                mac.update(_prefixed(b"bytes", part))
        return f"{_KEY_VERSION}:{purpose}:{mac.hexdigest()}"

    def derive_key(self, purpose: str) -> bytes:
        """32 bytes for ``purpose`` alone, which tell nothing about other keys of the namespace.

        :raises ValueError: as :meth:`key`.
        """
        if not _PURPOSE.fullmatch(purpose):
            raise ValueError(f"not a purpose: {purpose!r}")
        return hmac.digest(self._key, _prefixed(b"derive", purpose.encode()), "sha256")

    def seal(self, key: str, value: bytes) -> bytes:
        """``value`` behind 16 bytes of a keyed MAC over ``key`` and ``value``."""
        return self._mac(key, value) + value

    def open(self, key: str, sealed: bytes | None) -> bytes | None:
        """The value that was sealed under ``key``.

        ``None`` for anything missing, damaged, or sealed by another tenant, secret or key.
        """
        if sealed is None or len(sealed) < _SEAL_BYTES:
            return None
        value = sealed[_SEAL_BYTES:]
        return value if hmac.compare_digest(sealed[:_SEAL_BYTES], self._mac(key, value)) else None

    def _mac(self, key: str, value: bytes) -> bytes:
        mac = hmac.new(self._key, _prefixed(b"seal", _utf8(key)), "sha256")
        mac.update(value)  # last and alone, so it needs no length
        return mac.digest()[:_SEAL_BYTES]


def _prefixed(kind: bytes, data: bytes) -> bytes:
    """``kind`` and ``data`` with their lengths: no two different pairs give the same bytes."""
    return len(kind).to_bytes(1, "big") + kind + len(data).to_bytes(8, "big") + data


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def state_dir() -> Path:
    """The user's state folder for ctxpress; not created here.

    ``$XDG_STATE_HOME/ctxpress``, else ``~/.local/state/ctxpress``; on macOS
    ``~/Library/Application Support/ctxpress``, on Windows ``%LOCALAPPDATA%\\ctxpress``.

    :raises ConfigError: the user has no home folder.
    """
    configured = os.environ.get("XDG_STATE_HOME", "")
    if configured and Path(configured).is_absolute():
        return Path(configured) / "ctxpress"
    local = os.environ.get("LOCALAPPDATA", "")
    if sys.platform == "win32" and local:
        return Path(local) / "ctxpress"
    try:
        home = Path.home()
    except RuntimeError as error:
        raise ConfigError("there is no home folder; set XDG_STATE_HOME") from error
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "ctxpress"
    return home / ".local" / "state" / "ctxpress"


def load_secret(explicit: str | None, folder: Path) -> bytes:
    """The secret behind all namespaces: ``explicit``, or the one kept in ``folder``.

    A missing one is made (32 random bytes, file mode 0600); of processes that do so at the same
    time, all get the same.

    :raises ConfigError: ``explicit`` is too short, or the file cannot be read, made or trusted.
    """
    if explicit is not None:
        if len(explicit) < _SEAL_BYTES:
            raise ConfigError(f"CTXPRESS_SECRET must have at least {_SEAL_BYTES} characters")
        return _utf8(explicit)
    path = folder / "secret"
    try:
        return _read_secret(path) or _make_secret(path)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read or made ({error.strerror}); set CTXPRESS_SECRET"
        ) from error


def _read_secret(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            secret = file.read(_MAX_SECRET_FILE_BYTES)
    except FileNotFoundError:
        return None
    if len(secret) != _SECRET_BYTES:
        raise ConfigError(f"{path}: damaged, not {_SECRET_BYTES} bytes; delete it to begin anew")
    return secret


def _make_secret(path: Path) -> bytes:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".secret-{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_SECRET_BYTES))
            file.flush()
            os.fsync(file.fileno())
        # A link appears whole and only once: whoever is second reads the winner's.
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
    made = _read_secret(path)
    if made is None:
        raise ConfigError(f"{path}: vanished while it was made; set CTXPRESS_SECRET")
    return made
