"""Every extension point of ctxpress, on one screen.

Hooks are synchronous and only register: a plugin is given a callable and calls it with a name, a
factory and the frozen pydantic model of its options. Order never matters; it comes from the
configuration. A name that is taken is an error that names both distributions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import pluggy
from pydantic import BaseModel

from ctxpress.cache.codec import CodecFactory
from ctxpress.cache.store_kinds import StoreKind
from ctxpress.relevance.scorer import RelevanceScorer
from ctxpress.report import Report
from ctxpress.resources import Resources
from ctxpress.stage import Stage

__all__ = [
    "PROJECT",
    "Observer",
    "RegisterCodec",
    "RegisterObserver",
    "RegisterScorer",
    "RegisterStage",
    "RegisterStore",
    "hookimpl",
    "hookspec",
]

PROJECT = "ctxpress"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class RegisterStage(Protocol):
    """``register(name, factory, config_model)``; ``factory(config, resources)`` makes a stage.

    ``final``: nothing may follow the stage in a pipeline. A configuration where something does is
    an error, and the stage is told the ``target_tokens`` of a request.
    """

    def __call__(
        self,
        name: str,
        factory: Callable[[Any, Resources], Stage],
        config_model: type[BaseModel],
        *,
        final: bool = False,
    ) -> None: ...


class RegisterScorer(Protocol):
    """``register(name, factory, config_model)``; ``factory(config, resources)`` makes a scorer."""

    def __call__(
        self,
        name: str,
        factory: Callable[[Any, Resources], RelevanceScorer],
        config_model: type[BaseModel],
    ) -> None: ...


class RegisterCodec(Protocol):
    """``register(name, factory)``; the factory makes a codec of KV under that name.

    A text ``"module:function"`` names a factory that is imported when a codec is created, so that
    torch loads only then. A codec has no options: a level is a name, and a container's header
    holds the name, so that it says all that decoding needs.
    """

    def __call__(self, name: str, factory: str | CodecFactory) -> None: ...


class RegisterStore(Protocol):
    """``register(scheme, kind)``; the kind makes the stores whose URLs begin with ``scheme://``."""

    def __call__(self, scheme: str, kind: StoreKind) -> None: ...


class Observer(Protocol):
    """Called with the report of every request, after it was compressed; must not block."""

    def __call__(self, report: Report) -> None: ...


class RegisterObserver(Protocol):
    """``register(name, observer)``."""

    def __call__(self, name: str, observer: Observer) -> None: ...


@hookspec
def register_stages(register: RegisterStage) -> None:
    """Register stages for use in pipelines."""


@hookspec
def register_scorers(register: RegisterScorer) -> None:
    """Register relevance scorers, which stages for documents take by name."""


@hookspec
def register_codecs(register: RegisterCodec) -> None:
    """Register codecs of KV, which stores and workers take by name."""


@hookspec
def register_stores(register: RegisterStore) -> None:
    """Register kinds of stores, by the scheme of their URLs."""


@hookspec
def register_observers(register: RegisterObserver) -> None:
    """Register observers of request reports."""
