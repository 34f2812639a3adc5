"""Simulated links: traces, the oracle beside a search through all schedules, rules, tables."""

from __future__ import annotations

import itertools
import json
import math
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxpress.cache.streaming import Caution, ChunkOptions, LevelOption
from ctxpress.errors import ConfigError
from ctxpress.evaluation.streaming.comparison import CONTROLLER, ORACLE, StreamingRow, compare
from ctxpress.evaluation.streaming.oracle import best_outcome
from ctxpress.evaluation.streaming.report import plot_streaming, streaming_tables
from ctxpress.evaluation.streaming.rules import (
    Rule,
    RulePolicy,
    always,
    paper_rule,
    released_rule,
)
from ctxpress.evaluation.streaming.setting import Setting, read_levels, shipped_levels
from ctxpress.evaluation.streaming.traces import (
    BYTES_PER_MS_PER_GBIT_S,
    TRACES,
    ChunkTrace,
    TimeTrace,
    file_trace,
    read_trace,
)
from ctxpress.evaluation.streaming.world import Outcome, World, run_policy

SETTING = Setting(n_tokens=8 * 1536, levels=shipped_levels())


def world_of(trace: TimeTrace | ChunkTrace, *, n_chunks: int = 4, slo_ms: float = 100.0) -> World:
    """Chunks of 100, 130 and 180 kB that take 50 ms to recompute and 2 ms to decode."""
    levels = tuple(
        LevelOption(level=name, size_bytes=size, quality_loss=loss)
        for name, size, loss in (("s", 100_000, 0.02), ("m", 130_000, 0.006), ("l", 180_000, 0.001))
    )
    return World(
        chunks=(ChunkOptions(n_tokens=100, levels=levels),) * n_chunks,
        trace=trace,
        decode_ms=({"s": 2.0, "m": 2.0, "l": 2.0},) * n_chunks,
        prefill_ms=(50.0,) * n_chunks,
        slo_ms=slo_ms,
    )


def run_rule(world: World, rule: Rule, prior_bytes_per_ms: float = 10_000.0) -> Outcome:
    policy = RulePolicy(
        world.chunks,
        rule,
        slo_ms=world.slo_ms,
        prior_bytes_per_ms=prior_bytes_per_ms,
        prefill_ms=world.prefill_ms,
    )
    return run_policy(world, policy)


def every_schedule(world: World) -> list[tuple[float, float]]:
    """``(ttft, loss)`` of every choice, chunks in order."""
    found = []
    for choices in itertools.product(*[(None, *chunk.levels) for chunk in world.chunks]):
        link = decoder = context = loss = 0.0
        for index, option in enumerate(choices):
            if option is None:
                context += world.prefill_ms[index]
            else:
                link = float(world.trace.arrival_ms(index, np.array(link), option.size_bytes))
                decoder = max(link, decoder) + world.decode_ms[index][option.level]
                context = max(context, decoder)
                loss += option.quality_loss / len(choices)
        found.append((context, loss))
    return found


traces = st.one_of(
    st.lists(
        st.tuples(st.floats(5.0, 40.0), st.floats(500.0, 20_000.0)), min_size=1, max_size=4
    ).map(TimeTrace),
    st.lists(st.floats(500.0, 20_000.0), min_size=4, max_size=4).map(ChunkTrace),
)


@settings(max_examples=40, deadline=None)
@given(traces, st.floats(10.0, 220.0))
def test_the_oracle_finds_what_a_search_through_all_schedules_finds(
    trace: TimeTrace | ChunkTrace, slo_ms: float
) -> None:
    world = world_of(trace, slo_ms=slo_ms)
    best = best_outcome(world, grid_ms=0.001)
    schedules = every_schedule(world)
    in_time = [loss for ttft, loss in schedules if ttft <= slo_ms]
    assert best.violated != bool(in_time)
    if in_time:
        assert best.quality_loss == pytest.approx(min(in_time), abs=1e-9)
    else:
        assert best.ttft_ms == pytest.approx(min(ttft for ttft, _ in schedules), abs=1.0)


@settings(max_examples=60, deadline=None)
@given(traces, st.floats(0.0, 500.0), st.floats(1.0, 2e6))
def test_a_trace_moves_as_many_bytes_until_they_arrive_as_there_are(
    trace: TimeTrace | ChunkTrace, start_ms: float, n_bytes: float
) -> None:
    arrival = float(trace.arrival_ms(1, np.array(start_ms), n_bytes))
    assert arrival >= start_ms
    assert trace.moved_bytes(1, start_ms, arrival) == pytest.approx(n_bytes, rel=1e-6, abs=1e-3)
    later = float(trace.arrival_ms(1, np.array(start_ms + 5.0), n_bytes))
    assert later >= arrival - 1e-6  # who starts later never arrives sooner


@pytest.mark.parametrize("name", TRACES)
def test_equal_seeds_draw_equal_requests(name: str) -> None:
    first, second, other = (
        SETTING.world(name, TRACES[name], slo_ms=1000, seed=seed) for seed in (3, 3, 4)
    )
    assert first.chunks == second.chunks != other.chunks
    arrivals = [
        float(one.trace.arrival_ms(2, np.array(10.0), 1e9)) for one in (first, second, other)
    ]
    assert arrivals[0] == arrivals[1] != arrivals[2]


def test_bandwidth_of_the_traces_is_what_their_names_say() -> None:
    for seed in range(20):
        drop = SETTING.world("drop", TRACES["drop"], slo_ms=1000, seed=seed).trace
        before, after = drop.moved_bytes(0, 400, 490), drop.moved_bytes(0, 510, 600)
        assert before == pytest.approx(10 * after)
        uniform = SETTING.world("uniform", TRACES["uniform"], slo_ms=1000, seed=seed).trace
        rates = [uniform.moved_bytes(chunk, 0, 1) / BYTES_PER_MS_PER_GBIT_S for chunk in range(8)]
        assert 0.1 <= min(rates) < max(rates) <= 10.0
        constant = SETTING.world("constant", TRACES["constant"], slo_ms=1000, seed=seed).trace
        assert constant.moved_bytes(0, 0, 1) == pytest.approx(constant.moved_bytes(3, 2500, 2501))


def test_a_trace_file_is_read_and_begins_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "trace.txt"
    path.write_text("# ms Gbit/s\n100 1\n\n50, 0.5  # slower\n25 0\n")
    segments = read_trace(path)
    assert segments == [(100.0, 125_000.0), (50.0, 62_500.0), (25.0, 0.0)]
    for seed in range(10):
        trace = file_trace(segments)(np.random.default_rng(seed), 4, 1000.0)
        assert trace.moved_bytes(0, 0.0, 175.0) == pytest.approx(125_000 * 125)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("100 1\n5\n", r"trace.txt:2: two numbers"),
        ("100 fast\n", r"trace.txt:1: two numbers"),
        ("-1 1\n", r"trace.txt:1: milliseconds above zero"),
        ("1 nan\n", r"trace.txt:1: milliseconds above zero"),
        ("1 0\n", "no line has a bandwidth"),
        ("", "no line has a bandwidth"),
    ],
)
def test_a_wrong_trace_file_is_an_error_that_names_the_line(
    text: str, problem: str, tmp_path: Path
) -> None:
    (tmp_path / "trace.txt").write_text(text)
    with pytest.raises(ConfigError, match=problem):
        read_trace(tmp_path / "trace.txt")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_trace(tmp_path / "none.txt")


def test_fixed_choices_take_as_long_as_they_must() -> None:
    world = world_of(TimeTrace([(1000.0, 10_000.0)]))
    assert run_rule(world, always("s")).ttft_ms == pytest.approx(4 * 10 + 2)
    assert run_rule(world, always("")).ttft_ms == pytest.approx(4 * 50)
    assert run_rule(world, always("l")).quality_loss == pytest.approx(0.001)


def test_the_released_rule_fits_each_chunk_into_its_share() -> None:
    # 25 ms a chunk: at 10 kB a ms the best level fits, at 5 kB the smallest, at 3 kB none.
    world = world_of(TimeTrace([(1000.0, 10_000.0)]))
    for rate, loss, late in ((10_000.0, 0.001, False), (5_000.0, 0.02, False), (3_000.0, 0, True)):
        world = world_of(TimeTrace([(1e6, rate)]))
        outcome = run_rule(world, released_rule)
        assert outcome.violated == late
        # The first chunk comes at the middle level, before anything was measured.
        assert outcome.quality_loss == pytest.approx((0.006 + 3 * loss) / 4)


def test_the_published_rule_prefers_text_where_the_rest_of_it_fits() -> None:
    outcome = run_rule(world_of(TimeTrace([(1e6, 2_000.0)]), slo_ms=240), paper_rule)
    assert outcome.text_share == pytest.approx(3 / 4)
    outcome = run_rule(world_of(TimeTrace([(1e6, 10_000.0)]), slo_ms=70), paper_rule)
    assert outcome.text_share == 0.0
    assert not outcome.violated


def rows_of(requests: int = 6) -> list[StreamingRow]:
    return compare(SETTING, TRACES, (500.0, 1000.0), requests=requests, seed=0, caution=Caution())


def test_the_controller_is_nearly_as_punctual_as_the_oracle_and_better_than_the_rules() -> None:
    rows = rows_of(8)
    late = {
        name: np.mean([row.violations for row in rows if row.policy == name and row.slo_ms is None])
        for name in {row.policy for row in rows}
    }
    assert late[ORACLE] <= late[CONTROLLER] <= late[ORACLE] + 0.1
    assert late[CONTROLLER] < late["published rule"]
    assert late[CONTROLLER] < late["released rule"]
    steady = [row for row in rows if row.trace == "constant" and row.slo_ms is None]
    found = {row.policy: row for row in steady}
    assert found[CONTROLLER].violations == found[ORACLE].violations


def test_tables_and_picture_show_every_policy(tmp_path: Path) -> None:
    rows = rows_of(1)
    text = streaming_tables(rows)
    for name in TRACES:
        assert f"**Trace `{name}`**" in text
    for row in rows:
        assert row.policy in text
    assert "| 500 ms | 1,000 ms |" in text
    for name in ("a.svg", "b.svg"):
        plot_streaming(rows, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert ET.parse(tmp_path / "a.svg").getroot().tag.endswith("svg")
    with pytest.raises(ValueError, match="nothing to draw"):
        plot_streaming([], tmp_path / "a.svg")


def test_levels_are_read_from_what_the_evaluation_prints(tmp_path: Path) -> None:
    path = tmp_path / "levels.json"
    path.write_text(
        json.dumps(
            {
                "model": "tiny",
                "rows": [
                    {"codec": "as computed"},
                    {"codec": "raw", "bits_per_value": 16.1, "perplexity_change": 0.0},
                    {"codec": "b", "bits_per_value": 4.0, "perplexity_change": -0.001},
                    {"codec": "a", "bits_per_value": 2.0, "perplexity_change": 0.01},
                ],
            }
        )
    )
    assert [row.codec for row in read_levels(path).rows] == ["a", "b"]
    assert [row.codec for row in read_levels(path, ["raw"]).rows] == ["raw"]
    assert "tiny" in read_levels(path).source
    with pytest.raises(ConfigError, match="no row of codec 'c'"):
        read_levels(path, ["c"])
    copy = tmp_path / "copy.json"
    copy.write_text(json.dumps(read_levels(path).as_dict()))
    assert read_levels(copy) == read_levels(path)
    # A level that happened to do better than uncompressed KV loses nothing.
    setting = Setting(levels=read_levels(path))
    world = setting.world("constant", TRACES["constant"], slo_ms=1000, seed=1)
    assert world.chunks[0].levels[1].quality_loss == 0.0


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nonsense", "not JSON"),
        ("[]", "no rows"),
        ('{"rows": []}', "no codec's row"),
        ('{"rows": [{"bits_per_value": 1}]}', "names no codec"),
        ('{"rows": [{"codec": "x", "bits_per_value": 0, "perplexity_change": 0}]}', "is 0"),
        ('{"rows": [{"codec": "x", "bits_per_value": 2}]}', "perplexity_change must be a number"),
    ],
)
def test_wrong_levels_are_an_error(text: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "levels.json").write_text(text)
    with pytest.raises(ConfigError, match=problem):
        read_levels(tmp_path / "levels.json")


def test_the_last_chunk_may_be_shorter() -> None:
    setting = Setting(n_tokens=4000, levels=shipped_levels())
    assert setting.chunk_lengths == [1536, 1536, 928]
    world = setting.world("uniform", TRACES["uniform"], slo_ms=300, seed=0)
    assert [chunk.n_tokens for chunk in world.chunks] == [1536, 1536, 928]
    assert math.isfinite(best_outcome(world).ttft_ms)
