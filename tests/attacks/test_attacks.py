"""Every hostile file is answered by its exact error, and nothing is allocated for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ctxpress.cache import decode_container
from ctxpress.cache.codecs.sectioned import SectionedCodec
from tests.attacks import files, headers, sections
from tests.attacks.attack import Attack

GROUPS = {"files": files.ATTACKS, "headers": headers.ATTACKS, "sections": sections.ATTACKS}
ATTACKS = [attack for group in GROUPS.values() for attack in group]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_the_answer_is_this_error(attack: Attack, monkeypatch: pytest.MonkeyPatch) -> None:
    allocated: list[object] = []
    real = SectionedCodec._allocated

    def noted(self: SectionedCodec, *arguments: object) -> object:
        allocated.append(arguments)
        return real(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(SectionedCodec, "_allocated", noted)
    with pytest.raises(attack.error) as caught:
        decode_container(attack.build())  # type: ignore[arg-type]
    assert type(caught.value) is attack.error
    assert str(caught.value) == attack.message
    assert not allocated or attack.name.startswith(("int8", "int4"))


def test_names_are_unique() -> None:
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)


def test_the_readme_tells_of_every_group() -> None:
    told = (Path(__file__).parent / "README.md").read_text("utf-8")
    for group in GROUPS:
        assert f"`{group}.py`" in told


@pytest.mark.timeout(300)  # it loads every codec
def test_all_of_them_together_fit_into_a_little_memory() -> None:
    """In a process that may not grow by more than 64 MiB over what it had before the first."""
    done = subprocess.run(
        [sys.executable, "-c", _ALL], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.stdout.split() == ["answered", str(len(ATTACKS))], done.stderr[-2000:]


_ALL = """
import importlib
import resource
from pathlib import Path
import ctxpress.cache.codecs.cachegen, ctxpress.cache.codecs.kvtc  # code is no part of it
import ctxpress.cache.codecs.cachegen_kernels, ctxpress.cache.codecs.entropy.kernels
from ctxpress.cache import decode_container
from ctxpress.cache.codec import BUILTIN_CODECS
from ctxpress.errors import CodecError
from tests.attacks import files, headers, sections
attacks = [one for group in (files, headers, sections) for one in group.ATTACKS]
built = [attack.build() for attack in attacks]
decode_container(files.honest())
for place in BUILTIN_CODECS.values():  # their code takes memory too, once
    importlib.import_module(place.partition(":")[0])
pages = int(Path("/proc/self/statm").read_text().split()[0])
size = pages * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 2**26, size + 2**26))
count = 0
for data in built:
    try:
        decode_container(data)
    except CodecError:
        count += 1
print("answered", count)
"""
