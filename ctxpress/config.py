"""The one configuration file as frozen types. Reading it with good errors: ``config_file``.

Names equal the YAML keys (DESIGN: docs/configuration.md). Every model forbids unknown keys; no
validator changes a value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, field_validator, model_validator

__all__ = [
    "Config",
    "ParallelConfig",
    "PipelineConfig",
    "PluginsConfig",
    "ProtectConfig",
    "StageConfig",
    "TenantConfig",
    "TenantModelConfig",
    "UpstreamConfig",
]

ENVIRONMENT_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
KEY_HASH = r"^sha256:[0-9a-f]{64}$"

EnvironmentName = Annotated[str, Field(pattern=ENVIRONMENT_NAME)]
KeyHash = Annotated[str, Field(pattern=KEY_HASH)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Mode = Literal["off", "observe", "on"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PluginsConfig(_Model):
    """Distributions whose plugins may be loaded; nothing else installed is imported."""

    enabled: tuple[str, ...] = ("ctxpress",)


class ParallelConfig(_Model):
    """How vLLM, with the connector of ctxpress, is given documents that were each read by itself.

    ``tokenizer``: a folder with the ``tokenizer.json`` and the chat template of the model.
    ``temperature``: T of the documents' logits, calibrated for this model; 1 is plain parallel
    encoding. ``block_tokens``: vLLM's block size. ``documents_at_a_time``: how many documents that
    nobody has read yet a proxy has read at once. ``encode_timeout_ms``: how long a request waits
    for its own of them. ``remember_s``: for how long a document counts as read.
    """

    tokenizer: Annotated[str, Field(min_length=1)]
    temperature: float = Field(default=1.0, gt=0, le=4)
    block_tokens: int = Field(default=16, ge=1, le=4096)
    documents_at_a_time: int = Field(default=8, ge=1, le=1024)
    encode_timeout_ms: float = Field(default=10_000, gt=0)
    remember_s: float = Field(default=1800, gt=0)


class UpstreamConfig(_Model):
    """An LLM backend. ``base_url`` may end in ``/v1`` or not; paths are joined either way.

    A ``worker`` or ``vllm`` may be several equal ones: ``base_urls``. Where no worker answers,
    requests go as plain text to the upstream named by ``fallback``, for the model
    ``fallback_model`` there. ``parallel`` switches documents in parallel on for a ``vllm``.
    """

    kind: Literal["openai", "anthropic", "worker", "vllm"] = "openai"
    base_url: HttpUrl | None = None
    base_urls: Annotated[tuple[HttpUrl, ...], Field(min_length=1)] | None = None
    api_key_env: EnvironmentName | None = None
    connect_timeout_ms: float = Field(default=10_000, gt=0)
    read_timeout_ms: float | None = Field(default=None, gt=0)
    max_retries: int = Field(default=2, ge=0, le=10)
    fallback: Name | None = None
    fallback_model: str | None = None
    parallel: ParallelConfig | None = None

    @model_validator(mode="after")
    def _has_one_address(self) -> UpstreamConfig:
        if (self.base_url is None) == (self.base_urls is None):
            raise ValueError("give base_url, or for a worker or vllm base_urls")
        if self.base_urls is not None and self.kind not in ("worker", "vllm"):
            raise ValueError("base_urls is for kind: worker and kind: vllm; give base_url")
        if self.fallback is not None and self.kind != "worker":
            raise ValueError("fallback is for kind: worker")
        if self.fallback_model is not None and self.fallback is None:
            raise ValueError("fallback_model needs fallback")
        if self.parallel is not None and self.kind != "vllm":
            raise ValueError("parallel is for kind: vllm")
        return self

    @property
    def urls(self) -> tuple[str, ...]:
        """All its addresses, without slashes at their ends."""
        given = self.base_urls or ([self.base_url] if self.base_url else [])
        return tuple(str(url).rstrip("/") for url in given)


class ProtectConfig(_Model):
    """What a tenant protects beyond the laws, and what it releases."""

    numbers: bool = False
    terms: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    read_tools: tuple[str, ...] = ()

    @field_validator("patterns")
    @classmethod
    def _patterns_compile(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            _compile(pattern)
        return patterns


class StageConfig(BaseModel):
    """One step: ``use`` names the stage, every other key belongs to that stage's own model."""

    model_config = ConfigDict(frozen=True, extra="allow")

    use: str

    @property
    def options(self) -> dict[str, Any]:
        """The keys beside ``use``."""
        return dict(self.model_extra or {})


class PipelineConfig(_Model):
    """An ordered list of stages and the rules around them.

    ``min_tokens``: messages with fewer compressible tokens than this go untouched.
    ``deadline_ms``: time for all stages of a request; ``auto`` grows with its size.
    """

    stages: tuple[StageConfig, ...]
    min_tokens: int = Field(default=256, ge=0)
    deadline_ms: Literal["auto"] | Annotated[float, Field(gt=0)] = "auto"
    system: Literal["protect", "compress"] = "protect"
    assistant: Literal["protect", "compress"] = "protect"
    protect: ProtectConfig = ProtectConfig()
    document_pattern: str | None = None
    strict: bool = False

    @field_validator("document_pattern")
    @classmethod
    def _pattern_has_text(cls, pattern: str | None) -> str | None:
        if pattern is not None and "text" not in _compile(pattern).groupindex:
            raise ValueError("document_pattern needs a named group (?P<text>…)")
        return pattern


class TenantModelConfig(_Model):
    """What differs for models whose name matches a pattern such as ``gpt-*``."""

    pipeline: str | None = None
    upstream: str | None = None
    mode: Mode | None = None


class TenantConfig(_Model):
    """A tenant: who it is (key hashes), where its requests go, and what is done to them."""

    key_hashes: tuple[KeyHash, ...] = ()
    upstream: str
    mode: Mode = "on"
    pipeline: str | None = None
    models: dict[str, TenantModelConfig] = Field(default_factory=dict)


class Config(_Model):
    """The whole file."""

    version: Literal[1]
    plugins: PluginsConfig = PluginsConfig()
    auth: Literal["passthrough", "keys"] = "keys"
    store: str = "disk://"
    upstreams: dict[Name, UpstreamConfig] = Field(default_factory=dict)
    pipelines: dict[Name, PipelineConfig] = Field(default_factory=dict)
    tenants: dict[Name, TenantConfig] = Field(default_factory=dict)
    max_body_bytes: int = Field(default=128 * 1024 * 1024, gt=0)
    max_compress_bytes: int = Field(default=16 * 1024 * 1024, gt=0)
    outcome_ttl_s: float = Field(default=7 * 86_400, gt=0)

    @model_validator(mode="after")
    def _references_exist(self) -> Config:
        pipelines = (*self.pipelines, *PRESETS)
        for name, upstream in self.upstreams.items():
            _require(upstream.fallback, self.upstreams, "upstreams", name, "fallback")
            found = self.upstreams.get(upstream.fallback or "")
            if found is not None and found.kind in ("anthropic", "worker"):
                raise ValueError(
                    f"upstreams.{name}.fallback: {upstream.fallback} is of kind {found.kind}; it "
                    "must speak OpenAI's API and be no worker"
                )
        for name, tenant in self.tenants.items():
            at: tuple[str, ...] = ("tenants", name)
            _require(tenant.upstream, self.upstreams, *at, "upstream")
            _require(tenant.pipeline, pipelines, *at, "pipeline")
            for pattern, model in tenant.models.items():
                _require(model.upstream, self.upstreams, *at, "models", pattern, "upstream")
                _require(model.pipeline, pipelines, *at, "models", pattern, "pipeline")
        return self


PRESETS = ("lossless", "balanced", "aggressive")
OBSERVED_PIPELINE = "balanced"  # what mode `observe` reports on where no pipeline is named


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error


def _require(value: str | None, known: Iterable[str], *path: str) -> None:
    if value is not None and value not in known:
        raise ReferenceToNothingError(path, value, tuple(known))


class ReferenceToNothingError(ValueError):
    """A name in the file refers to nothing; ``config_problems`` turns it into a placed error."""

    def __init__(self, path: tuple[str, ...], value: str, known: tuple[str, ...]) -> None:
        super().__init__(f"{'.'.join(path)}: nothing is called {value!r}")
        self.path, self.value, self.known = path, value, known

    @property
    def empty(self) -> str:
        """What to say where there is nothing that it could refer to."""
        return f"the file has no {self.path[-1]}s"
