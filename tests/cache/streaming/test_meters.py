"""Estimates: cautious, quick to follow, and deaf to nonsense."""

from __future__ import annotations

import math
import random

import pytest

from ctxpress.cache.streaming import (
    ChunkOptions,
    DecodeMeter,
    LevelOption,
    LinkEstimate,
    LinkMeter,
    PrefillMeter,
    PrefillModel,
)
from tests.cache.streaming.contexts import chunk, controller

NONSENSE = [math.nan, math.inf, -math.inf, -1.0, True, "3"]


@pytest.mark.parametrize("wrong", NONSENSE)
def test_measurements_that_are_no_numbers_are_refused_by_name(wrong: float) -> None:
    control = controller([chunk()], slo_ms=100)
    for name, call in (
        ("n_bytes", lambda: control.observe_transfer(wrong, 1.0)),
        ("ms", lambda: control.observe_transfer(1e6, wrong)),
        ("ms", lambda: control.observe_decode("small", 10, wrong)),
        ("n_tokens", lambda: control.observe_decode("small", wrong, 1.0)),  # type: ignore[arg-type]
        ("ms", lambda: control.observe_prefill(10, 0, wrong)),
        ("context_tokens", lambda: control.observe_prefill(10, wrong, 1.0)),  # type: ignore[arg-type]
        ("n_tokens", lambda: control.observe_prefill(wrong, 0, 1.0)),  # type: ignore[arg-type]
        ("prior_bytes_per_ms", lambda: LinkMeter(prior_bytes_per_ms=wrong)),
        ("default_ms_per_token", lambda: DecodeMeter(default_ms_per_token=wrong)),
        ("slo_ms", lambda: controller([], slo_ms=wrong)),
        ("received_bytes", lambda: started().keep_transfer(1.0, wrong)),
        ("size_bytes", lambda: LevelOption(level="x", size_bytes=wrong, quality_loss=0.0)),  # type: ignore[arg-type]
        ("quality_loss", lambda: LevelOption(level="x", size_bytes=1, quality_loss=wrong)),
    ):
        if wrong is True and name == "n_tokens":
            continue
        with pytest.raises(ValueError, match=name):
            call()


def started():  # type: ignore[no-untyped-def]
    """A controller whose first transfer is under way."""
    control = controller([chunk()], slo_ms=20)
    assert control.begin_transfer(0.0) is not None
    return control


def test_options_that_make_no_sense_are_refused() -> None:
    level = LevelOption(level="x", size_bytes=1, quality_loss=0.0)
    with pytest.raises(ValueError, match="different names"):
        ChunkOptions(n_tokens=1, levels=(level, level))
    with pytest.raises(ValueError, match="n_tokens"):
        ChunkOptions(n_tokens=0)
    with pytest.raises(ValueError, match="needs a name"):
        LevelOption(level="", size_bytes=1, quality_loss=0.0)
    with pytest.raises(ValueError, match="no time at all"):
        PrefillModel(fixed_ms=0, ms_per_token=0, ms_per_token_pair=0)
    with pytest.raises(ValueError, match="stress"):
        controller([], slo_ms=1, stress=0.5)
    with pytest.raises(ValueError, match="reserve"):
        controller([], slo_ms=1, reserve=1.0)


def test_before_the_first_measurement_the_prior_counts_and_then_no_more() -> None:
    meter = LinkMeter(prior_bytes_per_ms=500.0)
    assert meter.estimate() == LinkEstimate(low_bytes_per_ms=500.0, mean_bytes_per_ms=500.0)
    meter.observe(1_000_000, 100.0)
    assert meter.estimate().mean_bytes_per_ms == pytest.approx(10_000.0)


def test_one_transfer_is_promised_less_than_many() -> None:
    meter, draw = LinkMeter(prior_bytes_per_ms=1.0), random.Random(7)
    for _ in range(40):
        meter.observe(1_000_000, 1_000_000 / draw.uniform(1_000, 20_000))
    found = meter.estimate()
    assert found.low_bytes_per_ms <= found.over(1) <= found.over(10) < found.over(1000)
    assert found.over(1000) <= found.mean_bytes_per_ms
    assert found.spread > 0.3


def test_a_steady_link_is_believed() -> None:
    meter = LinkMeter(prior_bytes_per_ms=1.0)
    for _ in range(10):
        meter.observe(1_000_000, 100.0)
    assert meter.estimate().over(1) == pytest.approx(10_000.0)


def test_a_link_that_slows_down_is_followed() -> None:
    meter = LinkMeter(prior_bytes_per_ms=1.0)
    for _ in range(30):
        meter.observe(1_000_000, 100.0)
    for _ in range(4):
        meter.observe(1_000_000, 1000.0)
    assert meter.estimate().low_bytes_per_ms <= 1_100.0
    assert meter.estimate().over(8) < 4_000.0


def test_what_is_too_short_says_nothing_and_a_stall_says_much() -> None:
    meter = LinkMeter(prior_bytes_per_ms=500.0)
    meter.observe(100, 0.0)
    meter.observe(100, 1.0)
    assert meter.estimate().mean_bytes_per_ms == 500.0
    meter.observe(0, 2000.0)
    assert meter.estimate().mean_bytes_per_ms < 2.0


def test_a_link_that_was_given_up_is_tried_again() -> None:
    meter = LinkMeter(prior_bytes_per_ms=500.0)
    meter.observe(0, 2000.0)
    meter.age()
    assert meter.estimate().mean_bytes_per_ms == 500.0
    meter.age()


def test_prefill_is_learned_from_what_it_takes() -> None:
    true = PrefillModel(fixed_ms=5.0, ms_per_token=0.2, ms_per_token_pair=2e-5)
    meter = PrefillMeter(PrefillModel(fixed_ms=1.0, ms_per_token=0.5, ms_per_token_pair=1e-6))
    draw = random.Random(3)
    for _ in range(60):
        n_tokens, context = draw.randint(64, 2048), draw.randint(0, 30_000)
        meter.observe(n_tokens, context, true.ms(n_tokens, context) * draw.uniform(0.97, 1.03))
    for n_tokens, context in ((256, 0), (1024, 8_000), (2048, 30_000)):
        assert meter.model.ms(n_tokens, context) == pytest.approx(
            true.ms(n_tokens, context), rel=0.15
        )


def test_one_prefill_scales_the_prior() -> None:
    prior = PrefillModel(fixed_ms=1.0, ms_per_token=0.5, ms_per_token_pair=1e-5)
    meter = PrefillMeter(prior)
    meter.observe(512, 1000, 2 * prior.ms(512, 1000))
    assert meter.model.ms(1024, 9000) == pytest.approx(2 * prior.ms(1024, 9000), rel=0.1)


def test_decoding_is_learned_by_level() -> None:
    meter = DecodeMeter(default_ms_per_token=1.0, prior_ms_per_token={"raw": 0.1})
    for _ in range(20):
        meter.observe("small", 100, 50.0)
    assert meter.ms_per_token("small") == pytest.approx(0.5, rel=0.01)
    assert (meter.ms_per_token("raw"), meter.ms_per_token("other")) == (0.1, 1.0)
