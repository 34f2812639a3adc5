"""What is known about one request: it becomes response headers, metrics and a log line (law 5)."""

from __future__ import annotations

from dataclasses import dataclass

from ctxpress.report import Report
from ctxpress.stage import Skip

from .metrics import Metrics
from .tenants import DEFAULT_TENANT
from .types import RawHeaders

__all__ = ["CLIENT_GONE", "PARALLEL", "RequestRecord"]

CLIENT_GONE = 499  # nginx's word for it, in metrics and the log only
PARALLEL = "parallel"
_STATUS_CLASS = {number: f"{number}xx" for number in range(1, 6)}


@dataclass(slots=True)
class RequestRecord:
    """Filled in while the request runs. No text of a prompt and no key gets in here.

    ``overhead_s`` is the time from the request's last byte to the moment it goes upstream,
    ``ended`` the wall-clock second of its end. ``kv`` says of an ``upstream`` with documents in
    parallel that these went so, or why they did not.
    """

    request_id: str
    endpoint: str
    tenant: str = DEFAULT_TENANT
    status: int = 0
    overhead_s: float = 0.0
    skipped: Skip | None = None
    report: Report | None = None
    ended: float = 0.0
    kv: str | None = None
    upstream: str = ""

    def headers(self) -> RawHeaders:
        """The response headers that explain the request."""
        headers: RawHeaders = [
            (b"x-ctxpress-request-id", self.request_id.encode()),
            (b"x-ctxpress-overhead-ms", b"%.2f" % (self.overhead_s * 1000)),
        ]
        report = self.report
        if report is not None and report.tokens_before:
            headers.append((b"x-ctxpress-tokens-before", b"%d" % report.tokens_before))
            headers.append((b"x-ctxpress-tokens-after", b"%d" % report.tokens_after))
        if report is not None and (ran := [stage.stage for stage in report.stages if stage.ran]):
            headers.append((b"x-ctxpress-stages", ",".join(ran).encode()))
        if self.skipped is not None:
            headers.append((b"x-ctxpress-skipped", self.skipped.value.encode()))
        if self.kv == PARALLEL:
            headers.append((b"x-ctxpress-kv", b"parallel"))
        elif self.kv is not None:
            headers.append((b"x-ctxpress-kv", b"plain"))
            headers.append((b"x-ctxpress-kv-reason", self.kv.encode()))
        return headers

    def account(self, metrics: Metrics) -> None:
        """Count the request, once, when it is over."""
        tenant, endpoint, report = self.tenant, self.endpoint, self.report
        status = _STATUS_CLASS.get(self.status // 100, "none")
        metrics.requests[tenant, endpoint, status] += 1
        metrics.overhead[endpoint,].observe(self.overhead_s)
        if self.skipped is not None:
            metrics.skips[tenant, self.skipped.value] += 1
        if self.status == CLIENT_GONE:
            metrics.errors[tenant, "client_gone"] += 1
        if self.kv is not None:
            metrics.kv_requests[self.upstream, self.kv] += 1
        if report is not None:
            metrics.report(tenant, report)

    def line(self) -> str:
        """The request as one line of the log."""
        report = self.report
        tokens, kv = "before=- after=-", "" if self.kv is None else f" kv={self.kv}"
        if report is not None:
            tokens = f"before={report.tokens_before} after={report.tokens_after}"
        return (
            f"request id={self.request_id} tenant={self.tenant} endpoint={self.endpoint} "
            f"status={self.status} {tokens} skipped={self.skipped or '-'} "
            f"overhead_ms={self.overhead_s * 1000:.2f}{kv}"
        )
