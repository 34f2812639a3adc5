"""Builds a :class:`RequestCompressor` from a configuration: plugins, pipelines, stores, threads."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ctxpress.cache.store import Store, create_store
from ctxpress.compressor import PipelineEntry, RequestCompressor
from ctxpress.config import PRESETS, Config, PipelineConfig
from ctxpress.config_file import load_preset
from ctxpress.errors import ConfigError
from ctxpress.formats.options import ParseOptions
from ctxpress.manager import PluginManager, create_plugin_manager
from ctxpress.pipeline import Pipeline, PipelineSettings
from ctxpress.services import Services, create_services
from ctxpress.tokens import TokenCounters
from ctxpress.work import BuiltStage

__all__ = ["build_pipeline", "create_compressor", "parse_options"]


def create_compressor(
    config: Config, *, manager: PluginManager | None = None, store: Store | None = None
) -> RequestCompressor:
    """Build everything that compressing needs; models load on their first use.

    :raises ConfigError: a stage, an option or the store's URL is wrong.
    :raises PluginError: a plugin cannot be loaded.
    :raises MissingDependencyError: the store needs a package that is not installed.
    """
    manager = manager or create_plugin_manager(config.plugins.enabled)
    services = create_services(
        store or create_store(config.store, kinds=manager.store_kinds()), ttl_s=config.outcome_ttl_s
    )
    configured = {name: load_preset(name) for name in PRESETS} | dict(config.pipelines)
    entries = {
        name: PipelineEntry(
            pipeline=build_pipeline(name, pipeline, manager, services),
            options=parse_options(pipeline),
        )
        for name, pipeline in configured.items()
    }
    return RequestCompressor(
        entries,
        counters=TokenCounters(),
        services=services,
        observers=tuple(manager.observers.values()),
    )


def build_pipeline(
    name: str, config: PipelineConfig, manager: PluginManager, services: Services
) -> Pipeline:
    """Build one pipeline.

    :raises ConfigError: a stage, its place or an option is wrong; the message names the pipeline.
    """
    stages = []
    for number, stage in enumerate(config.stages):
        try:
            stages.append(manager.build_stage(stage.use, stage.options))
        except ConfigError as error:
            raise ConfigError(f"pipelines.{name}.stages[{number}]: {error}") from error
    for number, problem in manager.misplaced([stage.use for stage in config.stages]):
        raise ConfigError(f"pipelines.{name}.stages[{number}]: {problem}")
    rewriting = question_before_references(stages)
    if rewriting is not None:
        number, problem = rewriting
        raise ConfigError(f"pipelines.{name}.stages[{number}]: {problem}")
    settings = PipelineSettings(
        min_tokens=config.min_tokens, deadline_ms=config.deadline_ms, strict=config.strict
    )
    return Pipeline(name, stages, services, settings)


def question_before_references(stages: Sequence[BuiltStage]) -> tuple[int, str] | None:
    """Where documents would go as references that no other question could use: place, sentence."""
    aware: int | None = None
    for number, stage in enumerate(stages):
        if stage.traits.references and aware is not None:
            return number, (
                f"documents were rewritten per question by stage {aware + 1} "
                f"{stages[aware].name}; no KV would repeat"
            )
        if stage.traits.query_aware and aware is None:
            aware = number
    return None


def parse_options(config: PipelineConfig) -> ParseOptions:
    """What a pipeline's configuration says about parsing."""
    protect = config.protect
    return ParseOptions(
        compress_system=config.system == "compress",
        compress_assistant=config.assistant == "compress",
        protect_numbers=protect.numbers,
        protect_terms=protect.terms,
        protect_patterns=tuple(re.compile(pattern) for pattern in protect.patterns),
        document_pattern=re.compile(config.document_pattern) if config.document_pattern else None,
        read_tools=frozenset(protect.read_tools),
    )
