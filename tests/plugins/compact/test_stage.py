"""The stage on documents: what it works on, what it leaves, and that the laws hold."""

from __future__ import annotations

import asyncio
import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxpress.document import Kind, Role, Source
from ctxpress.errors import ConfigError, DeadlineError
from ctxpress.formats.options import ParseOptions
from ctxpress.formats.segmentation import segment
from ctxpress.laws import check_laws
from ctxpress.lossless import same_json
from ctxpress.manager import create_plugin_manager
from ctxpress.plugins.compact import CompactConfig, CompactStage, expand
from ctxpress.stage import Skip, StageContext, StageSkip
from ctxpress.testing import WordCounter, check_stage, make_block, make_document

ROWS = [{"id": n, "name": f"pump {n}", "share": n / 4} for n in range(12)]
JSON = json.dumps({"total": 12, "rows": ROWS}, indent=2)
LOG = "".join(f"2024-05-01T12:00:{n:02}Z INFO poll of pump\n" for n in range(12))
TABLE = "| part   | cost |\n|--------|------|\n" + "".join(
    f"| pump {n} |  {100 + n} |\n" for n in range(9)
)
PROSE = "The committee met on Tuesday to go over the budget for the coming year."
MIXED = f"{PROSE}\n\n{JSON}\n\n{PROSE}\n\n{LOG}\n{PROSE}\n\n{TABLE}\n{PROSE}"


class Characters(WordCounter):
    """Counts characters but blanks: shorter text is never more tokens."""

    def count(self, text):
        return len(text) - text.count(" ") // 2


def parsed(text, *, role=Role.TOOL, kind=Kind.TOOL_RESULT, source=None, **options):
    """A document of one block, cut as a request is."""
    spans = segment(text, role=role, kind=kind, options=ParseOptions(**options), ask=False)
    if source is not None:
        spans = tuple(dataclasses.replace(span, source=source) for span in spans)
    block = dataclasses.replace(make_block(text, role=role), spans=spans)
    return make_document(block)


def compact(document, *, deadline_s=float("inf"), **options):
    """The stage's result, which obeys the laws."""

    async def run():
        async def executor(work):
            return work()

        context = StageContext(counter=Characters(), executor=executor, deadline_s=deadline_s)
        return await stage.apply(document, context)

    stage = CompactStage(CompactConfig(**options))
    after = asyncio.run(run())
    check_laws(document, after, extractive=False, restore=stage.restore)
    return after


def text_of(document):
    return document.blocks[0].text


def test_it_obeys_the_laws():
    check_stage(CompactStage(CompactConfig(min_tokens=0)), documents=[parsed(MIXED)])


def test_json_logs_and_tables_become_shorter_and_prose_stays():
    after = compact(parsed(MIXED))
    text = text_of(after)
    assert '"rows":[columns("id","name","share")\n0,"pump 0",0.0\n' in text
    assert "lines begins with" in text
    assert "rows padded to" in text
    assert text.count(PROSE) == 4
    restored = expand(text)
    assert restored == MIXED.replace(JSON, json.dumps(json.loads(JSON), separators=(",", ":")))
    assert len(text) < 0.6 * len(MIXED)


def test_what_was_rewritten_keeps_its_range_and_is_protected():
    after = compact(parsed(MIXED)).blocks[0]
    assert [edge for span in after.spans for edge in span.kept][0].start == 0
    assert len(after.kept) == 1
    written = [s for s in after.spans if s.text != "".join(MIXED[a:b] for a, b in s.kept)]
    assert {span.kind for span in written} == {Kind.JSON, Kind.LOG, Kind.TABLE}
    assert all(span.protected and span.detachable for span in written)


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"json": "off"}, [JSON]),
        ({"logs": "off"}, [LOG]),
        ({"tables": "off"}, [TABLE]),
        ({"min_tokens": 600}, [TABLE, LOG]),
    ],
)
def test_each_kind_can_be_left_out(options, kept):
    text = text_of(compact(parsed(MIXED), **options))
    for part in (JSON, LOG, TABLE):
        assert (part.strip() in text) is (part in kept)


def test_minify_only_takes_out_spacing():
    assert text_of(compact(parsed(JSON), json="minify")) == json.dumps(
        json.loads(JSON), separators=(",", ":")
    )


def test_numbers_and_escapes_stay_as_they_are_spelt():
    text = r'{ "a": 1.0, "b": 1e5, "c": 123456789012345678901234567890, "d": "caf\u00e9 \/ x" }'
    assert text_of(compact(parsed(text), min_tokens=0)) == text.replace(" ", "").replace(
        r"\u00e9\/x", r"\u00e9 \/ x"
    )


@pytest.mark.parametrize(
    "text",
    [
        '{"a":   1, "b":   2, "a":   3, "c":   "a key that occurs twice"}',
        f"```json\n{JSON}\n```",
        f"<keep>{JSON}</keep>",
        f"<keep>{LOG}</keep>",
        "def f(x):\n    return x\n\n\ndef g(x):\n    return x\n",
        '{"quoted": "[columns(\\"id\\")",   "other":   "a text about the notation itself"}',
        f"{JSON}\nthe server said this again (×3)\n",
    ],
)
def test_what_must_stay_stays(text):
    with pytest.raises(StageSkip) as skip:
        compact(parsed(text), min_tokens=0)
    assert skip.value.code in (Skip.NOTHING_TO_COMPRESS, Skip.NO_SAVING)


def test_a_term_of_the_tenant_inside_pins_the_whole_value():
    with pytest.raises(StageSkip):
        compact(parsed(JSON, protect_terms=("pump 3",)))
    assert text_of(compact(parsed(JSON, protect_terms=("valve",)))) != JSON


def test_code_questions_arguments_and_system_text_are_not_touched():
    for role, kind in (
        (Role.SYSTEM, Kind.INSTRUCTION),
        (Role.ASSISTANT, Kind.PROSE),
        (Role.USER, Kind.PROSE),
    ):
        with pytest.raises(StageSkip) as skip:
            compact(parsed(MIXED, role=role, kind=kind, compress_system=True))
        assert skip.value.code is Skip.NOTHING_TO_COMPRESS


def test_json_of_a_users_text_is_rewritten_only_where_asked_for():
    text = text_of(compact(parsed(MIXED, role=Role.USER, kind=Kind.PROSE), user_json="on"))
    assert "[columns(" in text
    assert LOG in text
    assert TABLE in text


def test_documents_are_worked_on_whoever_sends_them():
    given_ = parsed(MIXED, role=Role.USER, kind=Kind.DOCUMENT, source=Source(id="1"))
    text = text_of(compact(given_))
    assert "[columns(" in text
    assert "rows padded to" in text


def test_lines_that_repeat_in_free_text_are_folded_and_the_rest_stays_free():
    text = f"{PROSE}\n" + "Waiting for the pump to start again\n" * 9 + f"{PROSE}\n"
    block = compact(parsed(text)).blocks[0]
    folded = "Waiting for the pump to start again (×9)"
    assert block.text == f"{PROSE}\n{folded}\n{PROSE}\n"
    assert [span.text for span in block.spans if span.protected] == [folded]


def test_it_leaves_what_it_wrote_alone():
    once = compact(parsed(MIXED))
    with pytest.raises(StageSkip):
        compact(once)
    with pytest.raises(StageSkip):
        compact(parsed(text_of(once)))


def test_the_deadline_is_kept():
    with pytest.raises(DeadlineError):
        compact(parsed(MIXED), deadline_s=0)


def test_options_are_named_as_they_are_written():
    manager = create_plugin_manager()
    manager.build_stage("compact", {"json": "minify", "logs": "off"})
    with pytest.raises(ConfigError, match=r"no option 'jsn'.*json"):
        manager.build_stage("compact", {"jsn": "minify"})
    with pytest.raises(ConfigError, match="option 'json'"):
        manager.build_stage("compact", {"json": "smaller"})
    with pytest.raises(ConfigError, match="no option 'json_form'"):
        manager.build_stage("compact", {"json_form": "minify"})


PARTS = st.sampled_from([PROSE, JSON, LOG, TABLE, "{", "|", "<keep>", "</keep>", "```", "poll", ""])


@settings(max_examples=60, deadline=None)
@given(st.lists(PARTS, max_size=8), st.sampled_from(["\n", "\n\n", " ", ""]))
def test_any_tool_result_comes_back(parts, joint):
    text = joint.join(parts)
    document = parsed(text)
    try:
        after = compact(document, min_tokens=0)
    except StageSkip:
        return
    restored = expand(text_of(after))
    kinds = {span.kind for span in document.blocks[0].spans}
    assert same_json(restored, text) if Kind.JSON in kinds else restored == text
