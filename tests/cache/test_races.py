"""Several processes over one store: one winner, whatever happens at the same time."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from collections.abc import Sequence

import pytest

from ctxpress.cache.store import create_store
from tests.cache.stores import SHARED

_PROCESSES = 5
_TASKS = 10

_PROGRAM = textwrap.dedent(
    """
    import asyncio, sys
    from ctxpress.cache.store import create_store

    async def main(url, name):
        store = create_store(url)
        await store.ping()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        items = [(f"k{n}", f"{name}".encode()) for n in range(20)]
        held = await asyncio.gather(
            *(store.set_if_absent("one", f"{name}/{n}".encode(), ttl_s=60) for n in range(10)),
        )
        many = await store.set_many_if_absent(items, ttl_s=60)
        print(*(value.decode() for value in [*held, *many]), flush=True)
        await store.aclose()

    asyncio.run(main(*sys.argv[1:]))
    """
)


def _run_processes(program: str, arguments: Sequence[Sequence[str]]) -> list[list[str]]:
    running = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", program, *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for words in arguments
    ]  # fmt: skip
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate()[0].split() for process in running]
    assert [process.returncode for process in running] == [0] * len(running)
    return outputs


@pytest.mark.parametrize("store_url", SHARED, indirect=True)
def test_processes_agree_on_one_winner(store_url: str) -> None:
    outputs = _run_processes(_PROGRAM, [(store_url, f"p{n}") for n in range(_PROCESSES)])
    assert len({value for held in outputs for value in held[:_TASKS]}) == 1
    assert len({tuple(held[_TASKS:]) for held in outputs}) == 1

    async def read() -> bytes | None:
        store = create_store(store_url)
        try:
            return await store.get("one")
        finally:
            await store.aclose()

    assert asyncio.run(read()) == outputs[0][0].encode()


_SECRET_PROGRAM = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from ctxpress.cache.key import load_secret

    print("ready", flush=True)
    sys.stdin.readline()
    print(load_secret(None, Path(sys.argv[1])).hex())
    """
)


def test_processes_agree_on_one_secret(tmp_path) -> None:  # type: ignore[no-untyped-def]
    folder = str(tmp_path / "state")
    outputs = _run_processes(_SECRET_PROGRAM, [(folder,)] * 4)
    assert len({secret for (secret,) in outputs}) == 1
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["secret"]
