"""A body in, a body out: what is forwarded with compression on, off, bypassed and failing."""

from __future__ import annotations

import asyncio
import hashlib
import time

import orjson
import pytest
from pydantic import BaseModel, ConfigDict

from ctxpress.assembly import create_compressor
from ctxpress.cache.key import Namespace
from ctxpress.compressor import RequestPolicy
from ctxpress.config import Config
from ctxpress.errors import ConfigError, FormatError, StageError
from ctxpress.hookspecs import hookimpl
from ctxpress.manager import create_plugin_manager
from ctxpress.stage import Skip
from tests.conversations import prose
from tests.core.stages import Broken, EveryOtherWord

TENANT = Namespace.derive(b"secret", "acme")
BODY = (
    '{ "model" : "gpt-4o","temperature":1.0e0,\n "messages":[{"role":"user","content":"'
    + prose("b")
    + ' caf\\u00e9 \\/ end.\\n\\nWhat now?"}], "x_unknown":[1,2.50,{}] }'
).encode()


class Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    how: str = "raise"


class Plugin:
    @hookimpl
    def register_stages(self, register):
        register("half", lambda config, resources: EveryOtherWord(), Options)
        register("broken", lambda config, resources: Broken(config.how), Options)


def policy(pipeline="half", **options):
    return RequestPolicy(namespace=TENANT, pipeline=pipeline, **options)


@pytest.fixture
async def compressor():
    pipelines = {
        "half": {"min_tokens": 10, "stages": [{"use": "half"}]},
        "failing": {"min_tokens": 10, "stages": [{"use": "broken"}]},
        "slow": {
            "min_tokens": 10,
            "deadline_ms": 50,
            "stages": [{"use": "broken", "how": "hang"}],
        },
        "strict": {"min_tokens": 10, "strict": True, "stages": [{"use": "broken"}]},
    }
    config = Config.model_validate({"version": 1, "store": "memory://", "pipelines": pipelines})
    made = create_compressor(config, manager=create_plugin_manager(plugins=[Plugin()]))
    yield made
    await made.aclose()


async def test_only_the_text_changes_and_every_other_byte_stays(compressor):
    result = await compressor.compress_body("openai_chat", BODY, policy())
    assert result.report.applied
    assert result.report.tokens_after < result.report.tokens_before
    start, end = BODY.index(b'"content":"') + 11, BODY.index(b'"}], "x_unknown"')
    head, tail = BODY[:start], BODY[end:]
    assert result.body.startswith(head)
    assert result.body.endswith(tail)
    assert orjson.loads(result.body)["messages"][0]["content"].endswith("What now?")


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "off"},
        {"mode": "observe"},
        {"bypass": True},
        {"pipeline": "failing"},
        {"pipeline": "slow"},
        {"pipeline": None},
    ],
    ids=str,
)
async def test_off_observed_bypassed_and_failing_requests_are_byte_identical(compressor, options):
    result = await compressor.compress_body("openai_chat", BODY, policy(**options))
    assert hashlib.sha256(result.body).digest() == hashlib.sha256(BODY).digest()
    assert result.report.skipped is not None or options == {"mode": "observe"}
    assert not (result.report.applied and result.report.tokens_saved)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", Skip.UNPARSEABLE),
        (b"not json", Skip.UNPARSEABLE),
        (b"[1]", Skip.UNSUPPORTED_SHAPE),
        (b"null", Skip.UNSUPPORTED_SHAPE),
        (b'{"messages": 5}', Skip.UNSUPPORTED_SHAPE),
        (b'{"messages":[{"role":"user","content":"\\ud800"}]}', Skip.UNPARSEABLE),
        (b"[" * 100_000, Skip.UNPARSEABLE),
        (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, Skip.UNPARSEABLE),
        (b'{"messages":[]}', Skip.NOTHING_TO_COMPRESS),
        (b'{"messages":[{"role":"user"}]}', Skip.NOTHING_TO_COMPRESS),
        (b'{"messages":[{"role":7,"content":{"a":1}},3,null]}', Skip.NOTHING_TO_COMPRESS),
        (b'\xef\xbb\xbf{"messages":[]}', Skip.UNPARSEABLE),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_what_cannot_be_read_goes_as_it_came(compressor, raw, code):
    result = await compressor.compress_body("openai_chat", raw, policy())
    assert (result.body, result.report.skipped) == (raw, code)
    assert result.report.reason


async def test_our_field_never_goes_upstream_whatever_fails(compressor):
    for options in ({}, {"mode": "off"}, {"bypass": True}, {"pipeline": "failing"}):
        raw = BODY[:-2] + b', "ctxpress": {"question": "Why?"}}'
        result = await compressor.compress_body("openai_chat", raw, policy(**options))
        assert b"ctxpress" not in result.body
        assert orjson.loads(result.body).keys() == orjson.loads(BODY).keys()


async def test_documents_of_our_field_arrive_even_when_every_stage_fails(compressor):
    field = {"documents": [{"id": "a", "title": "Boiler", "text": prose("doc")}]}
    raw = orjson.dumps({**orjson.loads(BODY), "ctxpress": field})
    for options in ({"mode": "off"}, {"pipeline": "failing"}, {"bypass": True}):
        result = await compressor.compress_body("openai_chat", raw, policy(**options))
        assert prose("doc").encode() in result.body


async def test_a_wrong_field_is_the_callers_mistake_and_is_named(compressor):
    for field in ({"documents": 5}, {"keep_ratio": 7}, {"pipelin": "x"}, {"pipeline": "nope"}):
        raw = orjson.dumps({**orjson.loads(BODY), "ctxpress": field})
        with pytest.raises(FormatError) as caught:
            await compressor.compress_body("openai_chat", raw, policy())
        assert next(iter(field)) in str(caught.value)
        assert caught.value.code is None


async def test_an_unknown_pipeline_is_named_with_the_nearest(compressor):
    with pytest.raises(ConfigError, match="did you mean 'half'"):
        await compressor.compress_body("openai_chat", BODY, policy("halff"))


async def test_strict_pipelines_raise(compressor):
    with pytest.raises(StageError):
        await compressor.compress_body("openai_chat", BODY, policy("strict"))


async def test_the_bodys_own_field_chooses_pipeline_and_bypass(compressor):
    raw = BODY[:-2] + b', "ctxpress": {"bypass": true}}'
    result = await compressor.compress_body("openai_chat", raw, policy())
    assert result.report.skipped is Skip.BYPASS
    raw = BODY.replace(b"What now", b"And now")[:-2] + b', "ctxpress": {"pipeline": "failing"}}'
    result = await compressor.compress_body("openai_chat", raw, policy())
    assert result.report.skipped is Skip.STAGE_FAILED


async def test_messages_keep_length_roles_and_order_and_the_input_is_not_changed(compressor):
    messages = [
        {"role": "system", "content": "You are a clerk."},
        {"role": "user", "content": prose("m") + "\n\nWhat now?"},
    ]
    copy = orjson.loads(orjson.dumps(messages))
    result = await compressor.compress_messages(messages, "gpt-4o", policy())
    assert messages == copy
    assert [m["role"] for m in result.messages] == ["system", "user"]
    assert len(result.messages[1]["content"]) < len(messages[1]["content"])


async def test_a_report_says_what_would_change_it(compressor):
    system = orjson.dumps(
        {"messages": [{"role": "system", "content": prose("s")}, {"role": "user", "content": "Hi"}]}
    )
    result = await compressor.compress_body("openai_chat", system, policy())
    assert result.report.skipped is Skip.PROTECTED
    assert "set system: compress" in result.report.reason
    short = orjson.dumps({"messages": [{"role": "user", "content": "Hi there"}]})
    result = await compressor.compress_body("openai_chat", short, policy())
    assert result.report.reason.startswith("0 % saved: ")


async def test_another_question_in_our_field_is_another_request(compressor):
    def asking(question):
        return BODY[:-2] + orjson.dumps({"question": question}).join([b', "ctxpress": ', b"}"])

    first = await compressor.compress_body("openai_chat", asking("Why?"), policy())
    again = await compressor.compress_body("openai_chat", asking("Why?"), policy())
    other = await compressor.compress_body("openai_chat", asking("Who?"), policy())
    assert again.report.blocks_remembered == 1
    assert (first.report.blocks_remembered, other.report.blocks_remembered) == (0, 0)


async def test_context_in_a_message_of_its_own_before_the_question_is_said_to_be_an_earlier_turn(
    compressor,
):
    messages = [{"role": "user", "content": prose("ctx")}, {"role": "user", "content": "Why?"}]
    raw = orjson.dumps({"messages": messages})
    result = await compressor.compress_body("openai_chat", raw, policy())
    assert (result.body, result.report.skipped) == (raw, Skip.EARLIER_TURN)
    assert "newest message" in result.report.reason


async def test_a_burst_is_served_in_order_and_not_all_too_late():
    """Requests that wait for one another: those that are done in time count, though others wait."""
    config = Config.model_validate(
        {
            "version": 1,
            "store": "memory://",
            "pipelines": {"p": {"min_tokens": 10, "deadline_ms": 600, "stages": [{"use": "busy"}]}},
        }
    )

    class Busy(EveryOtherWord):
        identity = "busy:1"

        async def apply(self, document, context):
            await context.run(lambda: time.sleep(0.1))
            return await super().apply(document, context)

    class BusyPlugin:
        @hookimpl
        def register_stages(self, register):
            register("busy", lambda config, resources: Busy(), Options)

    made = create_compressor(config, manager=create_plugin_manager(plugins=[BusyPlugin()]))
    bodies = [
        orjson.dumps({"messages": [{"role": "user", "content": f"{i} {prose(str(i))}\n\nWhy?"}]})
        for i in range(60)
    ]
    results = await asyncio.gather(
        *(made.compress_body("openai_chat", body, policy("p")) for body in bodies)
    )
    await made.aclose()
    assert sum(result.report.skipped is None for result in results) >= 4
