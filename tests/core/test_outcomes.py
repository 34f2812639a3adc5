"""Outcomes: what is stored is read back, and nothing else is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpress import report_builder
from ctxpress.document import Range
from ctxpress.fates import Fate
from ctxpress.outcomes import Outcome, apply_outcome, outcome_of
from ctxpress.stage import Skip
from ctxpress.testing import make_block

ORIGINAL = "The quick brown fox jumps over the lazy dog."


@st.composite
def kept_ranges(draw):
    edges = sorted(draw(st.sets(st.integers(0, len(ORIGINAL)), min_size=2, max_size=12)))
    return tuple(Range(a, b) for a, b in zip(edges[::2], edges[1::2], strict=False))


@given(kept_ranges(), st.booleans())
def test_what_is_stored_is_read_back(kept, shared):
    outcome = Outcome(length=len(ORIGINAL), kept=kept, shared=shared)
    assert Outcome.decode(outcome.encode(), length=len(ORIGINAL)) == outcome


def test_ranges_out_of_order_survive_since_documents_may_be_reordered():
    outcome = Outcome(length=40, kept=(Range(20, 30), Range(0, 10)))
    assert Outcome.decode(outcome.encode(), length=40) == outcome


@given(st.binary(max_size=200) | kept_ranges().map(lambda k: Outcome(length=9, kept=k).encode()))
def test_any_bytes_are_an_outcome_within_bounds_or_a_miss(data):
    outcome = Outcome.decode(data, length=9)
    if outcome is not None and outcome.kept is not None:
        assert all(0 <= start < end <= 9 for start, end in outcome.kept)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"null",
        b"[3]",
        b"[3,9]",
        b"[2,9,null,null,null,false,null,false,null]",
        b"[3,8,null,null,null,false,null,false,null]",
        b"[3,9,null,null,null,false,null,false]",
        b"[3,9,null,null,null,false,null,false,null,null]",
        b"[3,9,[],null,null,false,null,false,null]",
        b"[3,9,[0],null,null,false,null,false,null]",
        b"[3,9,[0,10],null,null,false,null,false,null]",
        b"[3,9,[-1,3],null,null,false,null,false,null]",
        b"[3,9,[0,true],null,null,false,null,false,null]",
        b"[3,9,[0,1.5],null,null,false,null,false,null]",
        b'[3,9,null,"",null,false,null,false,null]',
        b'[3,9,null,null,"no such code",false,null,false,null]',
        b"[3,9,null,null,null,1,null,false,null]",
        b"[3,9,null,null,null,false,-1,false,null]",
        b"[3,9,null,null,null,false,null,0,null]",
        b"[3,9,null,null,null,false,null,false,[]]",
        b"[3,9,null,null,null,false,null,false,[[],[]]]",
        b"[3,9,null,null,null,false,null,false,[[],[2]]]",
        b"[3,9,null,null,null,false,null,false,[[],[true]]]",
        b"[3,9,null,null,null,false,null,false,[[1],[2]]]",
        b'[3,9,null,null,null,false,null,false,{"0":1}]',
    ],
)
def test_malformed_values_are_misses(data):
    assert Outcome.decode(data, length=9) is None


def test_a_value_of_this_version_is_read():
    data = b'[3,9,null,null,null,false,null,true,[["gone"],[0,2,1]]]'
    fates = (Fate("kept"), Fate("dropped", "gone"), Fate("shortened"))
    assert Outcome.decode(data, length=9) == Outcome(length=9, dropped=True, fates=fates)


@given(
    st.lists(
        st.sampled_from([Fate("kept"), Fate("shortened")])
        | st.builds(Fate, st.just("dropped"), st.text("ab", max_size=2))
    )
)
def test_what_became_of_documents_is_stored_and_read_back(fates):
    outcome = Outcome(length=9, fates=tuple(fates))
    assert Outcome.decode(outcome.encode(), length=9) == outcome


def test_no_text_is_stored_for_an_extractive_outcome():
    before = make_block(ORIGINAL)
    after = before.with_spans((before.spans[0].keep(ORIGINAL, (Range(4, 9), Range(16, 19))),))
    outcome = outcome_of(before, after, extractive=True, skipped=None, shared=False)
    assert b"quick" not in outcome.encode()
    assert apply_outcome(before, outcome).text == "quickfox"


def test_an_unchanged_block_is_remembered_as_untouched():
    block = make_block(ORIGINAL)
    outcome = outcome_of(block, block, extractive=True, skipped=Skip.DEADLINE, shared=False)
    assert (outcome.kept, outcome.skipped) == (None, Skip.DEADLINE)
    assert apply_outcome(block, outcome) is block


def test_an_outcome_that_would_blank_a_block_leaves_it():
    block = make_block("word  word")
    assert apply_outcome(block, Outcome(length=10, kept=(Range(4, 6),))) is block


def test_every_code_under_which_a_block_is_remembered_has_its_own_sentence():
    before_any_block = {Skip.OFF, Skip.UNPARSEABLE, Skip.UNSUPPORTED_TRANSPORT, Skip.TOO_LARGE}
    before_any_block |= {Skip.UNSUPPORTED_SHAPE, Skip.DUPLICATE_KEYS}
    own = {Skip.PROTECTED, Skip.BELOW_MIN_TOKENS}  # these name figures of the request
    assert set(Skip) - before_any_block - own == set(report_builder.SENTENCES)
