"""What ``ctxpress serve`` makes of its options, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctxpress.cli.serve import passthrough_config
from ctxpress.errors import ConfigError
from tests.cli.conftest import Run


def test_an_upstream_alone_is_observed() -> None:
    config = passthrough_config("https://api.example.com", None, None)
    tenant = config.tenants["default"]
    assert (config.auth, tenant.mode, tenant.pipeline) == ("passthrough", "observe", "balanced")
    assert config.store == "disk://"


def test_a_pipeline_switches_compression_on() -> None:
    config = passthrough_config("https://api.example.com/v1", "aggressive", "memory://")
    tenant = config.tenants["default"]
    assert (tenant.mode, tenant.pipeline, config.store) == ("on", "aggressive", "memory://")


def test_wrong_options_are_named() -> None:
    with pytest.raises(ConfigError, match="--pipeline: .* did you mean 'balanced'"):
        passthrough_config("https://api.example.com", "balance", None)
    with pytest.raises(ConfigError, match='--upstream: "api.example.com" must be a URL'):
        passthrough_config("api.example.com", None, None)


def test_an_option_never_overrides_the_file(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "ctxpress.yaml"
    path.write_text("version: 1\n")
    for option, value in (
        ("--upstream", "https://x.example"), ("--pipeline", "balanced"), ("--store", "memory://"),
    ):  # fmt: skip
        done = run("serve", "--config", path, option, value)
        assert done.status == 2
        assert done.err == f"ctxpress: {option} belongs into {path}; with --config give it there\n"


def test_something_must_be_named(run: Run) -> None:
    done = run("serve")
    assert done.status == 2
    assert "--upstream https://api.openai.com" in done.err


def test_a_variable_that_is_not_set_is_named(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OUR_KEY", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    path = tmp_path / "ctxpress.yaml"
    path.write_text(
        "version: 1\nupstreams: {o: {base_url: https://o.example, api_key_env: OUR_KEY}}\n"
    )
    done = run("serve", "--config", path)
    assert done.status == 2
    assert done.err == (
        "ctxpress: upstreams.o.api_key_env: the environment variable OUR_KEY is not set\n"
    )
