"""A small worker in a process of its own, which a test may kill: ``python -m …worker_process``.

Its first line says where it listens. It lives until it is killed, or until its input ends, as it
does when the test's process is gone.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.engine.small_worker import byte_model, serving


@contextmanager
def worker_process() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The worker's URL and its process, which is killed afterwards."""
    command = [sys.executable, "-m", "tests.engine.worker_process"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            line = process.stdout.readline().strip() if process.stdout is not None else ""
            if not line:
                raise RuntimeError("the worker did not start")
            yield line, process
        finally:
            process.kill()


def main() -> None:
    """Serve, and read until the input ends."""
    with serving(model=byte_model()) as (url, _):
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
