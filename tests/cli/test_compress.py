"""``ctxpress compress``: text in, shorter text out, everything else on standard error."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run

Calls = Sequence[dict[str, Any]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_bytes("Zwölf Boxkämpfer\r\njagen ".encode())
    return path


def test_standard_input_to_standard_output(run: Run, calls: Calls) -> None:
    done = run("compress", "--question", "why?", "-k", "0.4", stdin=b"12345678")
    assert (done.status, done.out) == (0, "1234")
    assert done.err == "standard input: 8 -> 4 tokens (estimated), 50 % saved, 0 ms\n"
    assert calls[0]["question"] == "why?"
    assert calls[0]["keep_ratio"] == 0.4
    assert calls[0]["target_tokens"] is None


def test_line_ends_and_letters_are_kept(run: Run, calls: Calls, file: Path) -> None:
    run("compress", file, "-o", file.with_suffix(".out"))
    assert calls[0]["text"] == "Zwölf Boxkämpfer\r\njagen "
    assert file.with_suffix(".out").read_bytes() == "Zwölf Boxkäm".encode()
    assert list(file.parent.glob(".*")) == []


def test_several_files_come_one_after_another(run: Run, calls: Calls, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text(name * 4)
    done = run("compress", tmp_path / "a", tmp_path / "b", "-")
    assert done.out == "aabb"
    assert len(done.err.splitlines()) == 3


def test_json_has_everything(run: Run, calls: Calls, file: Path) -> None:
    done = run("compress", file, "--json")
    value = json.loads(done.out)
    assert list(value) == [
        "file", "text", "kept", "tokens_before", "tokens_after", "estimated", "stages",
    ]  # fmt: skip
    assert value["kept"] == [[0, 12]]
    assert value["estimated"] is True
    assert value["stages"][0]["stage"] == "half"


def test_diff_is_readable_without_colours(run: Run, calls: Calls) -> None:
    assert run("compress", "--diff", stdin=b"one\ntwo\n").out == "one\n[-two-]\n"


def test_diff_has_colours_where_they_are_asked_for(
    run: Run, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[2;9;31mtwo\x1b[0m" in run("compress", "--diff", stdin=b"one\ntwo\n").out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in run("compress", "--diff", stdin=b"one\ntwo\n").out


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"abc\xffdef", "not UTF-8 text: byte 0xff at offset 3"),
        (b"\x7fELF\x00\x00", "not text: a zero byte at offset 4"),
    ],
)
def test_what_is_no_text_is_named(run: Run, calls: Calls, raw: bytes, problem: str) -> None:
    done = run("compress", stdin=raw)
    assert (done.status, done.out) == (2, "")
    assert done.err == f"ctxpress: standard input: {problem}\n"


def test_files_that_cannot_be_read_or_written(run: Run, calls: Calls, tmp_path: Path) -> None:
    assert run("compress", tmp_path / "none").err == f"ctxpress: {tmp_path}/none: no such file\n"
    assert "a directory" in run("compress", tmp_path).err
    done = run("compress", "-o", tmp_path / "no" / "where", stdin=b"text")
    assert done.status == 2
    assert "cannot be written" in done.err


def test_diff_and_json_exclude_each_other(run: Run, calls: Calls) -> None:
    assert run("compress", "--diff", "--json", stdin=b"x").status == 2
