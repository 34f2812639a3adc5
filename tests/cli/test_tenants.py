"""``tenants add``: a key once, its hash in the file, the file otherwise as it was."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from ctxpress.config_file import load_config
from tests.cli.conftest import Run

HEAD = "version: 1   # ours\nupstreams: {o: {base_url: https://o.example}}\n"
OTHER = "sha256:" + "0" * 64


def key_of(out: str) -> str:
    found = re.search(r"key \(shown this once\): (ctx-[\w-]{43})\n", out)
    assert found is not None
    return found[1]


def test_without_a_file_the_line_is_printed(run: Run) -> None:
    done = run("tenants", "add", "acme")
    digest = hashlib.sha256(key_of(done.out).encode()).hexdigest()
    assert f'key_hashes: ["sha256:{digest}"]' in done.out
    assert key_of(run("tenants", "add", "acme").out) != key_of(done.out)


@pytest.mark.parametrize(
    "tenants",
    [
        "",
        "tenants: {}\n",
        "tenants: {other: {upstream: o}}\n",
        "tenants: {acme: {upstream: o}}\n",
        "tenants:\n  # first\n  other:\n    upstream: o   # why\n",
        "tenants:\n  acme:\n    # first\n    upstream: o\n  other: {upstream: o}\n",
        f'tenants:\n  acme: {{key_hashes: ["{OTHER}"], upstream: o}}\n',
        f'tenants:\n  acme:\n    upstream: o\n    key_hashes:\n      - "{OTHER}"\n',
        f'tenants:\n  acme:\n    upstream: o\n    key_hashes:\n    - "{OTHER}"   # old\n',
        "tenants:\r\n  acme:\r\n    upstream: o\r\n",
    ],
)
def test_the_hash_goes_into_the_file(run: Run, tmp_path: Path, tenants: str) -> None:
    path = tmp_path / "ctxpress.yaml"
    path.write_bytes((HEAD + tenants).encode())
    path.chmod(0o640)
    before = load_config(path)
    done = run("tenants", "add", "acme", "--config", path)
    assert done.status == 0, done.err
    digest = hashlib.sha256(key_of(done.out).encode()).hexdigest()
    after = load_config(path)
    old = before.tenants["acme"].key_hashes if "acme" in before.tenants else ()
    assert after.tenants["acme"].key_hashes == (f"sha256:{digest}", *old)
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]
    text = path.read_bytes().decode()
    kept = iter(text)  # nothing of the old text is gone: it is a subsequence of the new
    assert all(character in kept for character in HEAD + tenants)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (HEAD + "tenants:\n", "too intricate to edit safely; put this under tenants.acme by hand"),
        (HEAD + "tenants: {a: &a {upstream: o}, acme: *a}\n", "too intricate"),
        ("version: 1\n", "the file has no upstreams"),
        ("version: 1\nupstreams: {a: {base_url: https://a.example}, b: {base_url: https://b.example}}\n",
         "name the new tenant's upstream with --upstream; the file has: a, b"),
        (HEAD + "tenants: {acme: {upstream: oo}}\n", "no upstream is called 'oo'"),
        (HEAD + "stor: x\n", "unknown key; did you mean 'store'?"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_safely_is_not_done(
    run: Run, tmp_path: Path, text: str, problem: str
) -> None:
    path = tmp_path / "ctxpress.yaml"
    path.write_text(text)
    done = run("tenants", "add", "acme", "--config", path)
    assert done.status == 2
    assert problem in done.err
    assert path.read_text() == text
    assert "key (" not in done.out


def test_a_new_tenants_upstream_may_be_named(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "ctxpress.yaml"
    path.write_text(HEAD.replace("{o:", "{p: {base_url: https://p.example}, o:"))
    assert run("tenants", "add", "acme", "--config", path, "--upstream", "p").status == 0
    assert load_config(path).tenants["acme"].upstream == "p"
