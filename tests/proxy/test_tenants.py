"""Keys, credentials and per-model overrides."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import orjson
import pytest
from ctxpress_proxy.compress import model_of
from ctxpress_proxy.settings import load_settings

from ctxpress.config import Config
from ctxpress.errors import ConfigError
from tests.proxy.running import FakeCompressor, fetch, passthrough, running_proxy
from tests.proxy.upstream import FakeUpstream

KEY, OTHER = "ctx-acme-key", "ctx-other-key"


def key_hash(key: str) -> str:
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()


def two_tenants(first: str, second: str) -> Config:
    return Config.model_validate(
        {
            "version": 1,
            "upstreams": {
                "openai": {"base_url": first, "api_key_env": "OPENAI"},
                "claude": {"kind": "anthropic", "base_url": second, "api_key_env": "CLAUDE"},
                "local": {"base_url": first},
            },
            "tenants": {
                "acme": {
                    "key_hashes": [key_hash("old"), key_hash(KEY)],
                    "upstream": "openai",
                    "pipeline": "balanced",
                    "models": {
                        "claude-*": {"upstream": "claude", "pipeline": "lossless"},
                        "*-mini": {"mode": "off"},
                        "gpt-*": {"pipeline": "aggressive"},
                    },
                },
                "other": {
                    "key_hashes": [key_hash(OTHER)],
                    "upstream": "local",
                    "pipeline": "lossless",
                },
            },
        }
    )


CREDENTIALS = {"openai": "sk-real", "claude": "sk-ant-real"}


async def test_unknown_keys(upstream: FakeUpstream, tmp_path: Path) -> None:
    config = two_tenants(upstream.url, upstream.url)
    async with running_proxy(config, tmp_path, credentials=CREDENTIALS) as proxy:
        for headers in (
            {},
            {"authorization": "Bearer nope"},
            {"x-api-key": "nope"},
            {"authorization": KEY},
        ):
            for path, kind in (
                ("models", "openai"),
                ("messages", "anthropic"),
                ("compress", "openai"),
            ):
                status, _, body = await fetch(f"{proxy.url}/v1/{path}", data=b"{}", headers=headers)
                if headers.get("authorization") == KEY:
                    continue  # a key without its scheme is accepted
                assert status == 401
                answer = orjson.loads(body)
                assert answer["error"]["type"] == "authentication_error"
                assert ("type" in answer) == (kind == "anthropic")
                assert "nope" not in body.decode()


@pytest.mark.parametrize("path", ["chat/completions", "messages", "models"])
@pytest.mark.parametrize(
    "headers", [{"authorization": f"Bearer {KEY}"}, {"x-api-key": KEY}, {"x-api-key": "old"}]
)
async def test_the_tenants_credential_goes_upstream(
    upstream: FakeUpstream, tmp_path: Path, headers: dict[str, str], path: str
) -> None:
    config = two_tenants(upstream.url, upstream.url)
    compressor = FakeCompressor()
    async with running_proxy(config, tmp_path, compressor, credentials=CREDENTIALS) as proxy:
        await fetch(f"{proxy.url}/v1/{path}", data=b'{"model":"x"}', headers=headers)
    assert upstream.last.header("authorization") == "Bearer sk-real"
    assert upstream.last.header("x-api-key") is None


async def test_models_choose(upstream: FakeUpstream, tmp_path: Path) -> None:
    claude = FakeUpstream()
    compressor = FakeCompressor()
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    async with claude.running():
        config = two_tenants(upstream.url, claude.url)
        async with running_proxy(config, tmp_path, compressor, credentials=CREDENTIALS) as proxy:
            for model, where, pipeline in (
                ("claude-9", claude, "lossless"),
                ("gpt-5", upstream, "aggressive"),
                ("gpt-5-mini", upstream, None),
                ("other", upstream, "balanced"),
            ):
                compressor.calls.clear()
                body = orjson.dumps({"messages": [{"model": "no"}], "model": model})
                await fetch(f"{proxy.url}/v1/chat/completions", data=body, headers=headers)
                assert where.last.body == body
                assert [call[2].pipeline for call in compressor.calls] == (
                    [pipeline] if pipeline else []
                )
            assert claude.last.header("x-api-key") == "sk-ant-real"
            assert claude.last.header("authorization") is None
            body = b'{"model": "claude-9", "messages": []}'
            await fetch(f"{proxy.url}/v1/messages/count_tokens", data=body, headers=headers)
            assert claude.last.target == "/v1/messages/count_tokens"
            assert claude.last.body == body


async def test_no_credential_no_header(upstream: FakeUpstream, tmp_path: Path) -> None:
    config = two_tenants(upstream.url, upstream.url)
    async with running_proxy(config, tmp_path, credentials=CREDENTIALS) as proxy:
        await fetch(f"{proxy.url}/v1/models", "GET", headers={"x-api-key": OTHER})
    assert upstream.last.header("authorization") is None
    assert upstream.last.header("x-api-key") is None


async def test_passthrough_forwards_keys_and_separates_callers(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    compressor = FakeCompressor()
    async with running_proxy(passthrough(upstream.url), tmp_path, compressor) as proxy:
        for key in ("sk-1", "sk-2", "sk-1"):
            await fetch(
                f"{proxy.url}/v1/chat/completions",
                data=b"{}",
                headers={"authorization": f"Bearer {key}"},
            )
            assert upstream.last.header("authorization") == f"Bearer {key}"
        await fetch(f"{proxy.url}/v1/messages", data=b"{}", headers={"x-api-key": "sk-3"})
        assert upstream.last.header("x-api-key") == "sk-3"
    spaces = [call[2].namespace.key("x") for call in compressor.calls]
    assert spaces[0] == spaces[2]
    assert len(set(spaces)) == 3
    assert {call[2].mode for call in compressor.calls} == {"observe"}


async def test_passthrough_chooses_by_protocol(upstream: FakeUpstream, tmp_path: Path) -> None:
    claude = FakeUpstream()
    async with claude.running():
        config = passthrough(
            upstream.url,
            upstreams={
                "a": {"base_url": upstream.url},
                "b": {"kind": "anthropic", "base_url": claude.url},
            },
        )
        async with running_proxy(config, tmp_path) as proxy:
            await fetch(f"{proxy.url}/v1/chat/completions", data=b"{}")
            await fetch(f"{proxy.url}/v1/messages", data=b"{}")
            await fetch(f"{proxy.url}/v1/models", "GET", headers={"anthropic-version": "1"})
    assert [request.target for request in upstream.received] == ["/v1/chat/completions"]
    assert [request.target for request in claude.received] == ["/v1/messages", "/v1/models"]


@pytest.mark.parametrize(
    ("raw", "model"),
    [
        (b'{"model":"a"}', "a"),
        (b'{"messages":[{"model":"b"},"model",{"x":{"model":"c"}}], "model" : "a\\u0041"}', "aA"),
        (b'{"x":"model","model":"a"}', "a"),
        (b'{"x":"\\"model\\":\\"b\\"","model":"a"}', "a"),
        (b'{"model":3}', None),
        (b'{"model":{"model":"a"}}', None),
        (b"", None),
        (b'["model"]', None),
        (b'{"model":"a', None),
        (b'}}}{"model":"a"}', None),
    ],
)
def test_model_of(raw: bytes, model: str | None) -> None:
    assert model_of(raw) == model


def test_settings_come_from_the_environment(tmp_path: Path) -> None:
    config = two_tenants("https://a.example", "http://b.example")
    environ: dict[str, Any] = {"OPENAI": "k1", "CLAUDE": "k2", "CTXPRESS_SECRET": "0" * 64}
    settings = load_settings(config, state_dir=tmp_path, environ=environ)
    assert settings.credentials == {"openai": "k1", "claude": "k2"}
    assert "k1" not in repr(settings)
    environ |= {"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": ".b.example"}
    settings = load_settings(config, state_dir=tmp_path, environ=environ)
    assert settings.outbound == {"openai": "http://proxy:1", "local": "http://proxy:1"}
    del environ["CLAUDE"]
    with pytest.raises(ConfigError, match="upstreams.claude.api_key_env.*CLAUDE is not set"):
        load_settings(config, state_dir=tmp_path, environ=environ)
