"""Every way ctxpress fails.

::

    CtxpressError
      ConfigError               the configuration file, an option or a command-line value is wrong
      PluginError               a plugin cannot be loaded, or two claim one name
      MissingDependencyError    an optional package is absent; the message holds the install command
      FormatError               a request body is not of the shape its endpoint takes
      ModelError                model files are missing, damaged or unsuited
      StageError                a stage failed (raised to the caller only under ``strict``)
        LawError                a stage's output broke a law: protected text, ranges, growth
        DeadlineError           the time budget ran out
        ParityError             the `llmlingua` library would raise here (mode llmlingua2)
      StoreError                a store is unreachable, slow, full or holds nonsense
      UpstreamError             the LLM backend cannot be reached
"""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "CtxpressError",
    "DeadlineError",
    "FormatError",
    "LawError",
    "MissingDependencyError",
    "ModelError",
    "ParityError",
    "PluginError",
    "StageError",
    "StoreError",
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


class UpstreamError(CtxpressError):
    """The LLM backend cannot be reached or broke off before its first byte."""
