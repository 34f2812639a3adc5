"""Builds a :class:`RequestCompressor` from a configuration: plugins, pipelines, stores, threads."""

from __future__ import annotations

import os
import re
from concurrent.futures import Executor, ThreadPoolExecutor

from ctxpress.cache.store import Store, create_store
from ctxpress.compressor import PipelineEntry, RequestCompressor
from ctxpress.config import PRESETS, Config, PipelineConfig
from ctxpress.config_file import load_preset
from ctxpress.counting import CountCache
from ctxpress.errors import ConfigError
from ctxpress.formats.options import ParseOptions
from ctxpress.manager import PluginManager, create_plugin_manager
from ctxpress.outcomes import OutcomeMemory
from ctxpress.pipeline import Pipeline, PipelineSettings
from ctxpress.tokens import TokenCounters

__all__ = ["build_pipeline", "create_compressor", "parse_options"]

NEAR_STORE_URL = "memory://?max_bytes=64mb"


def create_compressor(
    config: Config, *, manager: PluginManager | None = None, store: Store | None = None
) -> RequestCompressor:
    """Build everything that compressing needs; models load on their first use.

    :raises ConfigError: a stage, an option or the store's URL is wrong.
    :raises PluginError: a plugin cannot be loaded.
    :raises MissingDependencyError: the store needs a package that is not installed.
    """
    manager = manager or create_plugin_manager(config.plugins.enabled)
    store = store or create_store(config.store)
    near = create_store(NEAR_STORE_URL)
    threads = max(2, os.cpu_count() or 2)
    executor = ThreadPoolExecutor(threads, thread_name_prefix="ctxpress")
    stage_executor = ThreadPoolExecutor(threads, thread_name_prefix="ctxpress-stage")
    counts = CountCache()
    configured = {name: load_preset(name) for name in PRESETS} | dict(config.pipelines)
    entries = {
        name: PipelineEntry(
            pipeline=build_pipeline(
                name,
                pipeline,
                manager=manager,
                store=store,
                near=near,
                executor=executor,
                stage_executor=stage_executor,
                counts=counts,
                ttl_s=config.outcome_ttl_s,
            ),
            options=parse_options(pipeline),
        )
        for name, pipeline in configured.items()
    }
    return RequestCompressor(
        entries,
        counters=TokenCounters(),
        store=store,
        near=near,
        executor=executor,
        stage_executor=stage_executor,
        observers=tuple(manager.observers.values()),
    )


def build_pipeline(
    name: str,
    config: PipelineConfig,
    *,
    manager: PluginManager,
    store: Store,
    near: Store,
    executor: Executor,
    stage_executor: Executor,
    counts: CountCache,
    ttl_s: float,
) -> Pipeline:
    """Build one pipeline.

    :raises ConfigError: a stage or an option is wrong; the message names the pipeline.
    """
    stages = []
    for number, stage in enumerate(config.stages):
        try:
            stages.append(manager.build_stage(stage.use, stage.options))
        except ConfigError as error:
            raise ConfigError(f"pipelines.{name}.stages[{number}]: {error}") from error
    return Pipeline(
        name,
        stages,
        settings=PipelineSettings(
            min_tokens=config.min_tokens, deadline_ms=config.deadline_ms, strict=config.strict
        ),
        memory=OutcomeMemory(store, near, ttl_s=ttl_s, executor=executor),
        store=store,
        near=near,
        executor=executor,
        stage_executor=stage_executor,
        counts=counts,
        ttl_s=ttl_s,
    )


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
