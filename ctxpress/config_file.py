"""Reads the configuration file and the presets; every error names file, line and what is valid.

Reading has two steps, since the stages that a file may use depend on the plugins that it enables:
:func:`load_config` checks all but the stages' options, :func:`validate_stage_options` those.
:func:`load_config_and_plugins` does both. Nothing here reads environment variables: the file is
the whole truth.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from ctxpress.config import PRESETS, Config, PipelineConfig
from ctxpress.config_problems import Problem, first_error, validate_values
from ctxpress.errors import ConfigError, PluginError
from ctxpress.nearest import did_you_mean
from ctxpress.yaml_source import Source, parse_source, read_source

if TYPE_CHECKING:
    from ctxpress.manager import PluginManager

__all__ = [
    "check_config",
    "load_config",
    "load_config_and_plugins",
    "load_preset",
    "validate_stage_options",
]

M = TypeVar("M", bound=BaseModel)
StageModels = Mapping[str, type[BaseModel]]


def load_config(path: str | Path) -> Config:
    """Read a configuration file; the options of its stages are not looked at yet.

    :raises ConfigError: ``FILE:LINE: key: what is wrong; what is valid``, in one line.
    """
    return _parse(Config, read_source(path))


def validate_stage_options(
    config: Config, stage_models: StageModels, source: Source | None = None
) -> None:
    """Check each stage's name and options against the stage's own config model.

    ``source`` is the file that ``config`` was read from; without it errors have no line.

    :raises ConfigError: an unknown stage or option, or a value out of range.
    """
    source = source or Source(name="configuration", data={}, lines={})
    if problems := _stage_problems(config, stage_models):
        raise first_error(source, problems)


def load_config_and_plugins(path: str | Path) -> tuple[Config, PluginManager]:
    """Read a file, load the plugins that it enables, check its stages against them.

    :raises ConfigError: as :func:`load_config` and :func:`validate_stage_options`, a stage stands
        where it may not or names a scorer that there is not, or a plugin that the file enables
        cannot be loaded.
    """
    source = read_source(path)
    config = _parse(Config, source)
    manager = _plugins_of(config, source)
    validate_stage_options(config, _models(manager), source)
    if problems := _order_problems(config, manager) + _scorer_problems(config, manager):
        raise first_error(source, problems)
    return config, manager


def check_config(path: str | Path) -> list[str]:
    """All that is wrong with a file, one line each, in the file's order; empty when it is right.

    :raises ConfigError: the file cannot be read or is not YAML, so nothing else can be said.
    """
    source = read_source(path)
    config, problems = validate_values(Config, source.data)
    if config is not None:
        try:
            manager = _plugins_of(config, source)
        except ConfigError as error:
            return [str(error)]
        problems = _stage_problems(config, _models(manager))
        problems += _order_problems(config, manager) + _scorer_problems(config, manager)
    problems.sort(key=lambda problem: source.line_of(problem.path))
    return [str(source.error(problem.path, problem.message)) for problem in problems]


def load_preset(name: str) -> PipelineConfig:
    """One of the pipelines that ship with ctxpress: ``lossless``, ``balanced``, ``aggressive``.

    :raises ConfigError: nothing is called so.
    """
    if name not in PRESETS:
        raise ConfigError(f"no preset is called {name!r}{did_you_mean(name, PRESETS)}")
    file = importlib.resources.files("ctxpress") / "presets" / f"{name}.yaml"
    return _parse(PipelineConfig, parse_source(file.read_text("utf-8"), f"preset {name}"))


def _parse(model: type[M], source: Source) -> M:
    values, problems = validate_values(model, source.data)
    if values is None:
        raise first_error(source, problems)
    return values


def _plugins_of(config: Config, source: Source) -> PluginManager:
    from ctxpress.manager import create_plugin_manager  # late: it imports the plugins

    try:
        return create_plugin_manager(config.plugins.enabled)
    except PluginError as error:
        raise source.error(("plugins", "enabled"), str(error)) from error


def _models(manager: PluginManager) -> dict[str, type[BaseModel]]:
    return {name: stage.config_model for name, stage in manager.stages.items()}


def _order_problems(config: Config, manager: PluginManager) -> list[Problem]:
    return [
        Problem(path=("pipelines", name, "stages", number, "use"), message=message)
        for name, pipeline in config.pipelines.items()
        for number, message in manager.misplaced([stage.use for stage in pipeline.stages])
    ]


def _stage_problems(config: Config, stage_models: StageModels) -> list[Problem]:
    problems: list[Problem] = []
    for name, pipeline in config.pipelines.items():
        for number, stage in enumerate(pipeline.stages):
            at: tuple[Any, ...] = ("pipelines", name, "stages", number)
            model = stage_models.get(stage.use)
            if model is None:
                hint = did_you_mean(stage.use, stage_models) or "; no plugin registers any stage"
                message = f"no stage is called {stage.use!r}{hint}"
                problems.append(Problem(path=(*at, "use"), message=message))
                continue
            _, wrong = validate_values(model, stage.options, at=at)
            problems += wrong
    return problems


def _scorer_problems(config: Config, manager: PluginManager) -> list[Problem]:
    """Scorers that no plugin registers, and options that they do not take."""
    problems: list[Problem] = []
    for name, pipeline in config.pipelines.items():
        for number, stage in enumerate(pipeline.stages):
            if stage.use not in manager.stages:
                continue
            model = manager.stages[stage.use].config_model
            options, _ = validate_values(model, stage.options)
            for option, spec in (manager.scorers_in(options) if options else {}).items():
                at: tuple[Any, ...] = ("pipelines", name, "stages", number, option)
                given = stage.options.get(option)
                registered = manager.scorers.get(spec.use)
                if registered is None:
                    message = f"no scorer is called {spec.use!r}"
                    message += did_you_mean(spec.use, manager.scorers)
                    place = (*at, "use") if isinstance(given, dict) else at
                    problems.append(Problem(path=place, message=message))
                else:
                    wanted = spec.model_extra or {}
                    problems += validate_values(registered.config_model, wanted, at=at)[1]
    return problems
