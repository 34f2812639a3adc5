"""Finds plugins, builds stages, scorers, codecs and stores from what they registered."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import pluggy
from pydantic import BaseModel, ValidationError

from ctxpress import hookspecs
from ctxpress.cache.codec import CodecFactory
from ctxpress.cache.store_kinds import StoreKind
from ctxpress.errors import ConfigError, CtxpressError, PluginError
from ctxpress.nearest import did_you_mean
from ctxpress.plugins import BUILTIN_PLUGINS
from ctxpress.plugins.scoring import ScorerSpec
from ctxpress.registrations import Registered, Registration, collect
from ctxpress.relevance.scorer import RelevanceScorer
from ctxpress.resources import Resources
from ctxpress.work import BuiltStage, fingerprint

__all__ = ["PluginManager", "create_plugin_manager", "option_names"]

T = TypeVar("T")


class PluginManager:
    """What the enabled plugins registered. Build it with :func:`create_plugin_manager`."""

    def __init__(self, registered: Registered) -> None:
        self.stages = registered.stages
        self.scorers = registered.scorers
        self.codecs = registered.codecs
        self.stores = registered.stores
        self.observers = registered.observers
        self.resources = Resources(self._create_scorer)

    def misplaced(self, names: Sequence[str]) -> list[tuple[int, str]]:
        """What is wrong with the order of the stages called ``names``: place and sentence."""
        final = [name for name, stage in self.stages.items() if stage.final]
        return [
            (number, f"stage {name!r} must be the last, and {names[number + 1]!r} follows it")
            for number, name in enumerate(names[:-1])
            if name in final
        ]

    def scorers_in(self, options: BaseModel) -> dict[str, ScorerSpec]:
        """The relevance scorers that a stage's options name, by the option that does."""
        values = {name: getattr(options, name) for name in type(options).model_fields}
        return {name: value for name, value in values.items() if isinstance(value, ScorerSpec)}

    def build_stage(self, name: str, options: Mapping[str, Any]) -> BuiltStage:
        """Build a stage from its options.

        :raises ConfigError: unknown stage or option, or a value out of range.
        """
        registration = _named("stage", self.stages, name)
        config = _validated("stage", registration, options)
        stage = _built("stage", registration, config, self.resources)
        return BuiltStage(
            name=name,
            stage=stage,
            fingerprint=fingerprint(name, stage.identity, config.model_dump_json()),
            final=registration.final,
        )

    def codec_factories(self) -> dict[str, str | CodecFactory]:
        """The codecs by name, as ``create_codec`` and ``decode_container`` take them."""
        return {name: codec.factory for name, codec in self.codecs.items()}

    def store_kinds(self) -> dict[str, StoreKind]:
        """The kinds of stores by scheme, as ``create_store`` takes them."""
        return {scheme: store.kind for scheme, store in self.stores.items()}

    def _create_scorer(self, name: str, options: Mapping[str, Any]) -> RelevanceScorer:
        registration = _named("scorer", self.scorers, name)
        config = _validated("scorer", registration, options)
        return self.resources.get(
            ("scorer", name, config.model_dump_json()),
            lambda: _built("scorer", registration, config, self.resources),
        )


def option_names(model: type[BaseModel]) -> list[str]:
    """A stage's options as a configuration names them."""
    return [field.alias or name for name, field in model.model_fields.items()]


def create_plugin_manager(
    enabled: Iterable[str] = (hookspecs.PROJECT,), *, plugins: Iterable[object] = ()
) -> PluginManager:
    """Load the built-in plugins, those of ``enabled`` distributions, and ``plugins`` themselves.

    Installed plugins are found by the entry-point group ``ctxpress``; only distributions named in
    ``enabled`` are imported.

    :raises PluginError: a plugin is not installed, cannot be imported, misspells a hook, or
        takes a name that is taken.
    """
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    origin: dict[int, tuple[str, str]] = {}
    for distribution in enabled:
        for plugin, version in _load(distribution):
            manager.register(plugin)
            origin[id(plugin)] = (distribution, version)
    for plugin in plugins:
        manager.register(plugin)
        origin[id(plugin)] = (getattr(plugin, "__name__", type(plugin).__name__), "")
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginError(f"a plugin implements a hook that does not exist: {error}") from error
    return PluginManager(collect(manager, origin))


def _named(what: str, known: Mapping[str, Registration[T]], name: str) -> Registration[T]:
    registration = known.get(name)
    if registration is None:
        raise ConfigError(f"no {what} is called {name!r}{did_you_mean(name, known)}")
    return registration


def _validated(what: str, registration: Registration[T], options: Mapping[str, Any]) -> BaseModel:
    try:
        return registration.config_model.model_validate(dict(options))
    except ValidationError as error:
        raise ConfigError(_first_problem(what, registration, error)) from error


def _built(what: str, registration: Registration[T], config: BaseModel, resources: Resources) -> T:
    try:
        return registration.factory(config, resources)
    except CtxpressError:
        raise
    except Exception as error:
        raise PluginError(
            f"{what} {registration.name!r} of {registration.distribution} cannot be built: "
            f"{type(error).__name__}: {error}"
        ) from error


def _load(distribution: str) -> list[tuple[object, str]]:
    """The plugin modules of one distribution and its version."""
    if distribution == hookspecs.PROJECT:
        return [(importlib.import_module(name), _version(distribution)) for name in BUILTIN_PLUGINS]
    try:
        installed = importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        raise PluginError(
            f"the plugin {distribution!r} is enabled but not installed: pip install {distribution}"
        ) from None
    found = [e for e in installed.entry_points if e.group == hookspecs.PROJECT]
    if not found:
        raise PluginError(f"{distribution!r} has no entry point in the group 'ctxpress'")
    loaded = []
    for entry in found:
        try:
            loaded.append((entry.load(), installed.version))
        except Exception as error:
            raise PluginError(
                f"the plugin {distribution!r} cannot be imported: {type(error).__name__}: {error}"
            ) from error
    return loaded


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "source"


def _first_problem(what: str, registration: Registration[T], error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        hint = did_you_mean(field, option_names(registration.config_model))
        return f"{what} {registration.name!r} has no option {field!r}{hint}"
    return f"{what} {registration.name!r}, option {field!r}: {problem['msg']}"
