"""Who is calling, and what is done to their requests."""

from __future__ import annotations

import fnmatch
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ctxpress.cache.key import Namespace
from ctxpress.config import OBSERVED_PIPELINE, Config, TenantConfig
from ctxpress.errors import ConfigError

from .errors import RefusedError
from .headers import RequestHead
from .switch import SwitchState

__all__ = [
    "DEFAULT_TENANT",
    "Target",
    "Tenant",
    "TenantDirectory",
    "upstream_credentials",
]

DEFAULT_TENANT = "default"
_MAX_NAMESPACES = 1024

Mode = Literal["off", "observe", "on"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a request goes and what is done to it. ``chosen`` is false for a default pipeline."""

    upstream: str
    mode: Mode
    pipeline: str | None
    chosen: bool = True

    def switched(self, state: SwitchState | None) -> tuple[Mode, str | None]:
        """Mode and pipeline once the switch has its say."""
        if state is None:
            return self.mode, self.pipeline
        if state.mode == "off":
            return "off", self.pipeline
        if self.mode == "observe" and not self.chosen:
            return "on", state.pipeline or self.pipeline
        return self.mode, self.pipeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """A tenant as requests need it. ``overrides`` are tried in order against the model's name."""

    name: str
    target: Target
    overrides: tuple[tuple[re.Pattern[str], Target], ...] = ()

    @property
    def routes_by_model(self) -> bool:
        """Whether the model decides anything, so that bodies have to be looked at."""
        return bool(self.overrides)

    def target_for(self, model: str | None) -> Target:
        """The target of the first pattern that matches ``model``."""
        if model is not None:
            for pattern, target in self.overrides:
                if pattern.match(model):
                    return target
        return self.target


class TenantDirectory:
    """Finds the tenant of a request, and the namespace of all that is stored for it."""

    def __init__(self, config: Config, secret: bytes) -> None:
        self._secret = secret
        self.passthrough = config.auth == "passthrough"
        self._by_hash: list[tuple[bytes, Tenant]] = []
        self._namespaces: dict[str, Namespace] = {}
        tenants = {
            name: _tenant(name, value, passthrough=self.passthrough)
            for name, value in config.tenants.items()
        }
        if self.passthrough:
            self._default = tenants.get(DEFAULT_TENANT) or _default_tenant(config)
            self._by_kind = _by_kind(config) if DEFAULT_TENANT not in tenants else {}
        else:
            for name, value in config.tenants.items():
                for entry in value.key_hashes:
                    digest = bytes.fromhex(entry.removeprefix("sha256:"))
                    self._by_hash.append((digest, tenants[name]))

    def identify(self, head: RequestHead, *, anthropic: bool = False) -> Tenant:
        """The tenant of a request.

        Every hash is compared, in constant time, so that timing tells nothing about keys.

        :raises RefusedError: 401, the key is missing or unknown.
        """
        if self.passthrough:
            if self._by_kind:
                return self._by_kind["anthropic" if anthropic or head.anthropic else "openai"]
            return self._default
        found: Tenant | None = None
        for key in _keys(head):
            digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
            for known, tenant in self._by_hash:
                if hmac.compare_digest(known, digest):
                    found = found or tenant
        if found is None:
            raise RefusedError(
                401,
                "invalid_api_key",
                "the key is not a ctxpress key of any tenant: send one as `Authorization: Bearer` "
                "or `x-api-key` (an operator makes it with `ctxpress tenants add NAME`)",
            )
        return found

    def namespace(self, tenant: Tenant, head: RequestHead) -> Namespace:
        """The root of every store key: the tenant's, or in passthrough the credential's own."""
        owner = f"tenant:{tenant.name}"
        if self.passthrough:
            keys = "\n".join(_keys(head)).encode("utf-8", "surrogateescape")
            owner = "credential:" + hashlib.sha256(keys).hexdigest()
        namespace = self._namespaces.get(owner)
        if namespace is None:
            if len(self._namespaces) >= _MAX_NAMESPACES:
                self._namespaces.clear()
            namespace = self._namespaces[owner] = Namespace.derive(self._secret, owner)
        return namespace


def upstream_credentials(
    head: RequestHead, *, passthrough: bool, kind: str, credential: str | None
) -> list[tuple[str, str]]:
    """The headers that authorise a request upstream: the caller's own, or the tenant's."""
    if passthrough:
        return head.credentials
    if credential is None:
        return []
    if kind == "anthropic":
        return [("x-api-key", credential)]
    return [("authorization", f"Bearer {credential}")]


def _keys(head: RequestHead) -> list[str]:
    keys = []
    for name, value in head.credentials:
        scheme, _, rest = value.partition(" ")
        keys.append(
            rest.strip() if name == "authorization" and scheme.lower() == "bearer" else value
        )
    return keys


def _tenant(name: str, config: TenantConfig, *, passthrough: bool) -> Tenant:
    target = Target(upstream=config.upstream, mode=config.mode, pipeline=config.pipeline)
    overrides = tuple(
        (
            re.compile(fnmatch.translate(pattern)),
            Target(
                upstream=model.upstream or target.upstream,
                mode=model.mode or target.mode,
                pipeline=model.pipeline or target.pipeline,
            ),
        )
        for pattern, model in config.models.items()
    )
    if config.mode == "observe" and (passthrough or config.pipeline is None):
        pipeline = config.pipeline or OBSERVED_PIPELINE
        target = Target(upstream=config.upstream, mode="observe", pipeline=pipeline, chosen=False)
    return Tenant(name=name, target=target, overrides=overrides)


def _default_tenant(config: Config, upstream: str | None = None) -> Tenant:
    if not config.upstreams:
        raise ConfigError("upstreams: name one; the proxy has nowhere to send requests to")
    target = Target(
        upstream=upstream or next(iter(config.upstreams)),
        mode="observe",
        pipeline=OBSERVED_PIPELINE,
        chosen=False,
    )
    return Tenant(name=DEFAULT_TENANT, target=target)


def _by_kind(config: Config) -> Mapping[str, Tenant]:
    """In passthrough with upstreams of both kinds, the client's protocol chooses between them."""
    first: dict[str, Tenant] = {}
    for name, upstream in config.upstreams.items():
        protocol = "anthropic" if upstream.kind == "anthropic" else "openai"
        first.setdefault(protocol, _default_tenant(config, name))
    return first if len(first) > 1 else {}
