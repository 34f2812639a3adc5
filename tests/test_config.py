"""The configuration file: what is read, and the one line that is said when it cannot be."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ctxpress.config import PRESETS, Config
from ctxpress.config_file import (
    check_config,
    load_config,
    load_preset,
    validate_stage_options,
)
from ctxpress.config_schema import config_schema
from ctxpress.errors import ConfigError
from ctxpress.yaml_source import MAX_FILE_BYTES, parse_source, read_source


class SqueezeConfig(BaseModel):
    """The options of a made-up stage."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keep_ratio: float = Field(default=0.5, gt=0, le=1)
    backend: Literal["bundled", "huggingface"] = "bundled"


GOOD = """\
version: 1
store: memory://
upstreams:
  openai: {kind: openai, base_url: https://api.example.com, api_key_env: OPENAI_API_KEY}
pipelines:
  rag:
    min_tokens: 512
    deadline_ms: 800
    stages:
      - {use: squeeze, keep_ratio: 0.6}
tenants:
  acme:
    upstream: openai
    mode: on
    pipeline: rag
    models: {"gpt-*": {pipeline: balanced}}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "ctxpress.yaml"
    path.write_text(text, "utf-8")
    return path


def problem(folder: Path, text: str) -> str:
    """What is said about a file, without the folder's name."""
    with pytest.raises(ConfigError) as caught:
        load_config(write(folder, text))
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(f"{folder}/", "")


def test_a_good_file_is_read(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD))
    assert config.tenants["acme"].mode == "on"
    assert config.pipelines["rag"].stages[0].use == "squeeze"
    assert config.pipelines["rag"].stages[0].options == {"keep_ratio": 0.6}
    assert str(config.upstreams["openai"].base_url) == "https://api.example.com/"


def test_anchors_aliases_and_merge_keys_work(tmp_path: Path) -> None:
    text = (
        "version: 1\n"
        "upstreams: {a: &a {base_url: https://a.example, max_retries: 1}, b: *a}\n"
        "tenants:\n"
        "  x: &x {upstream: a, mode: observe}\n"
        "  y: {<<: *x, upstream: b}\n"
    )
    config = load_config(write(tmp_path, text))
    assert config.upstreams["a"] == config.upstreams["b"]
    assert (config.tenants["y"].upstream, config.tenants["y"].mode) == ("b", "observe")


def test_words_are_read_as_they_look() -> None:
    text = "a: on\nb: no\nc: true\nd: ~\ne: 010\nf: 1e3\ng: 12:30\nh: 2024-01-01\n404: x\non: y\n"
    assert parse_source(text, "f").data == {
        "a": "on", "b": "no", "c": True, "d": None, "e": 10, "f": 1000.0,
        "g": "12:30", "h": "2024-01-01", "404": "x", "on": "y",
    }  # fmt: skip


ACME = "version: 1\nupstreams: {o: {base_url: https://o.example}}\ntenants:\n  acme:\n"

PROBLEMS = [
    pytest.param(
        ACME + "    upstream: o\n    pipelin: rag\n",
        "ctxpress.yaml:6: tenants.acme.pipelin: unknown key; did you mean 'pipeline'?",
        id="unknown key",
    ),
    pytest.param(
        ACME + "    upstream: oo\n",
        "ctxpress.yaml:5: tenants.acme.upstream: nothing is called 'oo'; did you mean 'o'?",
        id="unknown upstream",
    ),
    pytest.param(
        ACME + "    upstream: o\n    pipeline: ballanced\n",
        "ctxpress.yaml:6: tenants.acme.pipeline: nothing is called 'ballanced'; "
        "did you mean 'balanced'?",
        id="unknown pipeline",
    ),
    pytest.param(
        ACME + "    upstream: o\n    models:\n      'gpt-*':\n        pipeline: rga\n",
        "ctxpress.yaml:8: tenants.acme.models.gpt-*.pipeline: nothing is called 'rga'; "
        "valid: aggressive, balanced, lossless",
        id="unknown pipeline of a model",
    ),
    pytest.param(
        "version: 1\ntenants: {acme: {upstream: o}}\n",
        "ctxpress.yaml:2: tenants.acme.upstream: nothing is called 'o'; the file has no upstreams",
        id="nothing to refer to",
    ),
    pytest.param(
        ACME + "    upstream: o\n    mode: maybe\n",
        "ctxpress.yaml:6: tenants.acme.mode: \"maybe\" must be 'off', 'observe' or 'on'",
        id="wrong word",
    ),
    pytest.param(
        "version: 2\n", 'ctxpress.yaml:1: version: 2 must be 1', id="a later version",
    ),
    pytest.param(
        "store: disk://\n", "ctxpress.yaml:1: the key 'version' is missing", id="no version",
    ),
    pytest.param(
        ACME + "    mode: on\n",
        "ctxpress.yaml:4: tenants.acme: the key 'upstream' is missing",
        id="missing key",
    ),
    pytest.param(
        ACME + "    upstream: o\n    upstream: o\n",
        "ctxpress.yaml:6: tenants.acme.upstream: key given twice, first on line 5",
        id="duplicate key",
    ),
    pytest.param(
        "version: 1\npipelines:\n  p:\n    stages: []\n    deadline_ms: soon\n",
        "ctxpress.yaml:5: pipelines.p.deadline_ms: \"soon\" must be 'auto' or a number",
        id="union",
    ),
    pytest.param(
        "version: 1\npipelines:\n  p:\n    stages: []\n    min_tokens: '5'\n",
        'ctxpress.yaml:5: pipelines.p.min_tokens: "5" must be a whole number',
        id="a number in quotes",
    ),
    pytest.param(
        "version: 1\npipelines:\n  p:\n    stages: []\n    min_tokens: -5\n",
        "ctxpress.yaml:5: pipelines.p.min_tokens: -5 must be at least 0",
        id="out of range",
    ),
    pytest.param(
        "version: 1\npipelines:\n  p:\n    stages: squeeze\n",
        'ctxpress.yaml:4: pipelines.p.stages: "squeeze" must be a list',
        id="not a list",
    ),
    pytest.param(
        "version: 1\nupstreams:\n  'two words': {base_url: https://o.example}\n",
        "ctxpress.yaml:3: upstreams.two words: a name is 1 to 64 letters, digits, '_', '.', '-'",
        id="bad name",
    ),
    pytest.param(
        "version: 1\nupstreams:\n  o:\n    base_url: api.example.com\n",
        'ctxpress.yaml:4: upstreams.o.base_url: "api.example.com" must be '
        "a URL such as https://api.openai.com",
        id="not a URL",
    ),
    pytest.param(
        "version: 1\npipelin: {}\nstore: 5\n",
        "ctxpress.yaml:2: pipelin: unknown key; did you mean 'pipelines'? "
        "(and 1 more; ctxpress config check lists all)",
        id="several",
    ),
    pytest.param(
        "", "ctxpress.yaml: the file is empty; it needs at least 'version: 1'", id="empty"
    ),
    pytest.param(
        "- a\n",
        "ctxpress.yaml:1: not a mapping of keys; a configuration begins with 'version: 1'",
        id="a list",
    ),
    pytest.param(
        "version: 1\nstore:\n\t- a\n",
        "ctxpress.yaml:3: not YAML: a tab stands where only spaces may indent",
        id="tab",
    ),
    pytest.param(
        "a: [1\n",
        "ctxpress.yaml:2: not YAML: expected ',' or ']', but got '<stream end>'",
        id="not YAML",
    ),
    pytest.param("a: b\x00", "ctxpress.yaml:1: not YAML: character #x0000", id="NUL"),
    pytest.param(
        "version: 1\nstore: !!python/object/apply:os.system [ls]\n",
        "ctxpress.yaml:2: the tag 'tag:yaml.org,2002:python/object/apply:os.system' "
        "is not supported",
        id="python object",
    ),
    pytest.param("a: !!int x\n", "ctxpress.yaml:1: a: the tag 'tag:yaml.org,2002:int' "
                 "is not supported here", id="a tag that lies"),
    pytest.param("a: &a [*a]\n", "ctxpress.yaml:1: an alias stands inside the very value "
                 "that it names", id="cycle"),
    pytest.param("a: 1e999\n", "ctxpress.yaml:1: a: not a value that fits here: 1e999", id="huge"),
    pytest.param("? [a]\n: b\n", "ctxpress.yaml:1: a key must be a word, not a list or a mapping",
                 id="a key that is a list"),
    pytest.param("[" * 5000, "ctxpress.yaml: nested too deeply", id="deep"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), PROBLEMS)
def test_each_problem_is_one_placed_line(tmp_path: Path, text: str, expected: str) -> None:
    assert problem(tmp_path, text) == expected


def test_a_secret_is_never_repeated(tmp_path: Path) -> None:
    text = "version: 1\nupstreams:\n  o: {base_url: https://o.example, api_key_env: sk-12345}\n"
    message = problem(tmp_path, text)
    assert "sk-12345" not in message
    assert "must be the name of an environment variable (not the key itself)" in message


def test_patterns_are_checked(tmp_path: Path) -> None:
    head = "version: 1\npipelines:\n  p:\n    stages: []\n"
    assert "needs a named group (?P<text>…)" in problem(tmp_path, head + "    document_pattern: x")
    message = problem(tmp_path, head + "    protect:\n      patterns: ['(']\n")
    assert message.startswith("ctxpress.yaml:6: pipelines.p.protect.patterns")
    assert "not a regular expression" in message


def test_aliases_that_stand_for_billions_are_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for n in range(1, 10):
        lines.append(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]")
    assert "aliases expand to more than 500,000 values" in problem(tmp_path, "\n".join(lines))


def test_what_is_no_readable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="a directory"):
        load_config(tmp_path)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"version: 1\nstore: \xff\xfe\n")
    with pytest.raises(ConfigError, match=r"binary.yaml:2: not UTF-8 text \(byte 18\)"):
        load_config(binary)
    huge = tmp_path / "huge.yaml"
    with huge.open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(ConfigError, match=f"larger than {MAX_FILE_BYTES // 2**20} MiB"):
        load_config(huge)


def test_a_byte_order_mark_and_windows_lines_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "ctxpress.yaml"
    path.write_bytes("\ufeff".encode() + GOOD.replace("\n", "\r\n").encode())
    assert load_config(path).version == 1


def test_the_environment_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, GOOD)
    before = load_config(path)
    for name in ("STORE", "VERSION", "CTXPRESS_STORE", "CTXPRESS_AUTH", "AUTH"):
        monkeypatch.setenv(name, "redis://elsewhere")
    assert load_config(path) == before


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ("{use: squeze}", "[0].use: no stage is called 'squeze'; did you mean 'squeeze'?"),
        ("{use: squeeze, keep: 1}", "[0].keep: unknown key; valid: backend, keep_ratio"),
        ("{use: squeeze, keep_ratio: 1.5}", "[0].keep_ratio: 1.5 must be at most 1"),
        ("{use: squeeze, keep_ratio: half}", '[0].keep_ratio: "half" must be a number'),
        (
            "{use: squeeze, backend: cloud}",
            "[0].backend: \"cloud\" must be 'bundled' or 'huggingface'",
        ),
    ],
)  # fmt: skip
def test_stage_options_are_placed_too(tmp_path: Path, stage: str, expected: str) -> None:
    text = f"version: 1\npipelines:\n  rag:\n    stages:\n      - {stage}\n"
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        validate_stage_options(load_config(path), {"squeeze": SqueezeConfig}, read_source(path))
    assert str(caught.value) == f"{path}:5: pipelines.rag.stages{expected}"


def test_check_lists_every_problem_in_file_order(tmp_path: Path) -> None:
    path = write(tmp_path, ACME + "    upstream: 5\n    mod: on\nstor: x\n")
    assert [line.split(":")[1] for line in check_config(path)] == ["5", "6", "7"]


def test_presets_are_valid_pipelines() -> None:
    assert [len(load_preset(name).stages) for name in PRESETS] == [1, 1, 1]
    assert load_preset("balanced").stages[0].options["keep_ratio"] == 0.6
    assert load_preset("aggressive").stages[0].options["keep_ratio"] == 0.35
    with pytest.raises(ConfigError, match="did you mean 'balanced'"):
        load_preset("balance")


def test_schema_embeds_the_stages_options() -> None:
    schema = config_schema({"squeeze": SqueezeConfig})
    json.dumps(schema)
    assert schema["$defs"]["StageConfig"]["oneOf"] == [{"$ref": "#/$defs/stage.squeeze"}]
    squeeze = schema["$defs"]["stage.squeeze"]
    assert squeeze["properties"]["use"] == {"const": "squeeze"}
    assert squeeze["properties"]["keep_ratio"]["maximum"] == 1
    assert set(Config.model_fields) == set(schema["properties"])


@pytest.mark.parametrize(
    ("worker", "message"),
    [
        ({"kind": "worker", "fallback": "nobody"}, "nothing is called 'nobody'"),
        ({"kind": "worker", "fallback": "gpu"}, "gpu is of kind worker"),
        ({"kind": "worker", "fallback_model": "m"}, "fallback_model needs fallback"),
        ({"fallback": "plain"}, "fallback is for kind: worker"),
    ],
)
def test_the_fallback_of_a_worker_is_another_kind_of_upstream(
    worker: dict[str, str], message: str
) -> None:
    upstreams = {
        "gpu": {"base_url": "http://127.0.0.1:1", **worker},
        "plain": {"base_url": "http://127.0.0.1:2"},
    }
    with pytest.raises(ValidationError, match=re.escape(message)):
        Config.model_validate({"version": 1, "upstreams": upstreams})
