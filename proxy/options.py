"""What a request asks of the proxy in its ``x-ctxpress-*`` headers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from .errors import RefusedError

__all__ = ["NO_OPTIONS", "RequestOptions", "read_options"]

_TRUE = frozenset({"true", "1", "yes"})
_FALSE = frozenset({"false", "0", "no", ""})


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOptions:
    """``keep_ratio`` is the fraction kept by the whole pipeline, in (0, 1]."""

    bypass: bool = False
    pipeline: str | None = None
    keep_ratio: float | None = None


NO_OPTIONS = RequestOptions()


def read_options(own: Mapping[str, str], pipelines: Collection[str]) -> RequestOptions:
    """Read our request headers.

    :raises RefusedError: 400 that names the header and what is valid.
    """
    bypass = own.get("x-ctxpress-bypass", "").strip().lower()
    if bypass not in _TRUE and bypass not in _FALSE:
        raise _wrong("x-ctxpress-bypass", bypass, "true or false")
    pipeline = own.get("x-ctxpress-pipeline", "").strip() or None
    if pipeline is not None and pipeline not in pipelines:
        raise _wrong("x-ctxpress-pipeline", pipeline, ", ".join(sorted(pipelines)))
    return RequestOptions(
        bypass=bypass in _TRUE,
        pipeline=pipeline,
        keep_ratio=_ratio(own.get("x-ctxpress-keep-ratio")),
    )


def _ratio(text: str | None) -> float | None:
    if text is None:
        return None
    valid = "a number above 0 and up to 1, the fraction that is kept"
    try:
        ratio = float(text)
    except ValueError:
        raise _wrong("x-ctxpress-keep-ratio", text, valid) from None
    if not 0 < ratio <= 1:
        raise _wrong("x-ctxpress-keep-ratio", text, valid)
    return ratio


def _wrong(header: str, value: str, valid: str) -> RefusedError:
    return RefusedError(400, "invalid_header", f"{header}: {value[:100]!r} is not valid: {valid}")
