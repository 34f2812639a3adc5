"""What comes from the environment: secrets, folders, outbound proxies. Nothing else reads it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from ctxpress.config import Config
from ctxpress.errors import ConfigError

__all__ = ["ProxySettings", "load_settings"]

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ProxySettings:
    """Secrets and places.

    ``secret`` keys every namespace (law 7). ``credentials`` are provider keys by the name of
    their upstream; ``outbound`` the HTTP proxies through which upstreams are reached, likewise.
    """

    state_dir: Path
    secret: bytes
    credentials: Mapping[str, str] = field(default_factory=dict)
    outbound: Mapping[str, str] = field(default_factory=dict)


def load_settings(
    config: Config,
    *,
    state_dir: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> ProxySettings:
    """Read what the configuration refers to from the environment.

    :raises ConfigError: a variable that an upstream names is not set.
    """
    from ctxpress.cache.key import load_secret
    from ctxpress.cache.key import state_dir as default_state_dir

    environ = os.environ if environ is None else environ
    folder = state_dir or default_state_dir()
    return ProxySettings(
        state_dir=folder,
        secret=load_secret(environ.get("CTXPRESS_SECRET"), folder),
        credentials=_credentials(config, environ),
        outbound=_outbound(config, environ),
    )


def _credentials(config: Config, environ: Mapping[str, str]) -> dict[str, str]:
    if config.auth == "passthrough":
        return {}  # callers bring their own
    credentials = {}
    for name, upstream in config.upstreams.items():
        if upstream.api_key_env is None:
            continue
        value = environ.get(upstream.api_key_env, "").strip()
        if not value:
            raise ConfigError(
                f"upstreams.{name}.api_key_env: the environment variable "
                f"{upstream.api_key_env} is not set"
            )
        credentials[name] = value
    return credentials


def _outbound(config: Config, environ: Mapping[str, str]) -> dict[str, str]:
    """Outbound proxies by upstream, as ``HTTPS_PROXY`` and ``NO_PROXY`` have them."""
    proxies = {
        name[: -len("_proxy")].lower(): value
        for name, value in environ.items()
        if name.lower() in ("http_proxy", "https_proxy", "all_proxy", "no_proxy") and value
    }
    exceptions = proxies.pop("no", "")
    found = {}
    for name, upstream in config.upstreams.items():
        parts = urlsplit(upstream.urls[0])
        host = parts.hostname or ""
        proxy = proxies.get(parts.scheme) or proxies.get("all")
        if proxy is not None and host not in _LOOPBACK and not _excepted(host, exceptions):
            found[name] = proxy
    return found


def _excepted(host: str, exceptions: str) -> bool:
    """Whether ``NO_PROXY`` names the host or a domain that it is in."""
    for entry in exceptions.split(","):
        suffix = entry.strip().removeprefix("*").removeprefix(".").partition(":")[0].lower()
        if entry.strip() == "*" or (suffix and (host == suffix or host.endswith("." + suffix))):
            return True
    return False
