"""The worker: a model, its scheduler, its KV, and what requests become."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ctxpress.engine.api.errors import ApiError
from ctxpress.engine.api.requests import AnswerRequest
from ctxpress.engine.contexts import ContextBuilder
from ctxpress.engine.generation import GenerationRequest
from ctxpress.engine.kv_memory import KVMemory
from ctxpress.engine.kv_source import KVSource
from ctxpress.engine.loading import RotaryModel
from ctxpress.engine.mixing_calibration import MixingCalibration
from ctxpress.engine.parallel import Mixing
from ctxpress.engine.prompts import DEFAULT_DOCUMENT_TEMPLATE, PromptPieces, prompt_pieces
from ctxpress.engine.sampling import SamplingOptions
from ctxpress.engine.scheduler import Scheduler, SchedulerLimits
from ctxpress.engine.versions import DocumentVersions
from ctxpress.errors import ContextLengthError

__all__ = ["Worker", "WorkerOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """How a worker serves.

    ``mixing``: T and S for documents that come with requests; None encodes them one behind the
    other. ``calibration``: the measurement that decided it; None where the operator did.
    ``memory_bytes``: KV kept uncompressed in this process. ``edits``: documents that changed a
    little keep the KV of what did not change, which approximates; up to a quarter of
    ``memory_bytes`` is kept of that, beside the rest.
    """

    limits: SchedulerLimits = SchedulerLimits()
    mixing: Mixing | None = None
    calibration: MixingCalibration | None = None
    memory_bytes: int = 2**30
    edits: bool = False
    document_template: str = DEFAULT_DOCUMENT_TEMPLATE


class Worker:
    """Turns parsed requests into generations. Close it to end its thread."""

    def __init__(
        self, model: RotaryModel, options: WorkerOptions, *, source: KVSource | None = None
    ) -> None:
        self.model = model
        self.options = options
        self._mixing = options.mixing
        self.scheduler = Scheduler(model, options.limits)
        self.source = source or KVMemory(options.memory_bytes)
        self._contexts = ContextBuilder(
            model,
            self.source,
            mixing=lambda: self._mixing,
            gate=_gate(options.calibration),
            versions=DocumentVersions(max_bytes=options.memory_bytes // 4)
            if options.edits
            else None,
            piece_tokens=options.limits.piece_tokens,
        )
        self._end_tokens = _end_tokens(model)

    def generation_request(self, request: AnswerRequest) -> GenerationRequest:
        """What the scheduler is to do. Tokenises, so long prompts belong in a thread.

        :raises ApiError, ContextLengthError: the request cannot be answered.
        """
        pieces = self._pieces(request)
        begun = tuple(self.model.token_ids(request.continue_from)) if request.continue_from else ()
        longest = max(map(len, pieces.documents), default=0)
        needed = len(pieces.prefix) + longest + len(pieces.suffix)
        if self._mixing is None:
            needed = pieces.n_tokens
        room = self.model.max_tokens - needed
        if room < 1:
            raise ContextLengthError(
                f"the prompt takes {needed} positions, and {self.model.name} has "
                f"{self.model.max_tokens}, of which the answer needs at least one"
            )
        if request.max_tokens is not None and request.max_tokens > room:
            raise ContextLengthError(
                f"the prompt takes {needed} positions and the answer may take "
                f"{request.max_tokens}, but {self.model.name} has {self.model.max_tokens}"
            )
        whole = replace(pieces, suffix=(*pieces.suffix, *begun))
        return GenerationRequest(
            prepare=lambda: self._contexts.prepare(whole),
            prepare_again=lambda: self._contexts.prepare(whole, whole=True),
            n_prompt_tokens=pieces.n_tokens,
            max_tokens=room if request.max_tokens is None else request.max_tokens,
            sampling=request.sampling,
            stop=request.stop,
            end_tokens=self._end_tokens,
            begun_tokens=begun,
        )

    def prefetch_request(self, request: AnswerRequest) -> GenerationRequest:
        """What the scheduler is to do so that a request's documents are known when it comes.

        :raises ApiError: there are no documents, or they are not encoded by themselves here.
        :raises ContextLengthError: a document is longer than the model's window.
        """
        pieces = self._pieces(request)
        if not pieces.documents:
            raise ApiError("ctxpress.documents holds nothing to fetch", param="ctxpress.documents")
        if self._mixing is None:
            raise ApiError(
                "this worker encodes documents one behind the other, so none can be computed "
                "by itself (--documents parallel, or auto where the model passes the gate)",
                status=409,
                code="sequential_documents",
            )
        longest = len(pieces.prefix) + max(map(len, pieces.documents))
        if longest > self.model.max_tokens:
            raise ContextLengthError(
                f"the longest document ends at position {longest}, and {self.model.name} has "
                f"{self.model.max_tokens}"
            )
        return GenerationRequest(
            prepare=lambda: self._contexts.prefetch(pieces),
            n_prompt_tokens=longest,
            max_tokens=0,
            sampling=SamplingOptions(),
        )

    def _pieces(self, request: AnswerRequest) -> PromptPieces:
        if request.model and request.model != self.model.name:
            raise ApiError(
                f"this worker serves {self.model.name!r}, not {request.model!r}",
                status=404,
                param="model",
                code="model_not_found",
            )
        return prompt_pieces(self.model, request, document_template=self.options.document_template)

    def token_text(self, token_id: int) -> str:
        """The text of one token, for log probabilities."""
        text: str = self.model.tokenizer.decode([token_id])
        return text

    def close(self, *, drain_s: float = 0.0) -> None:
        """End the scheduler; see ``Scheduler.close``."""
        self.scheduler.close(drain_s=drain_s)


def _gate(calibration: MixingCalibration | None) -> dict[str, Any]:
    """What answers say of why documents are encoded as they are."""
    if calibration is None:
        return {"gate": "not asked"}
    passed = "passed" if calibration.accepted else "failed"
    return {"gate": passed, "kl": calibration.kl, "kl_bound": calibration.bound}


def _end_tokens(model: RotaryModel) -> frozenset[int]:
    """The ids that end an answer, by the model's generation config and its tokenizer."""
    config = getattr(model.model, "generation_config", None)
    ids = getattr(config, "eos_token_id", None)
    found = set(ids if isinstance(ids, list) else [] if ids is None else [ids])
    if model.tokenizer is not None and model.tokenizer.eos_token_id is not None:
        found.add(model.tokenizer.eos_token_id)
    return frozenset(found)
