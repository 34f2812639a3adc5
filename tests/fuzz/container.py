"""Containers and codecs under a fuzzer that is guided by coverage. Not part of the suite.

::

    pip install atheris
    python -m tests.fuzz.container -max_total_time=600 -len_control=0 -max_len=2048

An input is either a container as it stands, or choices for :mod:`tests.attacks.mutations`, which
makes the checksums right, so that the inner layers are reached. Whatever is raised but a
CodecError ends the run, with the input in a file ``crash-…``. What was found stands in
``tests/attacks/README.md``.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from pathlib import Path

import atheris

# numba compiles bytecode, which must be as it was written.
ROOT = Path(__file__).parents[2]
KERNELS = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "ctxpress/cache").rglob("*kernels.py")
]

with atheris.instrument_imports(include=["ctxpress.cache"], exclude=KERNELS):
    from ctxpress.cache import decode_container
    from ctxpress.cache.codec import BUILTIN_CODECS
    from ctxpress.errors import CodecError

    for place in BUILTIN_CODECS.values():
        importlib.import_module(str(place).partition(":")[0])

MOST_BYTES = 2**22


class Provided:
    """Choices made of the fuzzer's bytes."""

    def __init__(self, provider: atheris.FuzzedDataProvider) -> None:
        self._provider = provider

    def integer(self, least: int, most: int) -> int:
        return int(self._provider.ConsumeIntInRange(least, most))

    def data(self, most: int) -> bytes:
        return bytes(self._provider.ConsumeBytes(most))


def main() -> None:
    """Fuzz until libFuzzer's options say that it is enough."""
    # After what they import was instrumented.
    from tests.attacks.mutations import mutated
    from tests.cache.codecs.cases import CASES, make_block
    from tests.cache.codecs.test_fuzz import SHAPES, containers

    seeds, calibrations = [], []
    for case in [case for case in CASES if not case.level_of]:
        for shape in SHAPES:
            seeds += containers(case.name, shape)
            calibration = case.calibration(make_block(shape))
            calibrations += [calibration] if calibration is not None else []

    def one_input(data: bytes) -> None:
        provider = atheris.FuzzedDataProvider(data)
        if provider.ConsumeIntInRange(0, 15) == 0:
            hostile = bytes(provider.ConsumeBytes(len(data)))
        else:
            seed = seeds[provider.ConsumeIntInRange(0, len(seeds) - 1)]
            hostile = mutated(seed, Provided(provider))
        try:
            decode_container(hostile, calibrations=calibrations, max_decoded_bytes=MOST_BYTES)
        except CodecError:
            pass

    warnings.simplefilter("error")
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
