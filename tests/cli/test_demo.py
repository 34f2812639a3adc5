"""The demo: its upstream answers with what it received, and what is shown was really sent."""

from __future__ import annotations

import hashlib
import json
import re
import signal
from pathlib import Path

import httpx
import pytest

from ctxpress.cli.demo import _end
from ctxpress.cli.demo_samples import load_samples, read_samples
from ctxpress.cli.demo_upstream import DemoUpstream
from ctxpress.errors import ConfigError
from tests.cli.conftest import Run


def test_upstream_proves_what_it_received() -> None:
    body = json.dumps({"model": "m", "messages": []}).encode()
    with DemoUpstream() as upstream:
        answer = httpx.post(f"{upstream.url}/v1/chat/completions", content=body).json()
        chunks = httpx.post(f"{upstream.url}/x", content=iter([b"ab", b"", b"c" * 70_000])).json()
    digest = hashlib.sha256(body).hexdigest()
    assert answer["received"] == {"bytes": len(body), "sha256": digest}
    assert digest[:12] in answer["choices"][0]["message"]["content"]
    assert chunks["received"]["bytes"] == 70_002
    found = upstream.find(digest)
    assert found is not None
    assert found.body == body


def test_upstream_streams_and_lists_models() -> None:
    with DemoUpstream() as upstream:
        stream = httpx.post(f"{upstream.url}/v1/chat/completions", json={"stream": True}).text
        models = httpx.get(f"{upstream.url}/v1/models").json()
    assert stream.endswith("data: [DONE]\n\n")
    assert "SHA-256" in stream
    assert models["data"][0]["id"] == "echo"


def test_samples_are_long_and_of_several_kinds() -> None:
    samples = load_samples()
    assert len(samples) == 3
    for sample in samples:
        assert 800 <= len(sample.body.split()) <= 2_500, sample.title
    roles = [message["role"] for message in json.loads(samples[2].body)["messages"]]
    assert {"system", "user", "assistant", "tool"} <= set(roles)


def test_own_files_become_user_messages(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_text("Größe\n")
    (sample,) = read_samples([path])
    assert json.loads(sample.body)["messages"] == [{"role": "user", "content": "Größe\n"}]


@pytest.mark.parametrize(("raw", "problem"), [(b"\xff", "not UTF-8"), (b" \n", "no text in it")])
def test_files_without_text_are_refused(tmp_path: Path, raw: bytes, problem: str) -> None:
    path = tmp_path / "own.txt"
    path.write_bytes(raw)
    with pytest.raises(ConfigError, match=problem):
        read_samples([path])


@pytest.mark.slow
def test_the_whole_demo(run: Run) -> None:
    done = run("demo", "--no-wait")
    assert done.status == 0, done.err
    assert len(re.findall(r"% saved", done.out)) == 3
    assert "[-" in done.out
    assert "import openai" in done.out
    assert all(len(line) <= 80 for line in done.out.splitlines() if "client" not in line)


def test_ctrl_c_in_the_last_words_breaks_nothing_off() -> None:
    said, before = [], signal.getsignal(signal.SIGINT)

    def say() -> None:
        said.append("until")
        signal.raise_signal(signal.SIGINT)
        said.append("Ctrl-C")

    _end(say, wait=True)
    assert said == ["until", "Ctrl-C"]
    assert signal.getsignal(signal.SIGINT) is before
