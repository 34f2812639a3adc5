"""Builds the stage `restructure` from its options."""

from __future__ import annotations

import os

from ctxpress.errors import ConfigError
from ctxpress.plugins.restructure.config import LlmConfig, RestructureConfig
from ctxpress.plugins.restructure.llm import LLMExtractor
from ctxpress.plugins.restructure.stage import RestructureStage
from ctxpress.plugins.scoring import create_scorer
from ctxpress.resources import Resources

__all__ = ["create_restructure_stage"]


def create_restructure_stage(config: RestructureConfig, resources: Resources) -> RestructureStage:
    """The stage that `config` describes; the scorer is loaded once, however many use it.

    :raises ConfigError: no such scorer, or the variable with the endpoint's key is not set.
    """
    extractor = _extractor(config.llm) if config.llm else None
    return RestructureStage(config, create_scorer(config.scorer, resources), extractor)


def _extractor(config: LlmConfig) -> LLMExtractor:
    key = None
    if config.api_key_env is not None:
        key = os.environ.get(config.api_key_env)
        if not key:
            raise ConfigError(f"llm.api_key_env: the variable {config.api_key_env} is not set")
    return LLMExtractor(
        base_url=str(config.base_url),
        model=config.model,
        api_key=key,
        template=config.template,
        max_tokens=config.max_tokens,
        timeout_s=config.timeout_ms / 1000,
    )
