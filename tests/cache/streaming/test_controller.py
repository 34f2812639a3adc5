"""What the controller decides, step by step, without a driver."""

from __future__ import annotations

import json

import pytest

from ctxpress.cache.streaming import TEXT_NAME, ChunkOptions, StreamingController
from tests.cache.streaming.contexts import chunk, controller


def load(control: StreamingController, now_ms: float, takes_ms: float) -> tuple[int, str]:
    """Let a transfer happen and its chunk be decoded at once."""
    transfer = control.begin_transfer(now_ms)
    assert transfer is not None
    control.end_transfer(now_ms + takes_ms)
    control.end_decode(transfer.chunk, now_ms + takes_ms, 2.0)
    return transfer.chunk, transfer.level


def test_a_plan_names_each_chunk_once_and_counts_what_is_under_way() -> None:
    control = controller([chunk()] * 6, slo_ms=120)
    assert [one.chunk for one in control.plan(0.0).chunks] == list(range(6))
    assert control.begin_prefill(0.0) == 0
    transfer = control.begin_transfer(0.0)
    assert transfer is not None
    plan = control.plan(0.0)
    assert [one.chunk for one in plan.chunks] == list(range(6))
    assert plan.chunks[0].level == TEXT_NAME
    assert plan.chunks[transfer.chunk].level == transfer.level
    assert plan.feasible
    assert 0.0 < plan.quality_loss < 0.02
    control.end_transfer(18.0)
    control.end_decode(transfer.chunk, 20.0, 2.0)
    assert transfer.chunk not in {one.chunk for one in control.plan(20.0).chunks}


def test_it_never_plans_to_be_late_when_there_is_a_way_to_be_in_time() -> None:
    for slo_ms in range(40, 420, 20):
        control = controller([chunk()] * 8, slo_ms=slo_ms)
        plan = control.plan(0.0)
        assert plan.feasible == (plan.finish_ms <= slo_ms)
        assert plan.feasible or slo_ms < 70  # six small ones and two by text fit in 62 ms


def test_more_bandwidth_is_never_worse() -> None:
    losses = [
        controller([chunk()] * 8, slo_ms=110, prior_bytes_per_ms=rate).report.predicted_loss
        for rate in range(8_000, 30_000, 2_000)
    ]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > losses[-1]


def test_without_bandwidth_all_is_text() -> None:
    control = controller([chunk()] * 4, slo_ms=100, prior_bytes_per_ms=0.0)
    assert control.begin_transfer(0.0) is None
    now = 0.0
    for expected in range(4):
        assert control.begin_prefill(now) == expected
        now += 50.0
        control.end_prefill(now, 50.0)
    assert control.finished
    assert not control.report.met
    assert {one.done for one in control.report.chunks} == {TEXT_NAME}


@pytest.mark.parametrize("slo_ms", [0.0, 1.0])
def test_where_the_time_is_gone_the_quickest_way_is_taken(slo_ms: float) -> None:
    control = controller([chunk()] * 8, slo_ms=slo_ms)
    plan = control.plan(5.0)
    assert not plan.feasible
    assert plan.finish_ms < 5.0 + 8 * 50.0
    levels = [one.level for one in plan.chunks]
    assert "small" in levels
    assert levels[0] == TEXT_NAME


def test_one_chunk_is_loaded_or_recomputed_whatever_is_in_time() -> None:
    assert controller([chunk()], slo_ms=60).begin_transfer(0.0) is None
    transfer = controller([chunk()], slo_ms=25).begin_transfer(0.0)
    assert transfer is not None
    assert (transfer.chunk, transfer.level, transfer.size_bytes) == (0, "large", 180_000)


def test_no_chunks_are_finished_at_once() -> None:
    control = controller([], slo_ms=10)
    assert control.finished
    assert control.begin_transfer(0.0) is control.begin_prefill(0.0) is None
    assert control.plan(0.0).feasible


def test_thousands_of_chunks_are_handled() -> None:
    control = controller([chunk()] * 2000, slo_ms=30_000)
    assert control.begin_prefill(0.0) == 0
    assert load(control, 0.0, 15.0)[0] == 1999


def test_the_plan_follows_what_the_link_does() -> None:
    control = controller([chunk()] * 8, slo_ms=101)
    before = control.plan(0.0)
    for _ in range(3):
        control.observe_transfer(100_000, 40.0)
    slow = control.plan(0.0)
    assert slow.finish_ms > before.finish_ms
    for _ in range(40):
        control.observe_transfer(1_000_000, 20.0)
    assert control.plan(0.0).quality_loss < before.quality_loss


def test_the_plan_follows_what_the_model_does() -> None:
    control = controller([chunk()] * 8, slo_ms=160)
    before = [one.level for one in control.plan(0.0).chunks].count(TEXT_NAME)
    for _ in range(20):
        control.observe_prefill(100, 0, 20.0)
    after = [one.level for one in control.plan(0.0).chunks].count(TEXT_NAME)
    assert before == 3
    assert after > before


def test_a_slow_decoder_is_a_bottleneck_too() -> None:
    control = controller([chunk()] * 8, slo_ms=110)
    for _ in range(30):
        for level in ("small", "medium", "large"):
            control.observe_decode(level, 100, 60.0)
    plan = control.plan(0.0)
    assert plan.finish_ms == pytest.approx(
        4 * 60.0 + 10.0, abs=0.1
    )  # the first arrival, four decodes
    assert [one.level for one in plan.chunks].count(TEXT_NAME) == 4


def test_insured_first_transfers_are_small_and_uninsured_ones_are_not() -> None:
    for stress, level in ((10.0, "small"), (1.0, "large")):
        control = controller([chunk()] * 8, slo_ms=130, stress=stress)
        assert load(control, 0.0, 15.0) == (7, level)


def test_the_link_pauses_while_the_decoder_is_behind() -> None:
    control = controller([chunk()] * 8, slo_ms=130, backlog=2)
    for now in (0.0, 10.0):
        assert control.begin_transfer(now) is not None
        control.end_transfer(now + 10.0)
    assert control.begin_transfer(20.0) is None
    control.end_decode(7, 21.0, 2.0)
    assert control.begin_transfer(21.0) is not None


def test_a_transfer_that_keeps_its_pace_is_kept() -> None:
    control = controller([chunk()] * 8, slo_ms=110)
    transfer = control.begin_transfer(0.0)
    assert transfer is not None
    for now in (2.0, 11.0, 15.0):
        assert control.keep_transfer(now, 10_000 * now)


def test_pieces_that_are_large_are_no_stall() -> None:
    # Nothing for 10 ms, then a fifth at once: what comes in layers comes in steps.
    control = controller([chunk()] * 8, slo_ms=250, prior_bytes_per_ms=3_000)
    transfer = control.begin_transfer(0.0)
    assert transfer is not None
    step = transfer.size_bytes / 5
    for now in range(5, 60, 5):
        received = step * int(now / (step / 3_000))
        assert control.keep_transfer(float(now), received), now


def test_a_transfer_that_stops_is_given_up_once_something_else_is_better() -> None:
    control = controller([chunk()] * 8, slo_ms=300)
    transfer = control.begin_transfer(0.0)
    assert transfer is not None
    kept = [control.keep_transfer(float(now), 20_000) for now in range(5, 300, 5)]
    assert kept[0]
    assert not kept[-1]
    report = control.report.chunks[transfer.chunk]
    assert report.abandoned == [transfer.level]
    assert report.wasted_bytes == 20_000


def test_events_that_cannot_be_are_refused() -> None:
    control = controller([chunk()] * 2, slo_ms=30)
    with pytest.raises(ValueError, match="no transfer"):
        control.end_transfer(1.0)
    with pytest.raises(ValueError, match="no transfer"):
        control.fail_transfer(1.0, "why")
    with pytest.raises(ValueError, match="not in the decoder"):
        control.end_decode(0, 1.0, 1.0)
    with pytest.raises(ValueError, match="not in the decoder"):
        control.fail_decode(1, 1.0, "why")
    with pytest.raises(ValueError, match="no chunk is being"):
        control.end_prefill(1.0, 1.0)
    with pytest.raises(ValueError, match="now_ms"):
        control.plan(float("nan"))
    assert not control.keep_transfer(1.0, 0.0)


def test_the_report_is_plain_data() -> None:
    control = controller([chunk(), ChunkOptions(n_tokens=100)], slo_ms=70)
    assert control.begin_prefill(0.0) is None  # the first one comes, and the second needs it
    load(control, 0.0, 18.0)
    assert control.begin_prefill(20.0) == 1
    control.end_prefill(70.0, 50.0)
    assert control.finished
    told = json.loads(json.dumps(control.report.as_dict()))
    assert told["met"]
    assert told["actual_ms"] == 70.0
    assert [one["done"] for one in told["chunks"]] == ["large", "text"]
    assert [one["first_planned"] for one in told["chunks"]] == ["large", "text"]
    assert told["transferred_bytes"] == 180_000
    assert told["quality_loss"] == pytest.approx(0.0005)
