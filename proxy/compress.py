"""The step between a body received and a body sent. It never costs a request its answer."""

from __future__ import annotations

import logging
import re
import traceback
from dataclasses import dataclass

import orjson

from ctxpress.compressor import RequestPolicy
from ctxpress.errors import FormatError, StageError
from ctxpress.formats.references import References
from ctxpress.report import Report
from ctxpress.stage import Skip

from .errors import RefusedError
from .headers import RequestHead
from .options import RequestOptions
from .runtime import Runtime
from .tenants import Target, Tenant

__all__ = ["Compression", "compress", "goes_untouched", "log_once", "model_of", "without_extension"]

logger = logging.getLogger(__name__)

FIELD = b"ctxpress"
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]:,]', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Compression:
    """What to send; ``report`` is ``None`` where compression failed as a whole."""

    body: bytes
    skipped: Skip | None
    report: Report | None = None
    references: References | None = None


def goes_untouched(runtime: Runtime, target: Target, raw: bytes) -> bool:
    """Whether a body can go as it came without a look into it: off, and no field of ours."""
    return target.switched(runtime.switch.state)[0] == "off" and FIELD not in raw


async def compress(
    runtime: Runtime,
    format_name: str,
    raw: bytes,
    *,
    tenant: Tenant,
    target: Target,
    options: RequestOptions,
    head: RequestHead,
) -> Compression:
    """Compress a body as its tenant, the switch and the request's own headers have it.

    :raises RefusedError: 400, our own ``ctxpress`` field is wrong; 422, a stage failed and the
        pipeline is strict.
    """
    mode, pipeline = target.switched(runtime.switch.state)
    policy = RequestPolicy(
        namespace=runtime.tenants.namespace(tenant, head),
        pipeline=options.pipeline or pipeline,
        mode=mode,
        keep_ratio=options.keep_ratio,
        bypass=options.bypass,
        asked=options.pipeline is not None,
    )
    try:
        result = await runtime.compressor.compress_body(format_name, raw, policy)
    except FormatError as error:
        raise RefusedError(400, "invalid_ctxpress_field", str(error)) from error
    except StageError as error:
        raise RefusedError(422, "stage_failed", f"a stage failed (strict): {error}") from error
    except Exception as error:
        runtime.metrics.errors[tenant.name, "compression"] += 1
        log_once(runtime, "compression failed, the request goes as it came", error)
        return Compression(without_extension(raw), Skip.STAGE_FAILED)
    report = result.report
    skipped = report.skipped
    if skipped is None and mode == "observe" and not report.applied:
        skipped = Skip.OBSERVE
    return Compression(result.body, skipped, report, result.references)


def without_extension(raw: bytes) -> bytes:
    """A body less our own field, which never goes upstream; anything odd stays as it came."""
    if FIELD not in raw:
        return raw
    from ctxpress.formats.json_edit import DeleteMember, apply_edits

    try:
        body = orjson.loads(raw)
        if isinstance(body, dict) and FIELD.decode() in body:
            return apply_edits(raw, [DeleteMember(f"/{FIELD.decode()}")])
    except (orjson.JSONDecodeError, FormatError):
        pass
    return raw


def model_of(raw: bytes) -> str | None:
    """The ``model`` of a JSON object, without reading the rest of it into values."""
    depth, key, expect_value = 0, b"", False
    for match in _TOKENS.finditer(raw):
        token = match.group()
        first = token[:1]
        if first in b"{[":
            depth += 1
            expect_value = False
        elif first in b"}]":
            depth -= 1
        elif depth != 1:
            continue
        elif first == b":":
            expect_value = True
        elif first == b",":
            expect_value = False
        elif not expect_value:
            key = token
        elif key == b'"model"':
            try:
                value = orjson.loads(token)
            except orjson.JSONDecodeError:
                return None
            return value if isinstance(value, str) else None
    return None


def log_once(runtime: Runtime, what: str, error: Exception) -> None:
    """Say where an unexpected error came from, once for each place.

    Its message and values stay out of the log: they may hold prompt text.
    """
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "unknown"
    line = f"{what}: {type(error).__name__} at {place}"
    if line not in runtime.warned:
        runtime.warned.add(line)
        logger.error(line)
