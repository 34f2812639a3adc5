"""What codecs cost is measured rightly: nothing for none, more for more, and as decoding goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from ctxpress.cache import KVBlock, KVIdentity, create_codec
from ctxpress.engine import RotaryModel, load_model, prefill, score_tokens
from ctxpress.errors import ConfigError
from ctxpress.evaluation.kv_quality import KVMeasure, KVRoute, measure_tasks, measure_texts
from ctxpress.evaluation.kv_report import kv_table, plot_kv_quality
from ctxpress.evaluation.kv_tasks import ContextTask
from ctxpress.evaluation.kv_texts import read_texts, windows_of
from tests.engine.models import save_checkpoint

RAW = create_codec("raw")
ROUTES = [
    KVRoute("as computed", None, "float32"),
    KVRoute("raw", RAW, "float32", 16),
    KVRoute("raw, 16 bits", RAW, "float16", 16),
]


@dataclass(frozen=True)
class Noisy:
    """A codec that adds noise of some size to all values."""

    noise: float
    name: str = "noisy"
    calibration_sha256: str = ""

    def encode(self, block: KVBlock) -> bytes:
        generator = torch.Generator().manual_seed(0)
        noise = self.noise * torch.randn(block.values.shape, generator=generator)
        return RAW.encode(replace(block, values=block.values + noise))

    def decode(self, data: bytes, *, expected: KVIdentity | None = None) -> KVBlock:
        return RAW.decode(data, expected=expected)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> RotaryModel:
    folder = tmp_path_factory.mktemp("model")
    save_checkpoint(folder, bos=True)
    return load_model(str(folder), device="cpu")


def words(count: int) -> str:
    return " ".join(f"w{2 + number * 37 % 88}" for number in range(count))


def measure(model: RotaryModel, routes: Sequence[KVRoute]) -> list[KVMeasure]:
    windows = windows_of(model, [words(400)], context_tokens=40, target_tokens=20, limit=4)
    return measure_texts(model, windows, routes, batch=3)


def test_what_comes_back_bit_for_bit_costs_nothing_but_rounding(model: RotaryModel) -> None:
    computed, raw, half = measure(model, ROUTES)
    assert computed.bits_per_value == 0
    assert computed.perplexity_change == 0
    assert abs(raw.perplexity_change) < 1e-6
    assert raw.kl < 1e-6
    assert raw.bits_per_value > 32
    assert 0 < abs(half.perplexity_change) < 1e-3
    assert abs(raw.n_bytes - half.n_bytes - 2 * half.n_values) < 500  # headers differ a little


def test_without_context_it_is_the_perplexity_of_the_rest_alone(model: RotaryModel) -> None:
    windows = windows_of(model, [words(400)], context_tokens=40, target_tokens=20, limit=4)
    (dropped,) = measure_texts(model, windows, [KVRoute("none", None, "float32", dropped=True)])
    alone = [-score_tokens(model, [window.target]).log_probs.mean() for window in windows]
    assert dropped.loss_nats == pytest.approx(alone, abs=1e-5)
    assert dropped.kl > 0.01
    assert dropped.bits_per_value == 0


def test_more_noise_costs_more(model: RotaryModel) -> None:
    routes = [KVRoute(f"{noise}", Noisy(noise), "float32", 16) for noise in (0.02, 0.2, 2.0)]  # type: ignore[arg-type]
    small, middle, large = measure(model, routes)
    assert 0 < small.kl < middle.kl < large.kl
    low, high = large.perplexity_interval
    assert low <= large.perplexity_change <= high


def test_answers_count_exactly_where_greedy_decoding_gives_them(model: RotaryModel) -> None:
    task = ContextTask("retrieval", words(5) + "\n", (words(9) + "\n",), ("w5 w7",), ("",))
    ids = [*model.start_ids, *map(model.token_ids, [task.prefix, *task.documents, "w5 w7"])]
    context = [token for piece in ids for token in ([piece] if isinstance(piece, int) else piece)]
    decoded: list[int] = []
    for _ in range(3):
        logits = prefill(model, [*context, *decoded], logits="last").logits[0, -1]
        decoded.append(int(logits.argmax()))
    names = [f"w{token}" for token in decoded]
    right = replace(task, questions=("w5 w7", "w5 w7"), answers=(" ".join(names), "w9 w9"))
    measures = [KVMeasure(route.name, route.kv_dtype) for route in ROUTES[:2]]
    measure_tasks(model, [right], ROUTES[:2], measures)
    assert [m.correct for m in measures] == [{"retrieval": [0.5]}] * 2
    assert measures[1].bits_per_value > 32


def test_windows_start_as_texts_do_and_lie_apart(model: RotaryModel) -> None:
    windows = windows_of(
        model, [words(100), words(90)], context_tokens=16, target_tokens=8, limit=3
    )
    assert len(windows) == 3
    assert all(len(w.context) == 16 and len(w.target) == 8 and w.context[0] == 1 for w in windows)
    assert windows[0].context[1:] == tuple(model.token_ids(words(15)))
    many = windows_of(model, [words(100)], context_tokens=16, target_tokens=8, limit=99)
    assert len(many) == 100 // 23


@pytest.mark.parametrize(
    ("context", "n_words", "problem"),
    [(300, 500, "do not fit into the 256"), (30, 10, "have 10 tokens; one window takes 37")],
)
def test_windows_that_cannot_be_had_are_an_error(
    model: RotaryModel, context: int, n_words: int, problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        windows_of(model, [words(n_words)], context_tokens=context, target_tokens=8, limit=3)


def test_texts_are_read_from_lines_of_json_or_whole(tmp_path: Path) -> None:
    lines, whole = tmp_path / "a.jsonl", tmp_path / "a.txt"
    lines.write_text('{"text": "one"}\n\n{"text": "two", "id": 1}\n')
    whole.write_text("one\ntwo\n")
    assert read_texts(lines) == ["one", "two"]
    assert read_texts(whole) == ["one\ntwo\n"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "a.jsonl:1: not JSON"),
        ('{"text": "x"}\n[1]', "a.jsonl:2: an object with a field text"),
        ("\n", "holds no text"),
        (b"\xff", "cannot be read as text"),
    ],
)
def test_files_without_texts_are_an_error(
    tmp_path: Path, content: str | bytes, problem: str
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=problem):
        read_texts(path)


def test_table_and_picture_have_every_codec(model: RotaryModel, tmp_path: Path) -> None:
    measures = measure(model, ROUTES)
    table = kv_table(measures)
    assert [line.split(" | ")[0] for line in table.splitlines()[2:]] == [
        "| as computed", "| raw", "| raw, 16 bits",
    ]  # fmt: skip
    picture = tmp_path / "kv.svg"
    plot_kv_quality(measures, picture)
    first = picture.read_bytes()
    plot_kv_quality(measures, picture)
    assert picture.read_bytes() == first
    with pytest.raises(ValueError, match="nothing to draw"):
        plot_kv_quality(measures[:1], picture)
