"""Bodies: byte-identical when untouched, right when changed, bounded always."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from ctxpress.compressor import RequestPolicy
from ctxpress.errors import FormatError, StageError
from tests.proxy.running import FakeCompressor, compressing, fetch, passthrough, running_proxy
from tests.proxy.upstream import FakeUpstream, Received, Reply

ODD = (
    b'{ "model":"m",\t"unknown": [1.0, 1e5, "\\u00e9\xc3\xa9"],\r\n "messages" : '
    b'[{"role":"user","content":"a long long text"}] }\n'
)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def failing(_: str, __: bytes, ___: RequestPolicy) -> bytes:
    raise RuntimeError("a secret prompt")


@pytest.mark.parametrize(
    ("mode", "headers", "work", "skipped"),
    [
        ("off", {}, None, "off"),
        ("observe", {}, None, "observe"),
        ("on", {"x-ctxpress-bypass": "true"}, None, "bypass"),
        ("on", {}, failing, "stage_failed"),
    ],
)
async def test_untouched_bodies_are_the_same_bytes(
    upstream: FakeUpstream,
    tmp_path: Path,
    mode: str,
    headers: dict[str, str],
    work: Any,
    skipped: str,
) -> None:
    config = compressing(upstream.url, mode)
    async with running_proxy(config, tmp_path, FakeCompressor(work)) as proxy:
        _, answer, _ = await fetch(f"{proxy.url}/v1/chat/completions", data=ODD, headers=headers)
    assert sha(upstream.last.body) == sha(ODD)
    assert answer["x-ctxpress-skipped"] == skipped
    assert upstream.last.header("content-length") == str(len(ODD))


async def test_failures_are_logged_once_and_without_text(
    upstream: FakeUpstream, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    config = compressing(upstream.url)
    async with running_proxy(config, tmp_path, FakeCompressor(failing)) as proxy:
        for _ in range(3):
            await fetch(
                f"{proxy.url}/v1/chat/completions",
                data=ODD,
                headers={"authorization": "Bearer sk-very-secret"},
            )
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1
    assert "RuntimeError at" in errors[0].getMessage()
    for secret in ("a secret prompt", "long long", "sk-very-secret"):
        assert secret not in caplog.text


async def test_compressed_bodies_have_the_right_length(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    async with running_proxy(compressing(upstream.url), tmp_path) as proxy:
        status, headers, _ = await fetch(f"{proxy.url}/v1/chat/completions", data=ODD)
    short = ODD.replace(b"long long", b"long")
    assert status == 200
    assert upstream.last.body == short
    assert upstream.last.header("content-length") == str(len(short))
    assert headers["x-ctxpress-tokens-before"] == str(len(ODD))
    assert headers["x-ctxpress-tokens-after"] == str(len(short))
    assert headers["x-ctxpress-stages"] == "dedupe"
    assert "x-ctxpress-skipped" not in headers
    assert float(headers["x-ctxpress-overhead-ms"]) >= 0


async def test_our_field_never_goes_upstream_when_compression_breaks(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    body = b'{"model":"m","ctxpress":{"bypass":true}, "messages":[]}'
    config = compressing(upstream.url)
    async with running_proxy(config, tmp_path, FakeCompressor(failing)) as proxy:
        await fetch(f"{proxy.url}/v1/chat/completions", data=body)
    assert orjson.loads(upstream.last.body) == {"model": "m", "messages": []}


async def test_mode_off_does_not_ask_the_compressor(upstream: FakeUpstream, tmp_path: Path) -> None:
    compressor = FakeCompressor()
    async with running_proxy(compressing(upstream.url, "off"), tmp_path, compressor) as proxy:
        await fetch(f"{proxy.url}/v1/chat/completions", data=ODD)
        assert compressor.calls == []
        await fetch(f"{proxy.url}/v1/chat/completions", data=b'{"ctxpress": {}}')
        assert len(compressor.calls) == 1


@pytest.mark.parametrize(
    "body", [b"", b"not json", b"[]", b"null", b'{"messages": 3}', b"\xff\xfe"]
)
async def test_bad_bodies_are_the_providers_to_refuse(
    upstream: FakeUpstream, tmp_path: Path, body: bytes
) -> None:
    """With the real reading of bodies: nothing of this raises, nothing is changed."""
    from ctxpress.formats import ParseOptions, parse

    def read(format_name: str, raw: bytes, _: RequestPolicy) -> bytes:
        try:
            return parse(format_name, raw, ParseOptions()).body
        except FormatError as error:
            return raw if error.code is not None else b"not the caller's fault"

    async with running_proxy(compressing(upstream.url), tmp_path, FakeCompressor(read)) as proxy:
        for path in ("chat/completions", "completions", "responses", "messages"):
            status, _, _ = await fetch(f"{proxy.url}/v1/{path}", data=body)
            assert status == 200
            assert upstream.last.body == body


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (FormatError("ctxpress.keep_ratio: a number is needed"), 400, "invalid_ctxpress_field"),
        (StageError("dedupe"), 422, "stage_failed"),
    ],
)
async def test_errors_that_are_the_callers(
    upstream: FakeUpstream, tmp_path: Path, error: Exception, status: int, code: str
) -> None:
    def work(_: str, __: bytes, ___: RequestPolicy) -> bytes:
        raise error

    async with running_proxy(compressing(upstream.url), tmp_path, FakeCompressor(work)) as proxy:
        got, _, body = await fetch(f"{proxy.url}/v1/chat/completions", data=ODD)
        assert got == status
        assert orjson.loads(body)["error"]["code"] == code
        got, _, body = await fetch(f"{proxy.url}/v1/messages", data=ODD)
        assert orjson.loads(body)["type"] == "error"
    assert upstream.received == []


async def test_bodies_too_large_to_compress_arrive_as_they_were(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    compressor = FakeCompressor()
    config = compressing(upstream.url, max_compress_bytes=1000, max_body_bytes=3_000_000)
    body = bytes(range(256)) * 8000
    async with running_proxy(config, tmp_path, compressor) as proxy:
        url = f"{proxy.url}/v1/chat/completions"
        for data in (body, pieces(body)):
            _, headers, _ = await fetch(url, data=data)
            assert upstream.last.body == body
            assert headers["x-ctxpress-skipped"] == "too_large"
    assert compressor.calls == []


async def test_our_field_is_taken_out_of_bodies_too_large_to_compress(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    config = compressing(upstream.url, max_compress_bytes=1000, max_body_bytes=3_000_000)
    rest = b'"messages": [{"role": "user", "content": "' + b"x" * 900_000 + b'"}]'
    async with running_proxy(config, tmp_path) as proxy:
        sent = b"{" + rest + b', "ctxpress": {"question": "Why?"}}'
        await fetch(f"{proxy.url}/v1/chat/completions", data=sent)
    assert upstream.last.body == b"{" + rest + b"}"


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("path", ["chat/completions", "messages"])
async def test_bodies_over_the_limit_are_refused(
    upstream: FakeUpstream, tmp_path: Path, chunked: bool, path: str
) -> None:
    config = compressing(upstream.url, max_compress_bytes=1000, max_body_bytes=200_000)
    body = b"x" * 3_000_000
    async with running_proxy(config, tmp_path) as proxy:
        status, headers, answer = await fetch(
            f"{proxy.url}/v1/{path}", data=pieces(body) if chunked else body
        )
        assert status == 413
        assert "200000 bytes" in orjson.loads(answer)["error"]["message"]
        assert orjson.loads(answer)["error"]["type"] == "request_too_large"
        assert headers["x-ctxpress-request-id"]
        await proxy.until_idle()
        status, _, _ = await fetch(f"{proxy.url}/v1/{path}", data=b"{}")
        assert status == 200


async def test_uploads_have_no_limit(upstream: FakeUpstream, tmp_path: Path) -> None:
    config = passthrough(upstream.url, max_compress_bytes=10, max_body_bytes=100)
    async with running_proxy(config, tmp_path) as proxy:
        await fetch(f"{proxy.url}/v1/files", data=pieces(b"y" * 500_000))
    assert upstream.last.body == b"y" * 500_000


async def test_uploads_are_not_buffered(upstream: FakeUpstream, tmp_path: Path) -> None:
    """The upstream sees the first piece while the client still holds back the second."""
    go_on = asyncio.Event()

    async def slow() -> Any:
        yield b"first"
        await go_on.wait()
        yield b"second"

    async with running_proxy(passthrough(upstream.url), tmp_path) as proxy:
        sending = asyncio.create_task(fetch(f"{proxy.url}/v1/files", data=slow()))
        async with asyncio.timeout(5):
            while not (upstream.received and upstream.last.body):  # noqa: ASYNC110 - a fake's state
                await asyncio.sleep(0.01)
        assert upstream.last.body == b"first"
        go_on.set()
        await sending
    assert upstream.last.body == b"firstsecond"


async def test_compressed_transport_goes_untouched(upstream: FakeUpstream, tmp_path: Path) -> None:
    compressor = FakeCompressor()
    async with running_proxy(compressing(upstream.url), tmp_path, compressor) as proxy:
        for headers in (
            {"content-encoding": "gzip"},
            {"authorization": "AWS4-HMAC-SHA256 Credential=x"},
        ):
            _, answer, _ = await fetch(
                f"{proxy.url}/v1/chat/completions", data=ODD, headers=headers
            )
            assert answer["x-ctxpress-skipped"] == "unsupported_transport"
            assert upstream.last.body == ODD
    assert compressor.calls == []


async def test_expect_100_continue(upstream: FakeUpstream, tmp_path: Path) -> None:
    async with running_proxy(compressing(upstream.url), tmp_path) as proxy:
        status, _, _ = await fetch(f"{proxy.url}/v1/chat/completions", data=ODD, expect100=True)
    assert status == 200
    assert upstream.last.header("expect") is None


async def test_the_body_is_sent_again_after_a_refused_connection(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    """An upstream that comes up a moment later is reached by the retry."""
    late = FakeUpstream()
    async with late.running():
        pass  # now the port is known and closed
    async with running_proxy(passthrough(late.url), tmp_path) as proxy:
        sending = asyncio.create_task(fetch(f"{proxy.url}/v1/files", data=pieces(b"z" * 100)))
        await asyncio.sleep(0.02)
        async with late.running():
            status, _, _ = await sending
    assert status == 200
    assert late.last.body == b"z" * 100


async def pieces(body: bytes) -> Any:
    for start in range(0, len(body), 65_000):
        yield body[start : start + 65_000]


async def test_an_early_answer_ends_an_upload(upstream: FakeUpstream, tmp_path: Path) -> None:
    async def refuse(request: Received, reply: Reply) -> None:
        await reply.json({"error": "no"}, status=400)

    upstream.handler = refuse
    async with running_proxy(passthrough(upstream.url), tmp_path) as proxy:
        async with aiohttp.ClientSession() as session:
            answer = await session.post(f"{proxy.url}/v1/files", data=pieces(b"x" * 100_000))
            assert answer.status == 400
            await answer.read()
