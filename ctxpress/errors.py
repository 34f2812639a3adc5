"""Every way ctxpress fails.

::

    CtxpressError
      ConfigError               the configuration file, an option or a command-line value is wrong
      PluginError               a plugin cannot be loaded, or two claim one name
      MissingDependencyError    an optional package is absent; the message holds the install command
      FormatError               a request body is not of the shape its endpoint takes
      ModelError                model files are missing, damaged or unsuited
      ContextLengthError        more tokens than the model's window holds
      StageError                a stage failed (raised to the caller only under ``strict``)
        LawError                a stage's output broke a law: protected text, ranges, growth
        DeadlineError           the time budget ran out
        ParityError             the `llmlingua` library would raise here (mode llmlingua2)
      StoreError                a store is unreachable, slow, full or holds nonsense
        KVMissError               stored KV vanished, is damaged or came too late while it was read
      CodecError                KV cannot be encoded, or bytes cannot be decoded
        CorruptContainerError     bytes that are no whole container: truncated, damaged, crafted
        UnsupportedVersionError   a container of a version or codec that this program cannot read
        LimitExceededError        a container claims more than the reader allows
        IdentityMismatchError     KV of another model, tokenizer, rope, dtype or text
        CalibrationMissingError   the container names a calibration that is not at hand
      EngineBusyError           the worker has as many requests as it takes on
      EngineClosedError         the worker is shutting down
      UpstreamError             the LLM backend cannot be reached
"""

from __future__ import annotations

__all__ = [
    "CalibrationMissingError",
    "CodecError",
    "ConfigError",
    "ContextLengthError",
    "CorruptContainerError",
    "CtxpressError",
    "DeadlineError",
    "EngineBusyError",
    "EngineClosedError",
    "FormatError",
    "IdentityMismatchError",
    "KVMissError",
    "LawError",
    "LimitExceededError",
    "MissingDependencyError",
    "ModelError",
    "ParityError",
    "PluginError",
    "StageError",
    "StoreError",
    "UnsupportedVersionError",
    "UpstreamError",
]


class CtxpressError(Exception):
    """Base of all errors that ctxpress raises on purpose."""


class ConfigError(CtxpressError):
    """The configuration is wrong; the message names file, line, what is wrong and what is valid."""


class PluginError(CtxpressError):
    """A plugin cannot be loaded or clashes with another; the message names both distributions."""


class MissingDependencyError(CtxpressError):
    """An optional dependency is not installed; the message holds the exact install command."""


class FormatError(CtxpressError):
    """A request body cannot be read as its endpoint's shape.

    ``code`` is the ``stage.Skip`` value under which the body is forwarded as it came; ``None``
    where the fault lies in the request's own ``ctxpress`` field, which is the caller's to mend.
    ``body`` is what to forward where that is not the body as it came: the same bytes less the
    ``ctxpress`` field, which never goes upstream.
    """

    def __init__(self, message: str, code: str | None = None, *, body: bytes | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.body = body


class ModelError(CtxpressError):
    """Model files are missing, damaged, or not of the expected kind."""


class ContextLengthError(CtxpressError):
    """A text has more tokens than the model's window holds; the message says both numbers."""


class StageError(CtxpressError):
    """A stage failed. The pipeline turns it into a skip unless ``strict`` is set."""


class LawError(StageError):
    """A stage's output broke one of the laws, so it was thrown away."""


class DeadlineError(StageError):
    """The time budget of a request ran out while a stage worked."""


class ParityError(StageError):
    """A call that the `llmlingua` library answers with an exception.

    ``mirrors`` is the type that the library raises; ``argument`` names what was wrong, in the
    library's terms (``context`` for the text itself).
    """

    def __init__(self, message: str, *, mirrors: type[Exception], argument: str) -> None:
        super().__init__(message)
        self.mirrors = mirrors
        self.argument = argument


class StoreError(CtxpressError):
    """A store is unreachable, timed out, is full, or was asked to hold too large a value."""


class KVMissError(StoreError):
    """A chunk of KV that was found could not be read to its end. To a cache, a miss.

    ``reason`` is a value of ``cache.kv_report.KVMiss``.
    """

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class CodecError(CtxpressError):
    """KV that a codec cannot encode, or bytes that it cannot decode. To a cache, a miss."""


class CorruptContainerError(CodecError):
    """Bytes that are not a whole, undamaged container; the message says where they go wrong."""


class UnsupportedVersionError(CodecError):
    """A well-formed container of a format version or codec that this program does not read."""


class LimitExceededError(CodecError):
    """A container claims sizes above the reader's limits; nothing was allocated for it."""


class IdentityMismatchError(CodecError):
    """A container holds KV of something else than was asked for; the message names the field."""


class CalibrationMissingError(CodecError):
    """A container was encoded with a calibration that is not at hand, or needs one and names none.

    ``sha256`` is its digest in hexadecimal, or empty.
    """

    def __init__(self, message: str, *, sha256: str) -> None:
        super().__init__(message)
        self.sha256 = sha256


class EngineBusyError(CtxpressError):
    """The worker has as many requests running and waiting as it takes on; try again later."""


class EngineClosedError(CtxpressError):
    """The worker is shutting down and takes no new requests."""


class UpstreamError(CtxpressError):
    """The LLM backend cannot be reached or broke off before its first byte."""
