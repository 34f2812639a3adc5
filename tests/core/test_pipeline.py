"""The pipeline: what is remembered, what is protected, what happens when things fail."""

import asyncio
import dataclasses
import itertools

import pytest

from ctxpress.cache.key import Namespace
from ctxpress.cache.store import create_store
from ctxpress.document import Kind, Role
from ctxpress.errors import LawError, StageError, StoreError
from ctxpress.pipeline import Pipeline, PipelineSettings, RunOptions
from ctxpress.services import create_services
from ctxpress.stage import Skip, StageTraits
from ctxpress.testing import WordCounter, make_block, make_document
from ctxpress.work import BuiltStage, fingerprint
from tests.core.stages import Broken, EveryOtherWord, Rewriter, Rogue

TENANT = Namespace.derive(b"secret", "acme")
TEXT = " ".join(f"word{i}" for i in range(60))
CUT = " ".join(f"word{i}" for i in range(0, 60, 2)) + " "


class Replica:
    """One proxy process: its own near store and threads over a store that it shares."""

    def __init__(self, *stages, store, **settings):
        self.store = store
        self.services = create_services(store, ttl_s=1000)
        built = [
            BuiltStage(
                name=f"stage{i}",
                stage=stage,
                fingerprint=fingerprint(f"stage{i}", stage.identity, "{}"),
            )
            for i, stage in enumerate(stages)
        ]
        self.pipeline = Pipeline("test", built, self.services, PipelineSettings(**settings))

    async def run(self, document, namespace=TENANT, **options):
        return await self.pipeline.run(
            document, namespace=namespace, counter=WordCounter(), options=RunOptions(**options)
        )

    async def texts(self, document, **options):
        result = await self.run(document, **options)
        return [block.text for block in result.document.blocks]


@pytest.fixture
async def replica():
    made = []
    shared = create_store("memory://")

    def make(*stages, store=shared, **settings):
        made.append(Replica(*stages, store=store, **settings))
        return made[-1]

    yield make
    for one in made:
        one.services.executor.shutdown(wait=True)
        one.services.stage_executor.shutdown(wait=True)
        await one.services.near.aclose()
    await shared.aclose()


class AwayStore:
    """A store that is away while ``away`` is set."""

    def __init__(self, inner):
        self.inner = inner
        self.away = False

    def __getattr__(self, name):
        method = getattr(self.inner, name)

        async def call(*args, **kwargs):
            if self.away:
                raise StoreError("away")
            return await method(*args, **kwargs)

        return call


def turn(number, text=TEXT, role=Role.USER, message=None, **options):
    message = number * 10 if message is None else message
    return make_block(
        text, turn=number, message=message, role=role, pointer=f"/messages/{message}", **options
    )


async def test_the_newest_turn_is_compressed_and_reported(replica):
    result = await replica(EveryOtherWord()).run(make_document(turn(0)))
    assert result.document.blocks[0].text == CUT
    assert (result.report.tokens_before, result.report.tokens_after) == (60, 30)
    assert result.report.skipped is None
    assert result.report.stages[0].blocks_run == 1


async def test_a_block_is_compressed_once_and_repeated_in_later_turns(replica):
    stage = EveryOtherWord()
    one = replica(stage)
    first = await one.texts(make_document(turn(0)))
    second = await one.texts(make_document(turn(0), turn(1, "other " + TEXT)))
    assert second[0] == first[0] == CUT
    assert len(second[1]) < len("other " + TEXT)
    assert stage.calls == 2


async def test_an_unknown_block_of_an_earlier_turn_goes_untouched_and_counts_as_cache_risk(replica):
    result = await replica(EveryOtherWord()).run(make_document(turn(0), turn(1, "new " + TEXT)))
    assert result.document.blocks[0].text == TEXT
    assert result.document.blocks[1].text != "new " + TEXT
    assert result.report.cache_risk_blocks == 1


async def test_replicas_and_configuration_changes_repeat_what_was_sent(replica):
    first = await replica(EveryOtherWord()).texts(make_document(turn(0)))
    other = replica(Broken("touch protected"))
    assert await other.texts(make_document(turn(0), turn(1))) == [first[0], TEXT]


async def test_a_skip_by_failure_is_remembered(replica):
    failed = await replica(Broken("raise")).texts(make_document(turn(0)))
    assert failed == [TEXT]
    assert await replica(EveryOtherWord()).texts(make_document(turn(0))) == [TEXT]


async def test_a_rivals_outcome_is_adopted(replica):
    even, odd = replica(EveryOtherWord()), replica(EveryOtherWord(query_aware=True))
    document = make_document(turn(0), question="odd")
    results = await asyncio.gather(even.texts(document), odd.texts(document))
    assert results[0] == results[1]


async def test_tenants_do_not_share_outcomes(replica):
    one = replica(EveryOtherWord())
    await one.run(make_document(turn(0)))
    other = await one.run(
        make_document(turn(0), turn(1)), namespace=Namespace.derive(b"secret", "other")
    )
    assert other.document.blocks[0].text == TEXT


async def test_when_the_store_is_away_nothing_is_rewritten_and_that_is_remembered(replica):
    inner = create_store("memory://")
    store = AwayStore(inner)
    one = replica(EveryOtherWord(), store=store)
    store.away = True
    result = await one.run(make_document(turn(0)))
    assert result.document.blocks[0].text == TEXT
    assert result.report.skipped is Skip.STORE_FAILED
    store.away = False
    again = await one.texts(make_document(turn(0), turn(0, TEXT, Role.TOOL, message=1)))
    assert again[0] == TEXT
    assert again[1] == CUT
    await inner.aclose()


async def test_a_store_that_goes_away_later_does_not_change_what_this_process_repeats(replica):
    inner = create_store("memory://")
    store = AwayStore(inner)
    one = replica(EveryOtherWord(), store=store)
    await one.run(make_document(turn(0)))
    store.away = True
    result = await one.run(make_document(turn(0), turn(1, "new " + TEXT)))
    assert [block.text for block in result.document.blocks] == [CUT, "new " + TEXT]
    await inner.aclose()


async def test_observe_changes_nothing_and_reports_what_would_have_been_saved(replica):
    result = await replica(EveryOtherWord()).run(make_document(turn(0)), applied=False)
    assert result.document.blocks[0].text == TEXT
    assert (result.report.tokens_after, result.report.applied) == (30, False)


async def test_switched_on_after_observing_the_same_request_is_compressed(replica):
    one = replica(EveryOtherWord())
    await one.run(make_document(turn(0)), applied=False)
    assert await one.texts(make_document(turn(0))) == [CUT]


async def test_switched_on_in_mid_conversation_what_was_answered_stays_as_it_was_sent(replica):
    one = replica(EveryOtherWord())
    await one.run(make_document(turn(0)), applied=False)
    reply = turn(0, "I will look.", Role.ASSISTANT, message=1)
    tool = turn(0, "tool " + TEXT, Role.TOOL, message=2)
    same_turn = await one.texts(make_document(turn(0), reply, tool))
    assert same_turn[0] == TEXT
    assert same_turn[2] != "tool " + TEXT
    next_turn = await one.texts(make_document(turn(0), reply, tool, turn(1)))
    assert next_turn == [*same_turn, CUT]


async def test_observe_reports_a_growing_conversation_as_if_it_had_been_compressed(replica):
    one = replica(EveryOtherWord())
    await one.run(make_document(turn(0)), applied=False)
    later = await one.run(make_document(turn(0), turn(1, "new " + TEXT)), applied=False)
    assert (later.report.tokens_before, later.report.tokens_after) == (121, 61)


async def test_a_bypassed_block_stays_untouched_once_it_is_answered(replica):
    one = replica(EveryOtherWord())
    await one.pipeline.remember_untouched(
        make_document(turn(0)), namespace=TENANT, code=Skip.BYPASS
    )
    reply = turn(0, "I will look.", Role.ASSISTANT, message=1)
    tool = turn(0, TEXT + " x", Role.TOOL, message=2)
    texts = await one.texts(make_document(turn(0), reply, tool))
    assert texts[0] == TEXT
    assert texts[2] != TEXT + " x"


async def test_the_same_request_without_the_bypass_is_compressed(replica):
    one = replica(EveryOtherWord())
    await one.pipeline.remember_untouched(
        make_document(turn(0)), namespace=TENANT, code=Skip.BYPASS
    )
    assert await one.texts(make_document(turn(0))) == [CUT]


async def test_a_request_with_another_wish_is_decided_by_itself_until_it_is_answered(replica):
    one = replica(EveryOtherWord(query_aware=True))  # its output follows the question's length
    plain = await one.texts(make_document(turn(0), question="ab"))
    other = await one.texts(make_document(turn(0), question="a"), variant="rag 0.3")
    assert plain != other
    reply = turn(0, "I see.", Role.ASSISTANT, message=1)
    grown = make_document(turn(0), reply, turn(1), question="a")
    assert (await one.texts(grown, variant="rag 0.3"))[:1] == other
    assert (await one.texts(grown))[:1] == plain
    assert (await one.texts(grown, variant="rag 0.9"))[:1] == plain


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("raise", Skip.STAGE_FAILED),
        ("skip", Skip.NO_SAVING),
        ("hang", Skip.DEADLINE),
        ("hang in a thread", Skip.DEADLINE),
        ("busy in a thread", Skip.DEADLINE),
        ("grow", Skip.INFLATED),
        ("blank", Skip.LAW_BROKEN),
        ("touch protected", Skip.LAW_BROKEN),
    ],
)
async def test_a_failing_stage_is_skipped_and_the_text_before_it_goes_on(replica, how, code):
    broken = Broken(how)
    one = replica(EveryOtherWord(), broken, deadline_ms=150.0)
    block = make_block("intro ", ("Protected words", Kind.CODE, True), " " + TEXT)
    result = await one.run(make_document(block))
    broken.released.set()
    expected = await replica(EveryOtherWord(), store=create_store("memory://")).texts(
        make_document(block)
    )
    assert [b.text for b in result.document.blocks] == expected
    assert result.report.stages[1].skipped is code
    assert result.report.stages[1].reason
    assert "secret" not in result.report.stages[1].reason


async def test_strict_turns_a_failure_into_an_error(replica):
    with pytest.raises(StageError):
        await replica(Broken("raise"), strict=True).run(make_document(turn(0)))
    with pytest.raises(StageError):
        await replica(Broken("hang"), strict=True, deadline_ms=50.0).run(make_document(turn(0)))
    with pytest.raises(StageError):
        await replica(Broken("touch protected"), strict=True).run(
            make_document(make_block(("x y", Kind.CODE, True), TEXT))
        )


async def test_strict_turns_a_store_that_is_away_into_an_error(replica):
    store = AwayStore(create_store("memory://"))
    store.away = True
    with pytest.raises(StageError, match="store"):
        await replica(EveryOtherWord(), store=store, strict=True).run(make_document(turn(0)))


async def test_threads_stop_soon_after_the_client_has_left(replica):
    one = replica(Broken("busy in a thread"), deadline_ms=60_000)
    request = asyncio.create_task(one.run(make_document(turn(0))))
    await asyncio.sleep(0.1)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    await asyncio.to_thread(one.services.stage_executor.shutdown, wait=True)


async def test_blocks_that_fit_the_deadline_are_compressed(replica):
    blocks = [turn(0, f"{i} {TEXT}", message=i) for i in range(4)]
    one = replica(Broken("hang", every=3), deadline_ms=300.0)
    result = await one.run(make_document(*blocks))
    shortened = [b.text != b.original for b in result.document.blocks]
    assert shortened == [True, True, False, False]
    assert result.report.stages[0].reason.startswith("deadline: 2 of 4 blocks")


async def test_a_repeated_block_comes_from_the_memo(replica):
    stage = EveryOtherWord()
    one = replica(stage)
    await one.run(make_document(turn(0)))
    result = await one.run(make_document(turn(0, "hello", message=0), turn(1)))
    assert result.document.blocks[1].text == CUT
    assert (stage.calls, result.report.stages[0].memo_hits) == (1, 1)


async def test_small_messages_go_untouched_and_parts_of_one_message_count_together(replica):
    small = turn(0, "one two three four")
    assert (await replica(EveryOtherWord(), min_tokens=8).texts(make_document(small))) == [
        "one two three four"
    ]
    parts = [
        make_block("one two three four", pointer=f"/messages/0/content/{i}/text") for i in (0, 1)
    ]
    assert (await replica(EveryOtherWord(), min_tokens=8).texts(make_document(*parts))) == [
        "one three ",
        "one three ",
    ]


async def test_the_question_is_that_of_the_blocks_own_turn(replica):
    stage = EveryOtherWord(query_aware=True)
    await replica(stage).run(make_document(turn(0), question="why?"))
    assert stage.questions == ["why?"]
    blind = EveryOtherWord()
    await replica(blind).run(make_document(turn(0, "x " + TEXT), question="why?"))
    assert blind.questions == [None]


async def test_a_cached_prefix_is_compressed_without_the_question(replica):
    stage = EveryOtherWord(query_aware=True)
    before = make_block("documents " + TEXT, pointer="/messages/0/content/0/text")
    marked = make_block(TEXT, pointer="/messages/0/content/1/text", cache_breakpoint=True)
    after = make_block("tail " + TEXT, pointer="/messages/0/content/2/text")
    result = await replica(stage, EveryOtherWord()).run(
        make_document(before, marked, after, question="why?")
    )
    assert stage.calls == 1
    assert result.report.stages[0].skipped is Skip.SHARED_PREFIX
    assert all(block.text != block.original for block in result.document.blocks)


async def test_a_stage_that_can_do_without_a_question_is_given_none_in_a_cached_prefix(replica):
    stage = EveryOtherWord(query_aware=True, query_optional=True)
    marked = make_block(TEXT, pointer="/messages/0/content/0/text", cache_breakpoint=True)
    after = make_block("tail " + TEXT, pointer="/messages/0/content/1/text")
    one = replica(stage)
    result = await one.run(make_document(marked, after, question="why?"))
    assert stage.questions == [None, "why?"]
    assert result.report.stages[0].skipped is None
    other = make_document(marked, make_block("else " + TEXT), question="another question?")
    again = await one.run(other)
    assert again.document.blocks[0].text == result.document.blocks[0].text
    assert stage.questions == [None, "why?", "another question?"]  # the memo knows no question


async def test_a_turn_scope_stage_is_given_blocks_of_a_cached_prefix_one_at_a_time(replica):
    stage = EveryOtherWord(scope="turn")
    parts = [
        make_block(
            f"part{i} {TEXT}", pointer=f"/messages/0/content/{i}/text", cache_breakpoint=i == 1
        )
        for i in range(4)
    ]
    await replica(stage).run(make_document(*parts))
    assert [[text[:5] for text in texts] for texts in stage.given] == [
        ["part2", "part3"],
        ["part0"],
        ["part1"],
    ]


class Remembering(EveryOtherWord):
    """Notes what it is told was sent before."""

    def __init__(self, **options):
        super().__init__(**options)
        self.earlier = []

    async def apply(self, document, context):
        self.earlier.append(document.earlier)
        return await super().apply(document, context)


async def test_a_turn_scope_stage_is_told_what_was_sent_before_as_it_was_sent(replica):
    stage = Remembering(scope="turn")
    one = replica(stage)
    told = turn(0, "be careful", role=Role.SYSTEM, message=1)
    said = make_block(("I see.", Kind.PROSE, True), role=Role.ASSISTANT, message=3)
    await one.run(make_document(told, turn(0, message=2)))
    await one.run(make_document(told, turn(0, message=2), said, turn(1, "new " + TEXT)))
    assert stage.earlier == [(), ("be ", CUT, "I see.")]


async def test_what_stands_behind_a_block_or_is_being_decided_with_it_was_not_sent_before(replica):
    stage = Remembering(scope="turn")
    said = make_block(("I see.", Kind.PROSE, True), role=Role.ASSISTANT, message=3)
    result = make_block("result " + TEXT, role=Role.TOOL, message=4)
    await replica(stage).run(make_document(turn(0, message=2), said, result))
    assert stage.earlier == [()]


async def test_stages_of_one_block_and_blocks_of_a_shared_prefix_are_told_nothing(replica):
    before = make_block(("I see.", Kind.PROSE, True), pointer="/messages/0/content/0/text")
    marked = make_block(TEXT, pointer="/messages/0/content/1/text", cache_breakpoint=True)
    after = make_block("tail " + TEXT, pointer="/messages/0/content/2/text")
    block, turns = Remembering(), Remembering(scope="turn")
    await replica(block, turns).run(make_document(before, marked, after))
    assert block.earlier == [(), ()]
    assert turns.earlier == [("I see.",), ()]


async def test_text_that_must_stay_and_exceeds_the_budget_is_reported(replica):
    question = ("one two three four five six", Kind.QUESTION, True)
    block = make_block(TEXT, question)
    result = await replica(EveryOtherWord()).run(make_document(block), target_tokens=3)
    stage = result.report.stages[0]
    assert stage.skipped is Skip.OVER_BUDGET
    assert "must stay" in stage.reason
    assert stage.blocks_run == 1
    result = await replica(EveryOtherWord()).run(make_document(block), target_tokens=60)
    assert result.report.stages[0].skipped is None


async def test_a_stages_own_budget_is_reported_where_a_block_exceeds_it(replica):
    stage = EveryOtherWord(target_tokens=20)
    result = await replica(stage).run(make_document(turn(0)))
    assert result.report.stages[0].skipped is Skip.OVER_BUDGET
    asked = await replica(stage).run(make_document(turn(0, "x " + TEXT)), keep_ratio=0.5)
    assert asked.report.stages[0].skipped is None


async def test_a_prefix_sent_before_with_another_continuation_no_longer_depends_on_the_question(
    replica,
):
    def ask(question):
        long = make_block("context " * 1100, pointer="/messages/0/content/0/text")
        part = make_block((question, Kind.QUESTION, True), pointer="/messages/0/content/1/text")
        return make_document(long, part, question=question)

    stage = EveryOtherWord(query_aware=True)
    one = replica(stage, EveryOtherWord(keep_ratio=None))
    first = await one.run(ask("first?"))
    second = await one.run(ask("second one?"))
    third = await one.run(ask("a third?"))
    again = await one.run(ask("first?"))
    assert first.report.stages[0].skipped is None
    assert second.report.stages[0].skipped is Skip.SHARED_PREFIX
    assert second.document.blocks[0].text == third.document.blocks[0].text
    assert again.document.blocks[0].text == first.document.blocks[0].text


async def test_a_requests_keep_ratio_is_shared_out_over_the_stages(replica):
    first, second = EveryOtherWord(keep_ratio=0.5), EveryOtherWord(keep_ratio=0.25)
    await replica(first, second).run(make_document(turn(0)), keep_ratio=0.125)
    assert first.contexts[0].keep_ratio == pytest.approx(0.5)
    assert second.contexts[0].keep_ratio == pytest.approx(0.125 * 60 / 30)


async def test_a_token_budget_is_shared_out_over_blocks(replica):
    stage = EveryOtherWord()
    long, short = turn(0, "a " * 90), turn(0, "b " * 10, message=1)
    await replica(stage).run(make_document(long, short), target_tokens=50)
    assert [context.target_tokens for context in stage.contexts] == [45, 5]


async def test_text_in_an_unmeasured_language_is_protected_from_the_stage(replica):
    german = (
        "Der Ausschuss hat am Dienstag über den Haushalt für das kommende Jahr beraten, und die "
        "Heizung im Nordflügel ist im Januar zweimal ausgefallen, was niemanden überrascht hat."
    )
    english = (
        "The committee met on Tuesday to go over the budget for the coming year, and the heating "
        "in the north wing failed twice in January, which did not come as a surprise to anyone."
    )
    stage = EveryOtherWord(languages=frozenset({"en"}))
    mixed = turn(0, f"{english}\n\n{german}")
    (text,) = await replica(stage).texts(make_document(mixed))
    assert german in text
    assert english not in text
    result = await replica(stage).run(make_document(turn(0, german)))
    assert result.document.blocks[0].text == german
    assert result.report.skipped is Skip.LANGUAGE
    assert "de" in result.report.reason


async def test_twenty_turns_with_timeouts_restarts_and_a_new_configuration_keep_the_prefix(replica):
    inner = create_store("memory://")
    stages = itertools.cycle([EveryOtherWord(), Broken("hang", every=2), Broken("raise", every=3)])
    sent, blocks, compressed = [], [], 0
    for number in range(20):
        blocks.append(turn(number, f"turn {number} {TEXT}"))
        blocks.append(turn(number, f"reply {number} {TEXT}", Role.TOOL, message=number * 10 + 1))
        one = replica(next(stages), store=inner, deadline_ms=100.0)
        texts = await one.texts(make_document(*blocks))
        assert texts[: len(sent)] == sent
        compressed += sum(t != b.original for t, b in zip(texts[-2:], blocks[-2:], strict=True))
        sent = texts
    assert compressed >= 20
    await inner.aclose()


@pytest.mark.parametrize("how", ["exit", "exit in a thread", "cancel"])
async def test_a_stage_cannot_end_the_request_or_the_process(replica, how):
    result = await replica(Rogue(how), EveryOtherWord()).run(make_document(turn(0)))
    assert result.document.blocks[0].text == CUT
    assert result.report.stages[0].skipped is Skip.STAGE_FAILED
    with pytest.raises(StageError):
        await replica(Rogue(how), strict=True).run(make_document(turn(0, "new " + TEXT)))


async def test_a_request_that_is_cancelled_stays_cancelled(replica):
    task = asyncio.create_task(replica(Broken("hang")).run(make_document(turn(0))))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("how", ["return nothing", "unknown skip"])
async def test_nonsense_from_a_stage_is_a_failure_with_a_documented_code(replica, how):
    result = await replica(Rogue(how)).run(make_document(turn(0)))
    assert result.document.blocks[0].text == TEXT
    assert result.report.stages[0].skipped in (Skip.LAW_BROKEN, Skip.STAGE_FAILED)


async def test_a_stage_that_fails_on_many_blocks_is_logged_once(replica, caplog):
    blocks = [turn(0, f"{i} {TEXT}", message=i) for i in range(50)]
    await replica(Broken("raise")).run(make_document(*blocks))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "50 of 50 blocks" in caplog.text


@pytest.mark.parametrize(
    ("how", "code"),
    [("raise", Skip.STAGE_FAILED), ("hang", Skip.DEADLINE), ("grow", Skip.INFLATED)],
)
async def test_what_is_repeated_is_explained_by_what_happened_then(replica, how, code):
    one = replica(Broken(how), deadline_ms=50)
    first = await one.run(make_document(turn(0)))
    again = await one.run(make_document(turn(0)))
    assert (first.report.skipped, again.report.skipped) == (code, code)
    assert "lower keep_ratio" not in again.report.reason


async def test_an_extractive_stage_may_leave_what_another_wrote(replica):
    block = make_block(TEXT, ("`code`", Kind.CODE, True), " " + TEXT, pointer="/messages/0")
    result = await replica(Rewriter(), EveryOtherWord()).run(make_document(block))
    assert [report.skipped for report in result.report.stages] == [None, None]
    assert result.document.blocks[0].text.startswith("In short.`code`")
    assert result.report.tokens_after < 50


async def test_the_store_may_fail_for_one_of_two_equal_requests(replica):
    store = AwayStore(create_store("memory://"))
    one = replica(EveryOtherWord(), store=store)
    document = make_document(turn(0))
    failing = one.pipeline._memory
    settle, calls = failing.settle, itertools.count()

    async def settle_with_failure(*args):
        store.away = next(calls) == 0
        try:
            return await settle(*args)
        finally:
            store.away = False

    failing.settle = settle_with_failure
    both = await asyncio.gather(one.texts(document), one.texts(document))
    assert both[0] == both[1] == await one.texts(document)


async def test_a_block_of_many_spans_is_counted_as_a_whole(replica):
    parts = [part for i in range(500) for part in (f"word{i} and ", (f"`{i}` ", Kind.CODE, True))]
    counted = []

    class Counter(WordCounter):
        def count(self, text):
            counted.append(text)
            return super().count(text)

    one = replica(EveryOtherWord(), min_tokens=10)
    await one.pipeline.run(
        make_document(make_block(*parts)),
        namespace=TENANT,
        counter=Counter(),
        options=RunOptions(keep_ratio=0.5),
    )
    assert len(counted) < 10


class Heads:
    """Writes a heading over the first block and keeps one word of each of the others."""

    identity = "heads:1"
    traits = StageTraits(extractive=False, scope="turn", arranges=True)

    def __init__(self, heading):
        self.heading = heading

    async def apply(self, document, context):
        first, *rest = document.blocks
        (span,) = first.spans
        blocks = [first.with_spans((dataclasses.replace(span, text=self.heading + span.text),))]
        for block in rest:
            end = block.original.index(" ") + 1
            blocks.append(block.with_spans((block.spans[0].keep(block.original, ((0, end),)),)))
        return document.with_blocks(tuple(blocks))


async def test_what_a_stage_did_to_documents_stands_as_long_as_all_together_did_not_grow(replica):
    document = make_document(turn(0), make_block(TEXT, pointer="/messages/0/content/1"))
    result = await replica(Heads("A heading: "), store=create_store("memory://")).run(document)
    assert result.document.blocks[0].text.startswith("A heading: ")
    assert result.document.blocks[1].text == "word0 "
    assert result.report.stages[0].skipped is None


async def test_what_a_stage_did_to_documents_is_thrown_away_as_a_whole(replica):
    document = make_document(turn(0), make_block(TEXT, pointer="/messages/0/content/1"))
    result = await replica(Heads("long " * 100), store=create_store("memory://")).run(document)
    assert [b.text for b in result.document.blocks] == [b.text for b in document.blocks]
    assert result.report.stages[0].skipped is Skip.INFLATED
    with pytest.raises(LawError, match="120 tokens grew to 161"):
        await replica(Heads("long " * 100), strict=True).run(document)
