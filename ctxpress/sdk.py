"""The SDK: compress a text, messages or documents in one call, or hold a pipeline and reuse it.

Async functions do the work; the sync ones are thin wrappers that run them on a loop of their own,
also from inside a running loop (notebooks). Without ``config`` the presets are at hand:
``lossless``, ``balanced``, ``aggressive``.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ctxpress.assembly import create_compressor
from ctxpress.cache.key import Namespace, load_secret, state_dir
from ctxpress.compressor import RequestCompressor, RequestPolicy
from ctxpress.config import PRESETS, Config, PipelineConfig, PluginsConfig, StageConfig
from ctxpress.config_file import load_config_and_plugins
from ctxpress.document import ContextDocument, Kind, Role
from ctxpress.errors import ConfigError, FormatError
from ctxpress.formats.options import ParseOptions
from ctxpress.formats.segmentation import segment
from ctxpress.manager import PluginManager, create_plugin_manager
from ctxpress.nearest import did_you_mean
from ctxpress.passages import DocumentLike, document_of_texts
from ctxpress.pipeline import PipelineResult, RunOptions
from ctxpress.results import CompressedDocuments, CompressedMessageList, CompressedText
from ctxpress.waiting import wait

__all__ = [
    "Pipeline",
    "acompress",
    "acompress_documents",
    "acompress_messages",
    "compress",
    "compress_documents",
    "compress_messages",
    "open_pipeline",
]

DEFAULT_KEEP_RATIO = 0.5
DEFAULT_STAGE: Mapping[str, Any] = {"use": "token_classification"}
DEFAULT_STAGE_FOR_A_QUESTION: Mapping[str, Any] = {"use": "restructure"}
PATIENT_MS = 86_400_000.0  # a caller of the SDK waits; time budgets are for requests


class Pipeline:
    """A named pipeline held for many calls: plugins are loaded and models shared.

    It may be called from several threads, each with its own event loop. Conversations are
    remembered in ``store`` (law 3: a growing conversation keeps its compressed prefix);
    ``memory://`` lasts as long as this object. Close it, or use ``async with``.
    """

    def __init__(
        self,
        name: str,
        config: Config,
        *,
        secret: bytes = b"ctxpress in-process",
        manager: PluginManager | None = None,
    ) -> None:
        known = {*config.pipelines, *PRESETS}
        if name not in known:
            raise ConfigError(f"no pipeline is called {name!r}{did_you_mean(name, known)}")
        self.name = name
        self._compressor: RequestCompressor = create_compressor(config, manager=manager)
        self._namespace = Namespace.derive(secret, "sdk")

    @classmethod
    def from_file(cls, path: str | Path, name: str) -> Pipeline:
        """The pipeline ``name`` of a configuration file, over the file's store.

        :raises ConfigError: the file or the name is wrong.
        """
        config, manager = load_config_and_plugins(Path(path))
        if config.plugins == PluginsConfig():
            manager = _default_manager()  # its models may be loaded already
        return cls(name, config, secret=load_secret(None, state_dir()), manager=manager)

    @classmethod
    def from_stages(
        cls,
        *stages: Mapping[str, Any],
        strict: bool = False,
        store: str = "memory://",
        manager: PluginManager | None = None,
    ) -> Pipeline:
        """A pipeline of stages given as mappings: ``{"use": "token_classification", …}``.

        ``manager`` holds the plugins that register them; without one these are the built-in ones.

        :raises ConfigError: a stage or an option is wrong.
        """
        config = PipelineConfig(
            stages=tuple(_stage(number, stage) for number, stage in enumerate(stages)),
            min_tokens=0,
            deadline_ms=PATIENT_MS,
            strict=strict,
        )
        return cls(
            "custom",
            Config(version=1, store=store, pipelines={"custom": config}),
            manager=manager or _default_manager(),
        )

    @property
    def question_stages(self) -> tuple[str, ...]:
        """The names of the stages that cannot work without a question."""
        stages = self._compressor.pipelines[self.name].pipeline.stages
        return tuple(
            stage.name
            for stage in stages
            if stage.traits.query_aware and not stage.traits.query_optional
        )

    async def run(self, document: ContextDocument, **options: Any) -> PipelineResult:
        """Run over a document that you built; ``options`` are those of ``RunOptions``.

        Equal documents with equal options give equal results; other options decide anew.

        :raises ConfigError: a ratio out of (0, 1] or a budget below 1.
        """
        _expect("document", document, ContextDocument)
        wanted = RunOptions(**options)
        _check_budget(wanted.keep_ratio, wanted.target_tokens)
        return await self._compressor.compress_document(document, self._policy(), wanted)

    async def compress_messages(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        model: str | None = None,
        keep_ratio: float | None = None,
    ) -> CompressedMessageList:
        """Compress OpenAI or Anthropic messages.

        :raises FormatError: ``messages`` is not a list of messages.
        :raises ConfigError: a ratio out of (0, 1].
        """
        _check_budget(keep_ratio, None)
        _expect("model", model, str, None)
        result = await self._compressor.compress_messages(
            _read_messages(messages), model, self._policy(keep_ratio)
        )
        return CompressedMessageList(messages=result.messages, report=result.report)

    async def compress_documents(
        self,
        question: str | None,
        documents: Sequence[DocumentLike],
        *,
        keep_ratio: float | None = None,
        budget_tokens: int | None = None,
        model: str | None = None,
    ) -> CompressedDocuments:
        """Compress retrieved documents for a question; see :func:`acompress_documents`.

        Without ``keep_ratio`` and ``budget_tokens`` the stages' own ratios hold. Equal documents
        with an equal question give equal results while the store remembers them.

        :raises ConfigError: a ratio out of (0, 1], a budget below 1, a document of a wrong shape.
        """
        _expect("question", question, str, None)
        _expect("model", model, str, None)
        _check(keep_ratio, budget_tokens, "budget_tokens")
        return await self._compressor.compress_documents(
            question, documents, self._policy(keep_ratio), target_tokens=budget_tokens, model=model
        )

    async def aclose(self) -> None:
        """Release threads and the store."""
        await self._compressor.aclose()

    async def __aenter__(self) -> Pipeline:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _policy(self, keep_ratio: float | None = None) -> RequestPolicy:
        return RequestPolicy(
            namespace=self._namespace, pipeline=self.name, mode="on", keep_ratio=keep_ratio
        )


async def acompress(
    text: str,
    *,
    keep_ratio: float | None = None,
    target_tokens: int | None = None,
    question: str | None = None,
    model: str | None = None,
    pipeline: str | None = None,
    config: str | Path | None = None,
    strict: bool = False,
) -> CompressedText:
    """Compress one text.

    ``keep_ratio`` is the fraction of the unprotected text's tokens to keep (0.5 unless a
    pipeline says otherwise); ``target_tokens`` a budget in tokens of ``model`` instead. Code,
    JSON, URLs and ``<keep>…</keep>`` are protected. ``question`` serves query-aware stages.

    :raises ConfigError: a ratio out of (0, 1], or an unknown pipeline.
    """
    _expect("text", text, str)
    _expect("question", question, str, None)
    _expect("model", model, str, None)
    _check(keep_ratio, target_tokens)
    options = ParseOptions()
    spans = segment(text, role=Role.USER, kind=Kind.PROSE, options=options, ask=False)
    ratio = _ratio(keep_ratio, target_tokens, pipeline)
    async with open_pipeline(pipeline, config=config, strict=strict) as held:
        document = document_of_texts([(text, spans)], question=question, model=model)
        result = await held.run(document, keep_ratio=ratio, target_tokens=target_tokens)
    block = result.document.blocks[0]
    return CompressedText(text=block.text, kept=block.kept, report=result.report)


async def acompress_messages(
    messages: Sequence[Mapping[str, Any]],
    *,
    pipeline: str = "balanced",
    keep_ratio: float | None = None,
    model: str | None = None,
    config: str | Path | None = None,
) -> CompressedMessageList:
    """Compress OpenAI or Anthropic messages; returns as many messages as were given.

    Only the newest turn is compressed: a call knows nothing of earlier ones. Hold a
    :class:`Pipeline` to keep a growing conversation's prefix identical from turn to turn.

    :raises FormatError: ``messages`` is not a list of messages.
    :raises ConfigError: a ratio out of (0, 1], or an unknown pipeline.
    """
    _check(keep_ratio, None)
    _read_messages(messages)
    async with open_pipeline(pipeline, config=config) as held:
        return await held.compress_messages(messages, model=model, keep_ratio=keep_ratio)


async def acompress_documents(
    question: str | None,
    documents: Sequence[DocumentLike],
    *,
    keep_ratio: float | None = None,
    budget_tokens: int | None = None,
    pipeline: str | None = None,
    model: str | None = None,
    config: str | Path | None = None,
) -> CompressedDocuments:
    """Compress retrieved documents for a question.

    With a question and no ``pipeline``, the sentences of use stay, verbatim, whichever documents
    they are of (the stage ``restructure``): at most ``keep_ratio`` of all tokens, 0.5 unless asked
    for. Where nothing is of use, or the question is in a language that the model does not read,
    the documents stay whole, and the report says so. Without a question, words are deleted from
    each (``token_classification``). ``budget_tokens`` is for all documents together, and holds
    where nothing is of use, too. ``result.citations`` maps every kept piece to its document.

    :raises ConfigError: a ratio out of (0, 1], or an unknown pipeline.
    """
    ratio = _ratio(keep_ratio, budget_tokens, pipeline)
    asked = bool(question and question.strip()) and pipeline is None and config is None
    stages = [DEFAULT_STAGE_FOR_A_QUESTION] if asked else None
    async with open_pipeline(pipeline, config=config, stages=stages) as held:
        return await held.compress_documents(
            question, documents, keep_ratio=ratio, budget_tokens=budget_tokens, model=model
        )


def open_pipeline(
    name: str | None = None,
    *,
    config: str | Path | None = None,
    stages: Sequence[Mapping[str, Any]] | None = None,
    strict: bool = False,
) -> Pipeline:
    """The pipeline that a caller means: of a file, a preset, of stages, or the default stage.

    ``strict`` is for pipelines of stages; the others say so themselves.

    :raises ConfigError: names that contradict each other, or mean nothing.
    """
    if stages is not None:
        if name is not None or config is not None:
            raise ConfigError("give stages, or the name of a pipeline, not both")
        return Pipeline.from_stages(*stages, strict=strict)
    if config is not None:
        if name is None:
            raise ConfigError("name the pipeline of the configuration file: pipeline='…'")
        return Pipeline.from_file(config, name)
    if name is not None:
        return Pipeline(name, Config(version=1, store="memory://"), manager=_default_manager())
    return Pipeline.from_stages(DEFAULT_STAGE, strict=strict)


def compress(text: str, **options: Any) -> CompressedText:
    """:func:`acompress`, waited for."""
    return wait(acompress(text, **options))


def compress_messages(
    messages: Sequence[Mapping[str, Any]], **options: Any
) -> CompressedMessageList:
    """:func:`acompress_messages`, waited for."""
    return wait(acompress_messages(messages, **options))


def compress_documents(
    question: str | None, documents: Sequence[DocumentLike], **options: Any
) -> CompressedDocuments:
    """:func:`acompress_documents`, waited for."""
    return wait(acompress_documents(question, documents, **options))


@functools.cache
def _default_manager() -> PluginManager:
    """The built-in plugins, made once a process so that calls share one loaded model."""
    return create_plugin_manager()


def _stage(number: int, stage: Mapping[str, Any]) -> StageConfig:
    try:
        return StageConfig.model_validate(dict(stage))
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"stages[{number}]: a mapping with the stage's name under 'use' and its options "
            f"is needed; got {stage!r}"
        ) from error


def _read_messages(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence):
        raise FormatError(f"messages: a list of messages is needed, not {_kind(messages)}")
    for number, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise FormatError(f"messages[{number}]: a mapping is needed, not {_kind(message)}")
    return [dict(message) for message in messages]


def _expect(name: str, value: object, *types: type | None) -> None:
    """Say which argument is wrong here, before something deep inside stumbles over it."""
    if not any(value is None if kind is None else isinstance(value, kind) for kind in types):
        names = " or ".join("None" if kind is None else kind.__name__ for kind in types)
        raise TypeError(f"{name}: {names} is needed, not {_kind(value)}")


def _kind(value: object) -> str:
    return type(value).__name__


def _check_budget(
    keep_ratio: float | None, budget: int | None, name_of_budget: str = "target_tokens"
) -> None:
    for name, value, types in (
        ("keep_ratio", keep_ratio, (float, int, None)),
        (name_of_budget, budget, (int, None)),
    ):
        if isinstance(value, bool):
            raise TypeError(f"{name}: a number is needed, not bool")
        _expect(name, value, *types)
    if keep_ratio is not None and not 0 < keep_ratio <= 1:
        raise ConfigError(f"keep_ratio is the fraction kept, in (0, 1]; got {keep_ratio}")
    if budget is not None and budget < 1:
        raise ConfigError(f"{name_of_budget} is a budget of at least 1 token; got {budget}")


def _check(
    keep_ratio: float | None, budget: int | None, name_of_budget: str = "target_tokens"
) -> None:
    _check_budget(keep_ratio, budget, name_of_budget)
    if keep_ratio is not None and budget is not None:
        raise ConfigError(f"give keep_ratio or {name_of_budget}, not both")


def _ratio(
    keep_ratio: float | None, budget_tokens: int | None, pipeline: str | None
) -> float | None:
    """The ratio to ask for: the stages' own where a budget or a pipeline decides."""
    if keep_ratio is None and budget_tokens is None and pipeline is None:
        return DEFAULT_KEEP_RATIO
    return keep_ratio
