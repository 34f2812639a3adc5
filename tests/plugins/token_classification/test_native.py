from __future__ import annotations

import asyncio
import re
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ctxpress.document import Block, ContextDocument, Kind, Range, Span
from ctxpress.errors import DeadlineError
from ctxpress.models import load_bundled_scorer
from ctxpress.plugins.token_classification import (
    TokenClassificationConfig,
    TokenClassificationStage,
)
from ctxpress.stage import Skip, StageContext, StageSkip
from ctxpress.testing import WordCounter, check_stage, make_block, make_document
from tests.plugins.token_classification.running import FakeScorer, count, run, shorten

TEXT = "alpha beta gamma delta epsilon zeta eta theta iota kappa"
RANKED = {word: 1 - index / 10 for index, word in enumerate(TEXT.split())}

texts = st.text(
    st.sampled_from(
        'ab Z9.,-*#|"`“”\n\t  \u00a0\u3000é漢字のสวﬁ，。😀\u200d\u0301\u200b\ud800:/@()[]'
    )
    | st.characters(exclude_categories=()),
    max_size=120,
)
blocks = st.lists(
    st.tuples(
        texts, st.sampled_from([Kind.PROSE, Kind.DOCUMENT, Kind.CODE, Kind.JSON]), st.booleans()
    ),
    min_size=1,
    max_size=5,
)


def test_bundled_stage_obeys_the_laws() -> None:
    check_stage(TokenClassificationStage(TokenClassificationConfig(), load_bundled_scorer()))


@pytest.mark.parametrize(
    "options",
    [
        {"keep_ratio": 0.2},
        {"target_tokens": 10},
        {"force_tokens": ("\n", ".", "?", "budget"), "drop_consecutive": True},
        {"force_tokens": ("\n",)},
        {"force_reserve_digit": True},
    ],
)
def test_options_obey_the_laws(options: dict[str, Any]) -> None:
    check_stage(TokenClassificationStage(TokenClassificationConfig(**options), FakeScorer()))


@settings(max_examples=300, deadline=None)
@given(
    parts=blocks,
    ratio=st.floats(0.01, 1),
    forced=st.sampled_from([(), ("a",), ("\n", "."), ("9",)]),
)
def test_what_remains_are_ranges_in_order_within_the_budget(
    parts: list[tuple[str, Kind, bool]], ratio: float, forced: tuple[str, ...]
) -> None:
    document = make_document(make_block(*parts))
    before = document.blocks[0]
    try:
        after = run(document, keep_ratio=ratio, force_tokens=forced).blocks[0]
    except StageSkip:
        return
    for old, new in zip(before.spans, after.spans, strict=True):
        assert new.text == "".join(before.original[a:b] for a, b in new.kept)
        assert all(a < b for a, b in new.kept)
        assert all(
            left.end < right.start for left, right in zip(new.kept, new.kept[1:], strict=False)
        )
        if old.protected or old.kind in (Kind.CODE, Kind.JSON):
            assert new == old
    assert count(after.text) <= count(before.text)
    assert bool(after.text.strip()) == bool(before.text.strip())
    if ratio == 1.0:
        assert after == before


@settings(max_examples=300, deadline=None)
@given(text=texts, ratio=st.floats(0.05, 0.95))
def test_no_words_are_glued(text: str, ratio: float) -> None:
    """What blanks part in the text is parted by blanks in what remains."""
    document = make_document(make_block(text))
    try:
        kept = run(document, keep_ratio=ratio).blocks[0].kept
    except StageSkip:
        return
    blank = [character.isspace() for character in text]
    origin = [index for start, end in kept for index in range(start, end)]
    for left, right in zip(origin, origin[1:], strict=False):
        if not blank[left] and not blank[right]:
            assert not any(blank[left:right])


@settings(max_examples=300, deadline=None)
@given(text=texts, ratio=st.floats(0.05, 0.95))
def test_no_word_and_no_grapheme_cluster_is_cut(text: str, ratio: float) -> None:
    try:
        kept = run(make_document(make_block(text)), keep_ratio=ratio).blocks[0].kept
    except StageSkip:
        return
    edges = {edge for piece in kept for edge in piece} - {0, len(text)}
    for match in re.finditer(r"[^\W\u3000-\u9fff\u0e00-\u0e7f]+", text):
        if not any(ord(c) > 0x2FF for c in match.group()):  # writing with blanks, surely
            assert not edges & set(range(match.start() + 1, match.end()))
    for edge in edges:
        assert text[edge - 1] != "\u200d"
        if text[edge] == "\u200d" or unicodedata.category(text[edge]) in ("Mn", "Mc", "Me"):
            assert unicodedata.category(text[edge - 1]) in ("Cc", "Zl", "Zp")


@settings(max_examples=100, deadline=None)
@given(
    words=st.lists(
        st.sampled_from(["plan", "budget", "v1.2.3", "a-b", "x", "(no)"]), min_size=4, max_size=60
    ),
    ratio=st.floats(0.1, 0.99),
)
def test_budget_is_met_to_a_unit(words: list[str], ratio: float) -> None:
    text = " ".join(words)
    budget = ratio * count(text)
    spent = count(shorten(text, keep_ratio=ratio))
    largest = max(map(count, words))
    assert spent <= max(budget, largest)
    assert spent > budget - largest - 1


@settings(max_examples=200, deadline=None)
@given(parts=blocks, target=st.integers(1, 60), floor=st.integers(0, 3))
def test_a_budget_is_never_exceeded_where_less_is_possible(
    parts: list[tuple[str, Kind, bool]], target: int, floor: int
) -> None:
    document = make_document(make_block(*parts))
    try:
        least, after = (
            run(document, target_tokens=budget, min_sentence_words=floor).blocks[0].text
            for budget in (1, target)
        )
    except StageSkip:
        return
    assert count(after) <= max(target, count(least))


def test_a_forced_piece_of_a_heading_keeps_the_heading() -> None:
    heading = ("# Alpha ", ("2.0", Kind.PROSE, True), " notes\nbeta gamma delta epsilon")
    text = shorten(*heading, scores={"Alpha": 0.0}, keep_ratio=0.3, force_tokens=("notes",))
    assert text.startswith("# Alpha 2.0 notes")


def test_a_unit_too_long_for_the_rest_of_the_budget_is_passed_over() -> None:
    text = "alpha a-b-c-d-e-f-g beta gamma"
    scores = {"alpha": 0.9, "beta": 0.2, "gamma": 0.1} | dict.fromkeys("abcdefg-", 0.5)
    assert shorten(text, scores=scores, target_tokens=3) == "alpha beta gamma"


def test_best_words_stay_in_order() -> None:
    assert shorten(TEXT, scores=RANKED, keep_ratio=0.3) == "alpha beta gamma"
    falling = {word: -score for word, score in RANKED.items()}
    assert shorten(TEXT, scores=falling, keep_ratio=0.3) == "theta iota kappa"


def test_ties_go_to_the_front() -> None:
    assert shorten(TEXT, scores=dict.fromkeys(RANKED, 0.5), keep_ratio=0.2) == "alpha beta"


def test_identity_at_one() -> None:
    text = "  odd \n\n\tblanks   everywhere \n"
    document = make_document(make_block(text))
    assert run(document, keep_ratio=1.0) == document


def test_more_budget_never_loses_a_word() -> None:
    kept = [set(shorten(TEXT, keep_ratio=ratio / 10).split()) for ratio in range(1, 11)]
    assert all(small <= large for small, large in zip(kept, kept[1:], strict=False))


def test_target_tokens_count_protected_text() -> None:
    question = (" what is it ?", Kind.QUESTION, True)
    text = shorten(TEXT, question, target_tokens=7, scores=RANKED)
    assert text == "alpha beta gamma what is it ?"
    assert shorten(TEXT, question, scores=RANKED, force_tokens=()).endswith(question[0])


def test_configured_target_tokens() -> None:
    document = make_document(make_block(TEXT))
    stage_text = run(document, scores=RANKED, keep_ratio=None).blocks[0].text
    assert count(stage_text) == 5
    config = TokenClassificationConfig(target_tokens=4)
    assert config.target_tokens == 4
    with pytest.raises(ValidationError, match="not both"):
        TokenClassificationConfig(target_tokens=4, keep_ratio=0.5)


@pytest.mark.parametrize(
    "unit",
    [
        "1,234.56",
        "v2.10.3-rc1",
        "https://example.org/a?b=c&d=1",
        "jane.doe@example.org",
        "snake_case_id",
        "10\u00a0000",
        "2024-05-01T10:00:00Z",
        "ns::Type<T>",
        "/usr/lib/x.so.6",
    ],
)
def test_a_unit_stays_or_goes_whole(unit: str) -> None:
    for ratio in (0.1, 0.3, 0.5, 0.7, 0.9):
        text = shorten(f"one two {unit} three four five", keep_ratio=ratio)
        assert unit in text or not any(
            piece in text.split() for piece in re.split(r"\W+", unit) if piece
        )


def test_force_tokens_and_digits() -> None:
    text = "keep no pain 42 gain inside a nonsense"
    zero = dict.fromkeys(text.split(), 0.1) | {"pain": 0.9}
    assert shorten(text, scores=zero, keep_ratio=0.3, force_tokens=("no",)) == "no pain"
    assert shorten(text, scores=zero, keep_ratio=0.3, force_reserve_digit=True) == "pain 42"


def test_forced_words_go_before_the_budget() -> None:
    assert shorten(TEXT, keep_ratio=0.1, force_tokens=("beta", "iota", "eta")) == "beta eta iota"


def test_forced_line_breaks_stay() -> None:
    text = "alpha\nbeta\ngamma\ndelta"
    assert shorten(text, scores=RANKED, keep_ratio=0.5).count("\n") == 1
    assert shorten(text, scores=RANKED, keep_ratio=0.5, force_tokens=("\n",)).count("\n") == 3


def test_drop_consecutive_keeps_one() -> None:
    text = "alpha ... beta ... gamma"
    scores = {"alpha": 0.9, "beta": 0.0, "gamma": 0.8, ".": 0.1}
    options: dict[str, Any] = {"scores": scores, "keep_ratio": 0.9, "force_tokens": ("...",)}
    assert shorten(text, **options) == "alpha ... ... gamma"
    assert shorten(text, drop_consecutive=True, **options) == "alpha ... gamma"


def test_paragraphs_lists_and_headings_stay_readable() -> None:
    text = "## Costs\n\nalpha beta gamma\n\n- delta epsilon\n- zeta eta\n  1. theta iota\n\nkappa"
    scores = dict.fromkeys(RANKED, 0.1) | {"Costs": 0.9, "alpha": 0.9, "epsilon": 0.9, "theta": 0.8}
    assert (
        shorten(text, scores=scores, keep_ratio=0.55)
        == "## Costs\n\nalpha\n\n- epsilon\n  1. theta"
    )


def test_protected_text_in_mid_sentence_is_read_as_context_and_not_glued() -> None:
    stage_scorer = FakeScorer()
    url = ("https://x.org", Kind.PROSE, True)
    document = make_document(
        make_block("see the (", url, ") now please", ("x" * 5000, Kind.CODE, True))
    )
    stage = TokenClassificationStage(TokenClassificationConfig(keep_ratio=0.2), stage_scorer)

    async def main() -> ContextDocument:
        async def direct(work: Callable[[], Any]) -> Any:
            return work()

        return await stage.apply(document, StageContext(counter=WordCounter(), executor=direct))

    after = asyncio.run(main()).blocks[0]
    assert stage_scorer.read == ["see the (https://x.org) now please", ""]
    assert " https://x.org" in after.text or after.text.startswith(
        ("https://x.org", "(https://x.org")
    )


def test_a_stage_after_another_maps_to_the_original() -> None:
    original = "alpha CUT beta gamma CUT delta"
    kept = (Range(0, 6), Range(10, 21), Range(25, 30))
    whole = make_block(original)
    span = whole.spans[0].keep(original, kept)
    document = make_document(whole.with_spans((span,)))
    after = run(document, scores=RANKED, keep_ratio=0.75).blocks[0].spans[0]
    assert after.text == "alpha beta gamma"
    assert after.text == "".join(original[a:b] for a, b in after.kept)


def test_text_of_a_writing_stage_is_left_alone() -> None:
    block = make_block("alpha beta")
    span = Span(text="written", kind=Kind.PROSE, protected=False, kept=(Range(0, 5),))
    document = make_document(block.with_spans((span,)))
    with pytest.raises(StageSkip, match="no unprotected prose"):
        run(document)


@pytest.mark.parametrize("kind", [Kind.CODE, Kind.JSON, Kind.QUESTION, Kind.OPAQUE])
def test_other_kinds_are_skipped_with_a_reason(kind: Kind) -> None:
    with pytest.raises(StageSkip) as caught:
        shorten(("alpha beta gamma", kind, False))
    assert caught.value.code is Skip.NOTHING_TO_COMPRESS


def test_deadline_stops_the_work() -> None:
    with pytest.raises(DeadlineError):
        run(make_document(make_block(TEXT)), deadline_s=0.0)


@pytest.mark.parametrize(
    "options",
    [{"keep_ratio": 0}, {"keep_ratio": 1.1}, {"mode": "llmlingua2"}, {"backend": "huggingface"},
     {"force_tokens": ("",)}, {"target_tokens": 0}, {"rate": 0.5}],
)  # fmt: skip
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TokenClassificationConfig(**options)


def test_few_counts_are_needed() -> None:
    class Counting(WordCounter):
        calls = 0

        def count(self, text: str) -> int:
            self.calls += 1
            return super().count(text)

    counter = Counting()
    block: Block = make_block(" ".join(f"word{i} (note)," for i in range(3000)))
    stage = TokenClassificationStage(TokenClassificationConfig(keep_ratio=0.4), FakeScorer())

    async def main() -> ContextDocument:
        async def direct(work: Callable[[], Any]) -> Any:
            return work()

        return await stage.apply(
            make_document(block), StageContext(counter=counter, executor=direct)
        )

    after = asyncio.run(main()).blocks[0]
    assert counter.calls <= 12
    budget = 0.4 * count(block.text)
    assert 0.995 * budget <= count(after.text) <= budget
