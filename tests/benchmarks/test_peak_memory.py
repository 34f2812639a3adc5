import subprocess
import sys

import pytest

from benchmarks.peak_memory import peak_mib

_CHILD = "from benchmarks.peak_memory import peak_mib; {work}; print(peak_mib())"


def _child(work: str) -> float:
    command = [sys.executable, "-c", _CHILD.format(work=work)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_memory_that_was_given_back_still_counts() -> None:
    assert _child("x = bytearray(b'x' * 2**27); del x") > 128 + _child("pass") / 2


@pytest.mark.skipif(sys.platform != "linux", reason="the trap is Linux's")
def test_a_small_process_started_by_a_large_one_is_small() -> None:
    large = bytearray(b"x" * 2**28)
    assert peak_mib() > 256
    assert _child("pass") < 100
    del large
