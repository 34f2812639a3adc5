"""``ctxpress kv inspect``: what a container holds, and one clear line for what is none."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from ctxpress.cache import create_codec
from tests.attacks.forging import forged, set_field
from tests.cache.codecs.cases import make_block, with_values
from tests.cli.conftest import Run


def write(path: Path, name: str = "int4", shape: str = "grouped-query") -> bytes:
    """A container whose token 3 is kept exactly."""
    block = make_block(shape)
    keys = block.keys.clone()
    keys[:, :, 3:4] = torch.inf
    data = create_codec(name, non_finite="exact").encode(with_values(block, keys, block.values))
    path.write_bytes(data)
    return data


def test_it_shows_whose_kv_it_is_and_where_the_bits_went(run: Run, tmp_path: Path) -> None:
    data = write(tmp_path / "a.ctxkv")
    done = run("kv", "inspect", tmp_path / "a.ctxkv")
    assert (done.status, done.err) == (0, "")
    shown = " ".join(done.out.split())
    for line in (
        "codec int4, version 1",
        "rope theta=1e4",
        "3 layers, 2 KV heads, 17 tokens, head_dim 16, float16",
        "positions 0 to 16",
        "exact_tokens [3]",
        f"{len(data):,} bytes for 6,528",
        "symbols k 816",
    ):
        assert line in shown
    assert re.findall(r"^(\d)   ", done.out, re.M) == ["0", "1", "2"]


def test_the_parts_sum_up_to_the_file(run: Run, tmp_path: Path) -> None:
    data = write(tmp_path / "a.ctxkv")
    found = json.loads(run("kv", "inspect", tmp_path / "a.ctxkv", "--json").out)
    assert found["bytes"] == sum(found["parts"].values()) == len(data)
    assert found["bits_per_value"] == pytest.approx(len(data) * 8 / (6528 / 2))
    assert found["identity"]["model"] == "m"
    assert [section["layers"] for section in found["sections"]] == [[0, 1], [1, 2], [2, 3]]
    for section in found["sections"]:
        assert section["bytes"] == sum(section["parts"].values())
        assert section["parts"]["exact_rows"] == 2 * 2 * 16 * 2
        assert data[section["offset"] :][: section["bytes"]]
    assert found["note"] == ""


def test_a_container_of_no_tokens_has_no_bits_a_value(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "a.ctxkv", "raw", "no tokens")
    done = run("kv", "inspect", tmp_path / "a.ctxkv")
    assert done.status == 0
    assert "bytes for no values" in done.out
    as_json = json.loads(run("kv", "inspect", tmp_path / "a.ctxkv", "--json").out)
    assert as_json["bits_per_value"] is None


@pytest.mark.parametrize(
    ("path", "value", "note"),
    [
        ("codec", "theirs-1", "no codec is called 'theirs-1'"),
        ("codec_version", 9, "version 9 of codec 'int4' is not known here"),
        ("calibration", "ab" * 32, "the calibration abababababab… would tell more"),
    ],
)
def test_what_only_a_codec_could_tell_is_said_to_be_missing(
    run: Run, tmp_path: Path, path: str, value: object, note: str
) -> None:
    file = tmp_path / "a.ctxkv"
    file.write_bytes(forged(write(file), set_field([path], value)))
    done = run("kv", "inspect", file)
    assert done.status == 0
    assert note in " ".join(done.out.split())
    parts = json.loads(run("kv", "inspect", file, "--json").out)["parts"]
    assert set(parts) == {"header", "section"}


def test_bad_files_are_one_line_and_status_2(run: Run, tmp_path: Path) -> None:
    data = write(tmp_path / "a.ctxkv")
    for content, problem in (
        (b"", "0 bytes; a container has 20 or more"),
        (b"#" * 99, "not a container: the magic bytes are missing"),
        (data[:-1], f"the file has {len(data) - 1} bytes; its header speaks of {len(data)}"),
        (data[:-1] + bytes([data[-1] ^ 1]), "the checksum of section 2 does not match"),
    ):
        file = tmp_path / "bad.ctxkv"
        file.write_bytes(content)
        done = run("kv", "inspect", file)
        assert (done.status, done.out) == (2, "")
        assert done.err == f"ctxpress: {file}: {problem}\n"
    for path, problem in (
        (tmp_path / "none.ctxkv", "No such file or directory"),
        (tmp_path, "Is a directory"),
    ):
        done = run("kv", "inspect", path)
        assert (done.status, done.out) == (2, "")
        assert done.err == f"ctxpress: {path}: {problem}\n"


def test_a_bad_calibration_is_named_and_not_the_container(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "a.ctxkv")
    other = tmp_path / "c.safetensors"
    other.write_bytes(b"{}" * 20)
    done = run("kv", "inspect", tmp_path / "a.ctxkv", "--calibration", other)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(f"ctxpress: {other}: not a calibration")
    assert len(done.err.splitlines()) == 1
