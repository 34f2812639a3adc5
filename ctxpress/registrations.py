"""What plugins registered: each name once, with the distribution that it came from."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import pluggy
from pydantic import BaseModel

from ctxpress.cache.codec import CodecFactory
from ctxpress.cache.header import CODEC_NAME
from ctxpress.cache.store_kinds import StoreKind
from ctxpress.errors import PluginError
from ctxpress.hookspecs import Observer
from ctxpress.relevance.scorer import RelevanceScorer
from ctxpress.resources import Resources
from ctxpress.stage import Stage

__all__ = ["CodecRegistration", "Registered", "Registration", "StoreRegistration", "collect"]

T = TypeVar("T")

_SCHEME = re.compile(r"[a-z][a-z0-9]*(\+[a-z][a-z0-9]*)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration(Generic[T]):
    """One registered stage or scorer and where it came from.

    Nothing may follow a ``final`` stage.
    """

    name: str
    factory: Callable[[Any, Resources], T]
    config_model: type[BaseModel]
    distribution: str
    version: str
    final: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecRegistration:
    """One registered codec and where it came from."""

    name: str
    factory: str | CodecFactory
    distribution: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRegistration:
    """One registered kind of store and where it came from."""

    scheme: str
    kind: StoreKind
    distribution: str
    version: str


@dataclass(frozen=True, slots=True)
class Registered:
    """All of it, by name; names are sorted."""

    stages: dict[str, Registration[Stage]] = field(default_factory=dict)
    scorers: dict[str, Registration[RelevanceScorer]] = field(default_factory=dict)
    codecs: dict[str, CodecRegistration] = field(default_factory=dict)
    stores: dict[str, StoreRegistration] = field(default_factory=dict)
    observers: dict[str, Observer] = field(default_factory=dict)


def collect(manager: pluggy.PluginManager, origin: Mapping[int, tuple[str, str]]) -> Registered:
    """Call every hook of the plugins; ``origin`` has their distributions and versions by id.

    :raises PluginError: a name is taken; the message names both distributions.
    """
    registered = Registered()
    collector = _Collector(origin)
    collector.configurable("stage", manager.hook.register_stages, registered.stages)
    collector.configurable("scorer", manager.hook.register_scorers, registered.scorers)
    collector.codecs(manager.hook.register_codecs, registered.codecs)
    collector.stores(manager.hook.register_stores, registered.stores)
    collector.observers(manager.hook.register_observers, registered.observers)
    return Registered(
        dict(sorted(registered.stages.items())),
        dict(sorted(registered.scorers.items())),
        dict(sorted(registered.codecs.items())),
        dict(sorted(registered.stores.items())),
        dict(sorted(registered.observers.items())),
    )


class _Collector:
    """Hands each plugin a callable that notes what it registers, and whose it is."""

    def __init__(self, origin: Mapping[int, tuple[str, str]]) -> None:
        self._origin = origin
        self._owners: dict[tuple[str, str], str] = {}

    def configurable(
        self, what: str, hook: pluggy.HookCaller, found: dict[str, Registration[Any]]
    ) -> None:
        """Stages and scorers: a factory and the model of its options."""

        def register(
            origin: tuple[str, str],
            name: str,
            factory: Callable[[Any, Resources], Any],
            config_model: type[BaseModel],
            *,
            final: bool = False,
        ) -> None:
            self._claim(what, name, origin[0])
            found[name] = Registration(
                name=name,
                factory=factory,
                config_model=config_model,
                distribution=origin[0],
                version=origin[1],
                final=final,
            )

        self._call(hook, register)

    def codecs(self, hook: pluggy.HookCaller, found: dict[str, CodecRegistration]) -> None:
        """Codecs: a factory, or the place of one."""

        def register(origin: tuple[str, str], name: str, factory: str | CodecFactory) -> None:
            if not CODEC_NAME.fullmatch(name):
                raise PluginError(
                    f"{origin[0]} registers the codec {name!r}; "
                    "names are 1 to 64 of a-z, 0-9, '.', '_' and '-'"
                )
            self._claim("codec", name, origin[0])
            found[name] = CodecRegistration(
                name=name, factory=factory, distribution=origin[0], version=origin[1]
            )

        self._call(hook, register)

    def stores(self, hook: pluggy.HookCaller, found: dict[str, StoreRegistration]) -> None:
        """Kinds of stores."""

        def register(origin: tuple[str, str], scheme: str, kind: StoreKind) -> None:
            if not _SCHEME.fullmatch(scheme):
                raise PluginError(
                    f"{origin[0]} registers the store {scheme!r}; "
                    "a scheme is words of a-z and 0-9, joined by '+'"
                )
            self._claim("store", scheme, origin[0])
            found[scheme] = StoreRegistration(
                scheme=scheme, kind=kind, distribution=origin[0], version=origin[1]
            )

        self._call(hook, register)

    def observers(self, hook: pluggy.HookCaller, found: dict[str, Observer]) -> None:
        """Observers: they are what is registered."""

        def register(origin: tuple[str, str], name: str, observer: Observer) -> None:
            self._claim("observer", name, origin[0])
            found[name] = observer

        self._call(hook, register)

    def _call(self, hook: pluggy.HookCaller, register: Callable[..., None]) -> None:
        for implementation in hook.get_hookimpls():
            origin = self._origin[id(implementation.plugin)]
            implementation.function(register=functools.partial(register, origin))

    def _claim(self, what: str, name: str, distribution: str) -> None:
        first = self._owners.get((what, name))
        if first is not None:
            raise PluginError(f"{what} {name!r} is registered by both {first} and {distribution}")
        self._owners[what, name] = distribution
