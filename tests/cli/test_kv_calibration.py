"""``ctxpress kv calibrate``: one file, from a model and sample texts, that codecs work with."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from ctxpress.cache import create_codec
from ctxpress.cache.calibration import Calibration
from ctxpress.engine import load_model, prefill
from tests.cache.codecs.cases import relative_error
from tests.cli.conftest import Run
from tests.engine.models import save_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    save_checkpoint(path)
    return path


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "texts.txt"
    words = random.Random(0).choices(range(2, 96), k=1600)
    path.write_text(" ".join(f"w{number}" for number in words), "utf-8")
    return path


def test_the_file_fits_the_model_and_says_which_level_is_good_enough(
    run: Run, folder: Path, texts: Path, tmp_path: Path
) -> None:
    out, page = tmp_path / "model.calibration", tmp_path / "page.md"
    done = run(
        "kv", "calibrate", "--model", folder, "--texts", texts, "--out", out, "--windows", 12,
        "--context", 96, "--target", 32, "--max-kl", 0.05, "--device", "cpu",
        "--write", page,
    )  # fmt: skip
    assert done.status == 0, done.err
    calibration = Calibration.load(out)
    chosen = str(calibration.facts["kvtc_default"])
    lines = [line for line in done.out.splitlines() if "= kvtc" in line]
    assert [line.split()[1] for line in lines] == [chosen]
    assert lines[0] in page.read_text("utf-8")
    names = str(calibration.facts["kvtc_levels"]).split(",")
    kl = dict(zip(names, calibration.arrays["kvtc/kl_nats"].tolist(), strict=True))
    assert kl[chosen] <= 0.05
    assert all(kl[name] > 0.05 for name in names[names.index(chosen) + 1 :])

    model = load_model(str(folder), device="cpu", dtype="float32")
    generator = torch.Generator().manual_seed(1)
    block = prefill(model, torch.randint(2, 96, (64,), generator=generator).tolist()).block()
    for name in ("kvtc-8x", "cachegen-auto"):
        codec = create_codec(name, calibration)
        assert relative_error(codec.decode(codec.encode(block)).values, block.values) < 0.7


def test_too_little_text_is_one_line_and_status_2(run: Run, folder: Path, tmp_path: Path) -> None:
    texts = tmp_path / "short.txt"
    texts.write_text("w5 w6 w7 " * 40, "utf-8")
    done = run(
        "kv", "calibrate", "--model", folder, "--texts", texts, "--out", tmp_path / "c",
        "--context", 64, "--target", 32,
    )  # fmt: skip
    assert done.status == 2
    assert "at least two" in done.err
    assert not (tmp_path / "c").exists()
