"""The driver on a simulated clock and link: everything overlaps, failures become text, no leaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from ctxpress.cache.streaming import StreamingController, StreamingReport, fetch_context
from ctxpress.evaluation.streaming.traces import ChunkTrace, TimeTrace
from tests.cache.streaming.contexts import Machine, Source, chunk, controller, steady
from tests.cache.streaming.virtual_time import clock_ms, run_virtual


def fetch(
    control: StreamingController, source: Any, machine: Machine, **options: Any
) -> StreamingReport:
    """Run the driver; nothing may be left behind."""

    async def work() -> StreamingReport:
        report = await fetch_context(
            control,
            source,
            decode=machine.decode,
            prefill=machine.prefill,
            clock=clock_ms,
            **options,
        )
        assert len(asyncio.all_tasks()) == 1
        return report

    report = run_virtual(work())
    if isinstance(source, Source):
        assert source.closed == len(source.opened)
    return report


def test_link_decoder_and_model_work_side_by_side() -> None:
    # Eight chunks: two by text take 100 ms, six over the link 6 x 13 + 2 = 80 ms at most.
    machine, source = Machine(8), Source(steady(10_000))
    report = fetch(controller([chunk()] * 8, slo_ms=105), source, machine)
    assert report.met
    assert report.actual_ms == pytest.approx(100.0)
    assert machine.in_place[:2] == ["text", "text"]
    assert [index for index, _ in source.opened] == [7, 6, 5, 4, 3, 2]
    assert report.quality_loss < 6 / 8 * 0.006
    assert report.predicted_ms == pytest.approx(report.actual_ms, abs=5.0)
    for one in report.chunks[2:]:
        assert one.transfer_ms == pytest.approx(one.predicted_transfer_ms, rel=0.02)
        assert one.decode_ms == pytest.approx(one.predicted_decode_ms)
    for one in report.chunks[:2]:
        assert one.prefill_ms == pytest.approx(one.predicted_prefill_ms)


def test_nothing_is_loaded_where_recomputing_is_in_time() -> None:
    machine, source = Machine(4), Source(steady(10_000))
    report = fetch(controller([chunk()] * 4, slo_ms=201), source, machine)
    assert machine.in_place == ["text"] * 4
    assert source.opened == []
    assert (report.met, report.quality_loss, report.transferred_bytes) == (True, 0.0, 0)


def test_no_chunks_are_in_place_at_once() -> None:
    report = fetch(controller([], slo_ms=10), Source(steady(10_000)), Machine(0))
    assert (report.actual_ms, report.met) == (0.0, True)


def test_safe_first_better_later() -> None:
    # Insured against a link a tenth as fast, all chunks come small; then there is time for more.
    machine, source = Machine(8), Source(steady(10_000))
    control = controller([chunk()] * 8, slo_ms=140, stress=10.0)
    report = fetch(control, source, machine)
    assert report.met
    assert source.opened[0] == (7, "small")
    again = [index for index, _ in source.opened[6:]]
    assert len(again) >= 2
    assert set(again) < {2, 3, 4, 5, 6, 7}
    for index in again:
        assert machine.in_place[index] in ("medium", "large")
        assert report.chunks[index].quality_loss < 0.02


@pytest.mark.parametrize(("stress", "met"), [(10.0, True), (1.0, False)])
def test_who_is_insured_survives_a_link_that_slows_down_to_a_tenth(
    stress: float, met: bool
) -> None:
    trace = TimeTrace([(25.0, 10_000.0), (1e9, 1_000.0)])
    machine = Machine(8)
    report = fetch(controller([chunk()] * 8, slo_ms=210, stress=stress), Source(trace), machine)
    assert report.met == met


def test_a_link_that_dies_is_answered_with_text() -> None:
    trace = TimeTrace([(25.0, 10_000.0), (1e9, 1.0)])
    machine = Machine(8)
    report = fetch(controller([chunk()] * 8, slo_ms=210), Source(trace), machine)
    assert any(one.abandoned for one in report.chunks)
    assert machine.in_place.count("text") >= 6
    assert report.actual_ms <= 7 * 50.0 + 50.0


def test_a_chunk_on_a_slow_node_waits_until_others_are_loaded() -> None:
    rates = [10_000.0] * 8
    rates[6] = 200.0
    machine, source = Machine(8), Source(ChunkTrace(rates))
    report = fetch(controller([chunk()] * 8, slo_ms=180), source, machine)
    assert report.met
    assert report.chunks[6].abandoned
    assert machine.in_place[6] == "text"
    assert report.chunks[6].wasted_bytes > 0


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("missing", "it is gone"),
        ("short", "bytes came, 1"),
        ("long", "bytes came, 1"),
        ("broken", "the line is cut"),
    ],
)
def test_a_failed_transfer_becomes_text_and_is_reported(fault: str, reason: str) -> None:
    machine, source = Machine(8), Source(steady(10_000), {5: fault})
    report = fetch(controller([chunk()] * 8, slo_ms=180), source, machine)
    assert machine.in_place[5] == "text"
    assert None not in machine.in_place
    assert len(report.chunks[5].failed) == 1
    assert reason in report.chunks[5].failed[0]
    assert [len(one.failed) for one in report.chunks].count(0) == 7
    assert report.met


def test_a_damaged_chunk_becomes_text_and_is_reported() -> None:
    machine, source = Machine(8, damaged=[4, 7]), Source(steady(10_000))
    report = fetch(controller([chunk()] * 8, slo_ms=250), source, machine)
    assert (machine.in_place[4], machine.in_place[7]) == ("text", "text")
    for index in (4, 7):
        assert report.chunks[index].failed[0].endswith("the checksum is wrong")
        assert report.chunks[index].transferred_bytes == 0
        assert report.chunks[index].wasted_bytes > 0


def test_when_every_transfer_fails_all_is_text() -> None:
    machine = Machine(6)
    source = Source(steady(10_000), dict.fromkeys(range(6), "missing"))
    report = fetch(controller([chunk()] * 6, slo_ms=80), source, machine)
    assert machine.in_place == ["text"] * 6
    assert not report.met


def test_a_stuck_source_does_not_hang_the_request() -> None:
    machine, source = Machine(4), Source(steady(10_000), dict.fromkeys(range(4), "stuck"))
    report = fetch(controller([chunk()] * 4, slo_ms=100), source, machine)
    assert machine.in_place == ["text"] * 4
    assert report.actual_ms < 300.0


def test_chunks_without_kv_are_recomputed_between_others() -> None:
    chunks = [chunk(), chunk(), chunk(n_tokens=100), chunk(), chunk()]
    chunks[2] = type(chunks[2])(n_tokens=100)
    machine, source = Machine(5), Source(steady(10_000))
    report = fetch(controller(chunks, slo_ms=120), source, machine)
    assert machine.in_place[2] == "text"
    assert report.met


def test_cancelling_ends_everything() -> None:
    machine, source = Machine(8), Source(steady(100))

    async def work() -> None:
        control = controller([chunk()] * 8, slo_ms=250)
        fetching = asyncio.create_task(
            fetch_context(
                control, source, decode=machine.decode, prefill=machine.prefill, clock=clock_ms
            )
        )
        await asyncio.sleep(0.03)
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching
        assert len(asyncio.all_tasks()) == 1

    run_virtual(work())
    assert source.opened
    assert source.closed == len(source.opened)


def test_a_failing_recompute_is_an_error_and_ends_everything() -> None:
    class Broken(Machine):
        async def prefill(self, index: int) -> None:
            await asyncio.sleep(0.01)
            raise RuntimeError("out of memory")

    source = Source(steady(100))
    with pytest.raises(RuntimeError, match="out of memory"):
        fetch(controller([chunk()] * 8, slo_ms=250), source, Broken(8))
    assert source.closed == len(source.opened)


def test_a_fault_of_the_source_is_no_failed_transfer() -> None:
    class Faulty:
        async def open(self, index: int, level: str) -> AsyncGenerator[bytes, None]:
            yield b""
            raise KeyError("a bug")

    with pytest.raises(KeyError, match="a bug"):
        fetch(controller([chunk()] * 4, slo_ms=100), Faulty(), Machine(4))


@pytest.mark.parametrize("tick_ms", [0.0, -1.0, float("nan")])
def test_a_tick_must_be_a_time(tick_ms: float) -> None:
    with pytest.raises(ValueError, match="tick_ms"):
        fetch(controller([], slo_ms=1), Source(steady(1)), Machine(0), tick_ms=tick_ms)


def test_what_one_request_measured_the_next_one_plans_with() -> None:
    first = controller([chunk()] * 8, slo_ms=120, prior_bytes_per_ms=10_000)
    link = first._progress.link
    fetch(first, Source(steady(2_000)), Machine(8))
    second = controller([chunk()] * 8, slo_ms=120, link=link)
    assert second.report.predicted_ms > first.report.predicted_ms


async def test_over_a_real_socket_what_arrives_is_put_in_place() -> None:
    """Loopback, real time: a server that sends at a limited rate and cuts one line."""
    from tests.cache.streaming.contexts import content

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        index, level = (await reader.readline()).decode().split()
        data = content(int(index), level)
        for start in range(0, len(data), 20_000):
            if index == "3" and start:
                break
            writer.write(data[start : start + 20_000])
            await writer.drain()
            await asyncio.sleep(0.001)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    class Loopback:
        async def open(self, index: int, level: str) -> AsyncGenerator[bytes, None]:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(f"{index} {level}\n".encode())
                while piece := await reader.read(65536):
                    yield piece
            finally:
                writer.close()
                await writer.wait_closed()

    machine = Machine(6)
    control = controller([chunk()] * 6, slo_ms=250, now_ms=clock_ms())
    async with server:
        report = await fetch_context(
            control, Loopback(), decode=machine.decode, prefill=machine.prefill, clock=clock_ms
        )
    assert None not in machine.in_place
    assert machine.in_place[3] == "text"
    assert {one.done for one in report.chunks} == set(machine.in_place)
