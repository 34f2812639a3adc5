"""The stage as a whole: laws, options, errors."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpress.errors import ConfigError, DeadlineError
from ctxpress.manager import create_plugin_manager
from ctxpress.plugins.dedupe import DedupeConfig, DedupeStage
from ctxpress.stage import StageContext
from ctxpress.testing import WordCounter, check_stage, make_block
from tests.plugins.dedupe.running import BOILER, REEFS, dedupe, deduped, request, retrieved


@pytest.mark.parametrize("options", [{}, {"sentences": False}, {"threshold": 0.5, "min_words": 1}])
def test_it_keeps_the_laws(options):
    pasted = f"[1] {BOILER}\n\n[2] {BOILER}\n\n[3] <keep>{REEFS}</keep>\n\nQuestion: why so?"
    documents = [
        retrieved(BOILER, REEFS, BOILER),
        request(pasted),
        dataclasses.replace(request(pasted), earlier=(BOILER, REEFS)),
    ]
    check_stage(DedupeStage(DedupeConfig(**options)), documents=documents)


@given(st.lists(st.text(max_size=60) | st.sampled_from([BOILER, REEFS, REEFS.upper()]), max_size=6))
def test_any_documents_come_out_lawful_and_none_twice(texts):
    after = dedupe(retrieved(*texts), min_words=1, threshold=0.5)
    left = [block.text for block in after.blocks if not block.dropped]
    assert sum(text.upper() == REEFS.upper() for text in left) <= 1


def test_what_is_not_repeated_comes_back_as_it_is():
    document = retrieved(BOILER, REEFS)
    assert dedupe(document) is document or dedupe(document) == document
    assert deduped(make_block("")) == [""]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 0.2}, "threshold"),
        ({"min_words": 0}, "min_words"),
        ({"treshold": 0.9}, "did you mean 'threshold'"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        create_plugin_manager().build_stage("dedupe", options)


async def test_it_stops_when_the_time_is_over():
    ticks = iter([None] * 3)

    class Late(StageContext):
        def checkpoint(self):
            if next(ticks, "over") == "over":
                raise DeadlineError("the time is over")

    async def inline(work):
        return work()

    context = Late(counter=WordCounter(), executor=inline)
    with pytest.raises(DeadlineError):
        await DedupeStage(DedupeConfig()).apply(retrieved(*[BOILER] * 9), context)
