"""`ctxpress kv plan`: arithmetic that can be done again by hand, and clear refusals."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks.kv_plan_constants import rendered, updated
from ctxpress.cli import create_app
from ctxpress.cli.kv_plan import parse_bandwidth
from ctxpress.engine.reference import reference_model_dir
from ctxpress.errors import ConfigError
from ctxpress.planning import (
    CodecCost,
    Fleet,
    Gpu,
    Link,
    codec_costs,
    fleet_needs,
    gpu_named,
    model_shape,
    plan_loads,
)
from ctxpress.planning.constants import read_constants
from ctxpress.planning.loading import gpus_needed

ROOT = Path(__file__).resolve().parent.parent.parent
GPU = Gpu("one", bf16_tflops=100, memory_gb=20)
HALF = CodecCost("half", bits_per_value=8, decode_gb_per_s=1)


@pytest.mark.parametrize(
    ("name", "kv_bytes", "billions"),
    [
        ("Llama-3.1-8B", 131_072, 8.03),
        ("Llama-3.1-70B", 327_680, 70.6),
        ("Llama-3.2-1B", 32_768, 1.24),
        ("Qwen2.5-7B", 57_344, 7.62),
        ("Qwen2.5-72B", 327_680, 72.7),
        ("Qwen3-8B", 147_456, 8.19),
        ("Mistral-7B", 131_072, 7.25),
        ("Llama-3.2-3B", 114_688, 3.21),
    ],
)
def test_built_in_shapes_have_the_published_numbers_of_parameters(
    name: str, kv_bytes: int, billions: float
) -> None:
    shape = model_shape(name)
    assert shape.kv_bytes_per_token == kv_bytes
    assert shape.n_parameters / 1e9 == pytest.approx(billions, rel=0.005)


def test_a_folder_gives_its_own_shape(tmp_path: Path) -> None:
    shape = model_shape(str(reference_model_dir()))
    assert (shape.n_layers, shape.n_kv_heads, shape.head_dim) == (6, 2, 64)
    assert shape.n_parameters == pytest.approx(4.46e6, rel=0.01)
    experts = {
        "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "vocab_size": 100,
        "intermediate_size": 999, "moe_intermediate_size": 32, "num_experts": 8,
        "num_experts_per_tok": 2,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(experts), "utf-8")
    mixture = model_shape(str(tmp_path))
    attention, expert = 2 * 64 * 8 * 16, 3 * 64 * 32
    assert mixture.n_parameters == 2 * 100 * 64 + 2 * (attention + 8 * expert)
    assert mixture.prefill_flop(1) == 2 * 2 * (attention + 2 * expert) + 2 * 2 * 4 * 16


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("[]", "not an object"),
        ("{", "cannot be read"),
        ('{"hidden_size": 8}', "has no num_attention_heads"),
        ('{"kv_lora_rank": 512}', "latent attention"),
    ],
)
def test_a_folder_without_a_shape_says_why(tmp_path: Path, config: str, message: str) -> None:
    (tmp_path / "config.json").write_text(config, "utf-8")
    with pytest.raises(ConfigError, match=message):
        model_shape(str(tmp_path))


def test_loading_and_computing_are_what_arithmetic_says() -> None:
    shape = model_shape("Llama-3.1-8B")
    link = Link(bandwidth_gbit_per_s=8, latency_ms=2, decode_cores=2)
    (plan,) = plan_loads(shape, GPU, (HALF,), link, n_tokens=1000, n_gpus=2, utilisation=0.25)
    assert plan.stored_bytes == 131_072_000 / 2
    assert plan.transfer_s == pytest.approx(0.065536)
    assert plan.decode_s == pytest.approx(0.131072 / 2)
    assert plan.load_s == pytest.approx(0.002 + 0.065536)
    weights = 2 * (shape.n_parameters - 2 * 128_256 * 4096) * 1000
    attention = 2 * 32 * 32 * 128 * 1000**2
    assert plan.recompute_s == pytest.approx((weights + attention) / 50e12)
    assert plan.worth_it
    assert [gpus_needed(model_shape(n), GPU) for n in ("Qwen2.5-7B", "Qwen2.5-72B")] == [1, 16]


def test_at_the_break_even_bandwidth_loading_takes_as_long_as_computing() -> None:
    shape = model_shape("Qwen2.5-7B")
    (plan,) = plan_loads(shape, GPU, (HALF,), Link(bandwidth_gbit_per_s=1), n_tokens=8192)
    found = plan.break_even_gbit_per_s
    assert found is not None
    for factor, worth_it in ((0.99, False), (1.01, True)):
        link = Link(bandwidth_gbit_per_s=found * factor)
        (other,) = plan_loads(shape, GPU, (HALF,), link, n_tokens=8192)
        assert other.worth_it is worth_it


def test_a_rate_of_decoding_takes_the_place_of_cores() -> None:
    link = Link(bandwidth_gbit_per_s=1000, decode_cores=1, decode_gb_per_s=10)
    (plan,) = plan_loads(model_shape("Llama-3.1-8B"), GPU, (HALF,), link, n_tokens=1000)
    assert plan.decode_s == pytest.approx(0.0131072)


def test_no_bandwidth_helps_where_decoding_alone_takes_longer() -> None:
    slow = CodecCost("slow", bits_per_value=1, decode_gb_per_s=0.001)
    link = Link(bandwidth_gbit_per_s=1000)
    (plan,) = plan_loads(model_shape("Qwen2.5-7B"), GPU, (slow,), link, n_tokens=1000)
    assert plan.break_even_gbit_per_s is None
    assert not plan.worth_it


def test_what_a_store_needs_grows_with_the_replicas() -> None:
    shape, fleet = model_shape("Llama-3.1-8B"), Fleet(node_gb=1000, node_gbit_per_s=2)
    ten, hundred = fleet_needs(shape, fleet, (HALF,), (10, 100))
    assert ten.read_gbit_per_s == pytest.approx(10 * 8192 * 65_536 * 8 * 0.3 / 1e9)
    assert ten.memory_gb == pytest.approx(10 * 2e6 * 65_536 / 1e9)
    assert ten.n_nodes == max(-(-ten.memory_gb // 1000), -(-(ten.read_gbit_per_s * 1.1) // 2))
    assert hundred.read_gbit_per_s == pytest.approx(10 * ten.read_gbit_per_s)


def test_sizes_of_codecs_are_those_that_the_documentation_measured() -> None:
    page = (ROOT / "docs/kv.md").read_text("utf-8")
    section = page.split("<!-- kv-quality: begin -->")[1].split("<!-- kv-quality: end -->")[0]
    measured = dict(re.findall(r"^\| ([\w-]+) \| ([\d.]+) \|", section, re.M))
    for codec in codec_costs():
        assert codec.bits_per_value == pytest.approx(float(measured[codec.name]), rel=0.1), (
            f"{codec.name}: put what docs/kv.md says into ctxpress/planning/codecs.json"
        )


def test_constants_are_taken_from_the_tables_of_the_documentation() -> None:
    page = (ROOT / "docs/kv.md").read_text("utf-8")
    begin, end = "<!-- kv-speed: begin -->", "<!-- kv-speed: end -->"
    before, after = page.split(begin)[0], page.split(end)[1]
    row = "| {} | {} | 4.3 | 0.02 | 3.7x | 41 | 72 | {} |  |  |"
    table = [row.format("raw", 1, 9.5), row.format("raw", 2, 19.0), row.format("kvtc", 1, 0.5)]
    page = "\n".join([before, begin, row.format("raw", 1, 1.5), *table, end, after])
    old = read_constants("codecs")
    new = updated(old, page)["codecs"]
    assert new["raw"]["decode_gb_per_s"] == 9.5  # of the last table, on one thread
    assert new["kvtc"]["decode_gb_per_s"] == 0.5
    assert new["int8"]["decode_gb_per_s"] == old["codecs"]["int8"]["decode_gb_per_s"]
    text = (ROOT / "ctxpress/planning/codecs.json").read_text("utf-8")
    assert rendered(old) == text


def test_every_constant_says_where_it_comes_from() -> None:
    assert read_constants("models")["source"]
    assert all(one["repository"] for one in read_constants("models")["models"].values())
    assert all(one["source"] for one in read_constants("gpus")["gpus"].values())
    assert read_constants("codecs")["measured_on"]


def test_names_that_are_not_known_get_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'H100'"):
        gpu_named("H10")
    with pytest.raises(ConfigError, match="did you mean 'cachegen-3'"):
        codec_costs(("cachegen3",))
    with pytest.raises(ConfigError, match=r"no built-in shape; did you mean 'Llama-3\.1-8B'"):
        model_shape("Llama-3.1-8")
    assert model_shape("meta-llama/Llama-3.1-8B-Instruct").name == "Llama-3.1-8B"


@pytest.mark.parametrize(
    ("text", "gbit"),
    [("10", 10), ("10Gbit/s", 10), ("25 Gbps", 25), ("1.25GB/s", 10), ("800Mbit/s", 0.8),
     ("100MB", 0.8)],
)  # fmt: skip
def test_bandwidths_are_read_in_their_usual_units(text: str, gbit: float) -> None:
    assert parse_bandwidth(text) == pytest.approx(gbit)


@pytest.mark.parametrize("text", ["", "fast", "0", "-1", "10TB", "1e9", "10 Gbit/s/s"])
def test_other_bandwidths_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="give 10, 10Gbit/s"):
        parse_bandwidth(text)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(create_app(), ["kv", "plan", *arguments])


def test_the_command_says_when_it_is_not_worth_it_and_writes_its_tables(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n<!-- kv-plan: begin -->\n<!-- kv-plan: end -->\n", "utf-8")
    arguments = ("--model", "Llama-3.1-8B", "--gpu", "H100,L4", "--codec", "raw,cachegen-3")
    done = run(*arguments, "--bandwidth", "1", "--replicas", "10,100", "--write", str(page))
    assert done.exit_code == 0, done.output
    assert "not worth it" in done.output
    text = page.read_text("utf-8")
    assert "| Llama-3.1-8B | 1 H100 | `raw` |" in text
    assert "*not worth it*" in text
    assert "| 100 | `cachegen-3` |" in text
    rows = json.loads(run(*arguments, "--json").output)["plans"]
    assert [row["gpu"] for row in rows] == ["H100", "H100", "L4", "L4"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--utilisation", "0"), "--utilisation must be above 0"),
        (("--load-share", "2"), "--load-share must be above 0"),
        (("--rate", "nan"), "--rate must be above 0"),
        (("--decode", "0"), "--decode must be above 0"),
        (("--replicas", "ten"), "give numbers"),
        (("--gpu", ","), "empty list"),
    ],
)
def test_the_command_refuses_what_makes_no_sense(more: tuple[str, ...], message: str) -> None:
    done = run("--model", "Qwen2.5-7B", *more)
    assert isinstance(done.exception, ConfigError)
    assert message in str(done.exception)
