"""``ctxpress demo`` (also ``make run``): see a long prompt shrink on its way to an API.

``--kv`` (also ``make run-kv``) shows the other way, see :mod:`ctxpress.cli.demo_kv`.

Starts a small upstream and the real proxy in front of it, both on this machine, and sends prompts
through plain HTTP as any client would. What is shown as sent is what the upstream received.
"""

from __future__ import annotations

import contextlib
import hashlib
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ctxpress.errors import ConfigError, CtxpressError

if TYPE_CHECKING:
    from ctxpress.cli.demo_samples import Sample
    from ctxpress.cli.demo_upstream import DemoUpstream
    from ctxpress.cli.demo_view import Outcome
    from ctxpress.config import Config

__all__ = ["demo"]

PIPELINE = "balanced"
TIMEOUT_S = 120.0


def demo(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Your own texts, each sent as a user message.")
    ] = None,
    keep_ratio: Annotated[
        float | None,
        typer.Option("--keep-ratio", "-k", help="Fraction to keep, in (0, 1]. (default: 0.6)"),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Show long texts whole.")] = False,
    kv: Annotated[
        bool,
        typer.Option("--kv", help="Show documents whose KV is reused, by workers (needs torch)."),
    ] = False,
    codec: Annotated[
        str | None,
        typer.Option("--codec", help="With --kv: how KV is stored. (default: cachegen-3)"),
    ] = None,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait/--no-wait", help="Keep running afterwards, to be tried with a client."
        ),
    ] = True,
) -> None:
    """Send long prompts through a local proxy and show what arrives on the other side."""
    if kv:
        if files or keep_ratio is not None or full:
            raise ConfigError("--kv asks about documents of its own: no files, ratio or --full")
        with _ended_by_sigterm():
            _demo_kv(codec, wait=wait)
        return
    if codec is not None:
        raise ConfigError("--codec needs --kv")
    if keep_ratio is not None and not 0 < keep_ratio <= 1:
        raise ConfigError(f"--keep-ratio is the fraction kept, in (0, 1]; got {keep_ratio:g}")
    from ctxpress.cli.demo_samples import load_samples, read_samples
    from ctxpress.cli.demo_upstream import DemoUpstream
    from ctxpress.cli.demo_view import DemoView
    from ctxpress.cli.proxy_thread import ProxyThread
    from ctxpress.cli.terminal import create_console, progress

    samples = read_samples(files) if files else load_samples()
    view = DemoView(create_console(), full=full)
    with DemoUpstream() as upstream, ProxyThread(_config(upstream.url)) as proxy:
        view.begin(proxy.url, upstream.url)
        for number, sample in enumerate(samples, start=1):
            with progress(f"compressing {sample.title}"):
                outcome = _send(proxy.url, upstream, sample, keep_ratio)
            view.sample(number, sample.title, outcome)
        _end(lambda: view.end(proxy.url, waiting=wait), wait=wait)
        if wait:
            view.stopped()


def _demo_kv(codec: str | None, *, wait: bool) -> None:
    from ctxpress.cli.proxy_thread import require_proxy
    from ctxpress.cli.worker import require_torch

    require_torch()
    require_proxy()
    from ctxpress.cli.demo_kv import KVDemo, KVDemoSettings
    from ctxpress.cli.demo_kv_view import KVDemoView
    from ctxpress.cli.demo_store import find_redis_server
    from ctxpress.cli.terminal import create_console, progress

    settings = KVDemoSettings(codec=codec or "cachegen-3", redis_server=find_redis_server())
    view = KVDemoView(create_console())
    with contextlib.ExitStack() as stack:
        with progress("starting the model, two workers, a store and the proxy"):
            chain = stack.enter_context(KVDemo(settings))
        view.begin(chain.setting)
        view.answer("the first question: documents are read", chain.ask())
        second = chain.ask()
        view.answer("another one, in another order of the documents", second)
        chain.lose(second.worker_url)
        view.lost(second.worker_url)
        view.answer("a third one, of the other worker", chain.ask())
        with progress("measuring codecs"):
            sizes = list(chain.sizes())
        view.sizes(sizes)
        _end(lambda: view.end(chain.setting.proxy_url, waiting=wait), wait=wait)
    if wait:
        view.stopped()


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM is an exception in here, so that the store that was started ends too."""

    def end(*_: object) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(say: Callable[[], None], *, wait: bool) -> None:
    """Say that all was shown; then wait for Ctrl-C, which is how a demo ends."""
    if not wait:
        say()
        return
    # No exception, which would break off what is printed: the words ask for Ctrl-C, and somebody
    # may be quicker than they are. A handler may put into this queue whatever goes on.
    asked: SimpleQueue[int] = SimpleQueue()
    before = signal.signal(signal.SIGINT, lambda number, _: asked.put(number))
    try:
        say()
        asked.get()
    finally:
        signal.signal(signal.SIGINT, before)


def _config(upstream_url: str) -> Config:
    from ctxpress.config import Config

    return Config.model_validate(
        {
            "version": 1,
            "auth": "passthrough",
            "store": "memory://",
            "upstreams": {"demo": {"kind": "openai", "base_url": upstream_url}},
            "tenants": {"default": {"upstream": "demo", "mode": "on", "pipeline": PIPELINE}},
        }
    )


def _send(
    proxy_url: str, upstream: DemoUpstream, sample: Sample, keep_ratio: float | None
) -> Outcome:
    """Send one request through the proxy; returns what the upstream received for it.

    :raises CtxpressError: the proxy does not answer as it should.
    """
    import httpx

    from ctxpress.cli.demo_view import Outcome

    headers = {"authorization": "Bearer demo", "content-type": "application/json"}
    if keep_ratio is not None:
        headers["x-ctxpress-keep-ratio"] = f"{keep_ratio:g}"
    started = time.monotonic()
    try:
        answer = httpx.post(
            f"{proxy_url}/v1/chat/completions",
            content=sample.body,
            headers=headers,
            timeout=TIMEOUT_S,
            trust_env=False,  # a proxy that the environment names has no business here
        )
        answer.raise_for_status()
    except httpx.HTTPError as error:
        raise CtxpressError(f"the demo's proxy did not answer: {error}") from error
    elapsed_ms = (time.monotonic() - started) * 1000
    claimed: dict[str, Any] = answer.json().get("received", {})
    received = upstream.find(str(claimed.get("sha256")))
    if received is None or hashlib.sha256(received.body).hexdigest() != received.sha256:
        raise CtxpressError("the demo's upstream did not receive what its answer names")
    return Outcome(
        sent=sample.body,
        received=received.body,
        sha256=received.sha256,
        headers={name.lower(): value for name, value in answer.headers.items()},
        elapsed_ms=elapsed_ms,
    )
