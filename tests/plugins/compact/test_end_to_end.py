"""A conversation through the pipeline: the tool result changes, nothing else, and only once."""

from __future__ import annotations

import json

import orjson
import pytest

import ctxpress
from ctxpress.assembly import create_compressor
from ctxpress.cache.key import Namespace
from ctxpress.compressor import RequestPolicy
from ctxpress.config import Config
from ctxpress.document import Kind
from ctxpress.formats import parse
from ctxpress.formats.options import ParseOptions
from ctxpress.hookspecs import hookimpl
from ctxpress.manager import create_plugin_manager
from ctxpress.plugins.compact import CompactConfig, CompactStage, expand
from ctxpress.stage import Skip
from tests.conversations import prose

TENANT = Namespace.derive(b"secret", "acme")
POLICY = RequestPolicy(namespace=TENANT, pipeline="p", mode="on")
ROWS = [{"id": n, "name": f"Pümp {n}", "share": n / 4} for n in range(40)]
RESULT = json.dumps({"total": 40, "rows": ROWS}, indent=2)
SHORT = json.dumps(json.loads(RESULT), separators=(",", ":"))


def body_of(*more, result=RESULT):
    call = '{"id":"c","type":"function","function":{"name":"search","arguments":"{ \\"q\\":  1 }"}}'
    messages = [
        '{"role" : "user",  "content":"How many caf\\u00e9s \\/ pumps?"}',
        f'{{"role":"assistant","content":null,"tool_calls":[{call}]}}',
        f'{{"role":"tool","tool_call_id":"c", "content":{json.dumps(result)}}}',
        *more,
    ]
    return f'{{ "temperature":1.0e0,"model":"gpt-4o","messages":[{",".join(messages)}] }}'.encode()


def compressor(*stages, manager=None, **options):
    pipeline = {
        "min_tokens": 50,
        "deadline_ms": 60_000,
        "stages": list(stages) or [{"use": "compact"}],
        **options,
    }
    config = Config.model_validate(
        {"version": 1, "store": "memory://", "pipelines": {"p": pipeline}}
    )
    return create_compressor(config, manager=manager)


async def test_only_the_tool_result_changes_and_later_turns_repeat_it():
    made = compressor()
    first = await made.compress_body("openai_chat", body_of(), POLICY)
    text = orjson.loads(first.body)["messages"][2]["content"]
    assert text.startswith('{"total":40,"rows":[columns("id","name","share")\n0,')
    assert expand(text) == SHORT
    assert first.report.tokens_after < 0.6 * first.report.tokens_before
    old, new = json.dumps(RESULT).encode(), json.dumps(text).encode()
    assert first.body == body_of().replace(old, new)

    answer = '{"role":"assistant","content":"40."}'
    later = body_of(answer, '{"role":"user","content":"And how many are old?"}')
    second = await made.compress_body("openai_chat", later, POLICY)
    assert second.body == later.replace(old, new)
    assert second.report.blocks_remembered == 1
    await made.aclose()


async def test_a_block_that_is_nothing_but_json_is_not_offered_to_other_stages():
    made = compressor({"use": "compact"}, {"use": "token_classification"})
    result = await made.compress_body("openai_chat", body_of(), POLICY)
    compacting, deleting = result.report.stages
    assert (compacting.blocks, deleting.blocks) == (1, 0)
    await made.aclose()


async def test_min_tokens_counts_free_text_only_for_stages_that_are_not_lossless():
    made = compressor({"use": "compact"}, {"use": "token_classification"}, min_tokens=100)
    little = body_of(result=f"Found these pumps in the list:\n\n{RESULT}")
    result = await made.compress_body("openai_chat", little, POLICY)
    assert [stage.blocks for stage in result.report.stages] == [1, 0]
    assert "Found these pumps in the list:" in result.body.decode()
    made_tight = compressor(min_tokens=100_000)
    untouched = await made_tight.compress_body("openai_chat", little, POLICY)
    assert untouched.body == little
    assert untouched.report.skipped is Skip.BELOW_MIN_TOKENS
    await made.aclose()
    await made_tight.aclose()


async def test_prose_beside_compacted_json_is_still_shortened():
    made = compressor(
        {"use": "compact"}, {"use": "token_classification", "keep_ratio": 0.5}, strict=True
    )
    text = f"{prose('a', 12)}\n\n{RESULT}\n\n{prose('b', 12)}"
    result = await made.compress_body("openai_chat", body_of(result=text), POLICY)
    sent = orjson.loads(result.body)["messages"][2]["content"]
    table = sent[sent.index('{"total"') : sent.index("]}") + 2]
    assert expand(table) == SHORT
    assert len(sent) - len(table) < 0.7 * (len(text) - len(RESULT))
    await made.aclose()


async def test_it_also_follows_a_stage_that_deletes():
    made = compressor(
        {"use": "token_classification", "keep_ratio": 0.5}, {"use": "compact"}, strict=True
    )
    text = f"{prose('a', 12)}\n\n{RESULT}\n\n{prose('b', 12)}"
    result = await made.compress_body("openai_chat", body_of(result=text), POLICY)
    assert "[columns(" in orjson.loads(result.body)["messages"][2]["content"]
    await made.aclose()


async def test_what_an_agent_read_from_a_file_stays():
    read = body_of().replace(b'"name":"search"', b'"name":"read_file"')
    made = compressor()
    result = await made.compress_body("openai_chat", read, POLICY)
    assert result.body == read
    await made.aclose()


class Liar(CompactStage):
    """Writes the first number of everything as another."""

    identity = "liar"

    async def apply(self, document, context):
        after = await super().apply(document, context)
        blocks = []
        for block in after.blocks:
            spans = tuple(
                type(span)(
                    text=span.text.replace("40", "41"),
                    kind=span.kind,
                    protected=True,
                    kept=span.kept,
                    detachable=span.detachable,
                )
                for span in block.spans
            )
            blocks.append(block.with_spans(spans))
        return after.with_blocks(tuple(blocks))


class LiarPlugin:
    @hookimpl
    def register_stages(self, register):
        register("liar", lambda config, resources: Liar(config), CompactConfig)


async def test_a_stage_that_loses_something_is_thrown_out_and_the_body_stays():
    made = compressor({"use": "liar"}, manager=create_plugin_manager(plugins=[LiarPlugin()]))
    result = await made.compress_body("openai_chat", body_of(), POLICY)
    assert result.body == body_of()
    assert result.report.stages[0].skipped is Skip.LAW_BROKEN
    await made.aclose()


@pytest.mark.parametrize("shape", ["openai", "anthropic"])
def test_messages_of_the_sdk_with_the_preset(shape):
    text = f"{RESULT}\n"
    if shape == "openai":
        messages = json.loads(body_of(result=text))["messages"]
    else:
        part = {"type": "tool_result", "tool_use_id": "c", "content": text}
        use = {"type": "tool_use", "id": "c", "name": "search", "input": {}}
        messages = [
            {"role": "user", "content": "How many?"},
            {"role": "assistant", "content": [use]},
            {"role": "user", "content": [part]},
        ]
    result = ctxpress.compress_messages(messages, pipeline="lossless", model="gpt-4o")
    found = result.messages[2]["content"]
    sent = found if shape == "openai" else found[0]["content"]
    assert expand(sent) == f"{SHORT}\n"
    assert result.messages[:2] == messages[:2]
    assert result.tokens_after < result.tokens_before


def test_documents_of_the_sdk_with_the_preset():
    result = ctxpress.compress_documents(
        "How many?", [RESULT, "Nothing here."], pipeline="lossless"
    )
    assert expand(result.documents[0].text) == SHORT
    assert result.documents[0].kept == ((0, len(RESULT)),)
    assert result.documents[1].text == "Nothing here."


def test_logs_and_tables_are_told_from_code():
    log = "".join(f"2024-05-01T12:00:{n:02}Z INFO poll\n" for n in range(9))
    code = "def f(x):\n    return x\n\n\ndef g(x):\n    return f(x)\n"
    border = "+----+------+\n"
    table = f"{border}| id | name |\n{border}|  1 | Ada  |\n{border}"
    trace = 'Traceback (most recent call last):\n  File "a.py", line 3, in f\nValueError: no\n'
    words = "Some words stand here.\n\nThen more words.\n\nAnd these are the last ones.\n\n"
    text = f"{words}{log}\n{words}{code}\n{words}{table}\n{words}"
    for given, kinds in (
        (text, [Kind.LOG, Kind.CODE, Kind.TABLE]),
        (log + trace, [Kind.LOG]),
        (trace + log, [Kind.CODE]),
        (f"{log}\nThis is one line of prose.\n\n{code}", [Kind.CODE]),
    ):
        parsed = parse("openai_chat", body_of(result=given), ParseOptions())
        spans = parsed.document.blocks[-1].spans
        assert [span.kind for span in spans if span.protected] == kinds
        assert all(span.detachable for span in spans if span.protected)
