"""``on`` and ``off`` write the file that running proxies follow."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run


def test_off_and_on(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ctxpress_proxy.switch import read_switch

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    folder = tmp_path / "ctxpress"
    assert read_switch(folder) is None
    done = run("off")
    assert (done.status, done.err) == (0, "")
    assert "off: running proxies forward everything untouched" in done.out
    state = read_switch(folder)
    assert state is not None
    assert state.mode == "off"
    assert "compresses with aggressive" in run("on", "--pipeline", "aggressive").out
    state = read_switch(folder)
    assert state is not None
    assert (state.mode, state.pipeline) == ("on", "aggressive")


def test_wrong_pipelines_and_folders_are_named(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "did you mean 'balanced'" in run("on", "-p", "balance").err
    (tmp_path / "ctxpress").write_text("a file where a folder should be")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    done = run("off")
    assert done.status == 2
    assert "the switch cannot be written" in done.err
