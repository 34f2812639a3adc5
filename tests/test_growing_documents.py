"""Law 3 where documents move, leave and are cut: what was sent once is sent again, byte for byte.

Every turn brings new documents and a question of its own.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import BaseModel, ConfigDict

from ctxpress.assembly import create_compressor
from ctxpress.cache.key import Namespace
from ctxpress.cache.store import Store, create_store
from ctxpress.compressor import RequestCompressor, RequestPolicy
from ctxpress.config import Config
from ctxpress.document import ContextDocument
from ctxpress.hookspecs import hookimpl
from ctxpress.manager import create_plugin_manager
from ctxpress.report import Report
from ctxpress.stage import Skip, StageContext, StageTraits
from tests.conversations import forwarded_blocks
from tests.documents import QUESTION, Retrieved, retrieved_for
from tests.redis_server import RedisServer

TENANT = Namespace.derive(b"secret", "acme")
POLICY = RequestPolicy(namespace=TENANT, pipeline="rag", mode="on")
RESTRUCTURE = {"use": "restructure", "keep_ratio": 0.3, "scorer": "bm25"}
REORDER = {"use": "reorder", "min_documents": 2, "scores": "computed", "scorer": "bm25"}
MOVING = [REORDER, {**RESTRUCTURE, "order": "request"}]
TURNS = 6
BREAKPOINT = {"cache_control": {"type": "ephemeral"}}


# --- conversations ------------------------------------------------------------------------------


def tagged(found: Sequence[Retrieved]) -> str:
    return "\n".join(
        f'<document index="{n}">\n{one.text}\n</document>' for n, one in enumerate(found, start=1)
    )


def numbered(found: Sequence[Retrieved]) -> str:
    return "\n\n".join(f"[{n}] {one.text}" for n, one in enumerate(found, start=1))


def search_results(found: Sequence[Retrieved]) -> list[dict[str, Any]]:
    return [
        {
            "type": "search_result",
            "source": f"https://example.org/{n}",
            "title": one.title,
            "content": [{"type": "text", "text": part} for part in one.paragraphs.split("\n\n")],
        }
        for n, one in enumerate(found)
    ]


def plain_documents(found: Sequence[Retrieved]) -> list[dict[str, Any]]:
    return [
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": d.text}}
        for d in found
    ]


def question(turn: int) -> str:
    return QUESTION.replace("tall", f"tall, says report {turn},")


def openai_turn(printed: Callable[[Sequence[Retrieved]], str], turn: int) -> list[dict[str, Any]]:
    """Documents beside the question, and others that a tool found."""
    call = {
        "id": f"call_{turn}",
        "type": "function",
        "function": {"name": "search", "arguments": "{}"},
    }
    asked = f"Answer from these.\n\n{printed(retrieved_for(turn))}\n\nQuestion: {question(turn)}"
    found = f"Found:\n{printed(retrieved_for(100 + turn))}"
    return [
        {"role": "user", "content": asked},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": f"call_{turn}", "content": found},
        {"role": "assistant", "content": f"Answer {turn}."},
    ]


def anthropic_turn(
    parts: Callable[[Sequence[Retrieved]], list[dict[str, Any]]], turn: int
) -> list[dict[str, Any]]:
    call = f"toolu_{turn}"
    use = {"type": "tool_use", "id": call, "name": "search", "input": {}}
    found = parts(retrieved_for(100 + turn))
    asked = {"type": "text", "text": question(turn)}
    return [
        {"role": "user", "content": [*parts(retrieved_for(turn)), asked]},
        {"role": "assistant", "content": [use]},
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": call, "content": found}],
        },
        {"role": "assistant", "content": f"Answer {turn}."},
    ]


SHAPES: dict[str, tuple[str, Callable[[int], list[dict[str, Any]]]]] = {
    "tagged": ("openai_chat", lambda turn: openai_turn(tagged, turn)),
    "numbered": ("openai_chat", lambda turn: openai_turn(numbered, turn)),
    "search results": ("anthropic_messages", lambda turn: anthropic_turn(search_results, turn)),
    "documents": ("anthropic_messages", lambda turn: anthropic_turn(plain_documents, turn)),
}


def requests_of(shape: str, turns: int = TURNS) -> list[dict[str, Any]]:
    """Two requests a turn, before and after the tool's result; the messages stand last."""
    messages: list[dict[str, Any]] = []
    bodies = []
    for turn in range(turns):
        new = SHAPES[shape][1](turn)
        for sent in (new[:1], new[:3]):
            bodies.append({"model": "m", "max_tokens": 9, "messages": [*messages, *sent]})
        messages += new
    return copy.deepcopy(bodies)


def prefix_of(body: bytes) -> bytes:
    """The bytes that a longer conversation must begin with."""
    assert body.endswith(b"]}")
    return body[:-2]


def is_rewritten(before: dict[str, Any], body: bytes) -> bool:
    """Whether the newest message went in another form."""
    return bool(orjson.loads(body)["messages"][-1] != before["messages"][-1])


# --- replicas -----------------------------------------------------------------------------------


def patient_store(url: str) -> Store:
    """On a busy machine a store that is asked to be quick may be away, and that is another test."""
    return create_store(url, timeout_ms=30_000)


def configuration(stages: list[dict[str, Any]], **pipeline: Any) -> Config:
    settings = {"min_tokens": 0, "deadline_ms": 30_000, "stages": stages, **pipeline}
    return Config.model_validate({"version": 1, "pipelines": {"rag": settings}})


class Replica:
    """One process: its own near memory over a store that it may share."""

    def __init__(
        self, store: Store, stages: list[dict[str, Any]], plugins: Sequence[object], **pipeline: Any
    ) -> None:
        self.compressor: RequestCompressor = create_compressor(
            configuration(stages, **pipeline),
            manager=create_plugin_manager(plugins=plugins),
            store=store,
        )

    async def send(self, shape: str, request: dict[str, Any]) -> bytes:
        """The bytes that go upstream."""
        return (await self.reported(shape, request))[0]

    async def reported(self, shape: str, request: dict[str, Any]) -> tuple[bytes, Report]:
        raw = orjson.dumps(request)
        result = await self.compressor.compress_body(SHAPES[shape][0], raw, POLICY)
        return result.body, result.report


@pytest.fixture
async def replica() -> AsyncIterator[Callable[..., Replica]]:
    made: list[Replica] = []

    def make(
        store: Store,
        stages: list[dict[str, Any]] = MOVING,
        *,
        plugins: Sequence[object] = (),
        **pipeline: Any,
    ) -> Replica:
        made.append(Replica(store, stages, plugins, **pipeline))
        return made[-1]

    yield make
    for one in made:
        await one.compressor.aclose()


# --- growing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("stages", [[RESTRUCTURE], [REORDER], MOVING], ids=["cut", "move", "both"])
@pytest.mark.parametrize("shape", SHAPES)
async def test_the_forwarded_bytes_only_grow(
    shape: str, stages: list[dict[str, Any]], tmp_path: Path, replica: Callable[..., Replica]
) -> None:
    """Through restarts over a disk store, and a change of the configuration on the way."""
    sent = b""
    rewritten = []
    requests = requests_of(shape)
    one = None
    for number, request in enumerate(requests):
        if number % 3 == 0:
            late = number >= len(requests) // 2
            changed = [{**s, "keep_ratio": 0.5} if "keep_ratio" in s else s for s in stages]
            if one is not None:
                await one.compressor.aclose()
            one = replica(patient_store(f"disk://{tmp_path}"), changed if late else stages)
        assert one is not None
        body = await one.send(shape, request)
        assert body.startswith(sent)
        if is_rewritten(request, body):
            rewritten.append(number)
        sent = prefix_of(body)
    assert rewritten == list(range(2 * TURNS))


@pytest.mark.parametrize("shape", SHAPES)
async def test_replicas_over_one_redis_forward_the_same_bytes(
    shape: str, redis_server: RedisServer, replica: Callable[..., Replica]
) -> None:
    """Two with different pipelines take turns; what one sends the other sends again."""
    pair = [replica(patient_store(redis_server.url), stages) for stages in (MOVING, [RESTRUCTURE])]
    sent = b""
    for number, request in enumerate(requests_of(shape, 5)):
        bodies = [await pair[(number + n) % 2].send(shape, request) for n in range(2)]
        assert bodies[0] == bodies[1]
        assert bodies[0].startswith(sent)
        assert is_rewritten(request, bodies[0])
        sent = prefix_of(bodies[0])


@pytest.mark.parametrize("shape", SHAPES)
async def test_rivals_that_race_agree_on_every_byte(
    shape: str, redis_server: RedisServer, replica: Callable[..., Replica]
) -> None:
    """They may have to fall back where their arrangements contradict each other, but together."""
    other = [{**RESTRUCTURE, "keep_ratio": 0.6}, {"use": "reorder", "scores": "computed",
             "scorer": "bm25", "min_documents": 3}]  # fmt: skip
    pair = [replica(patient_store(redis_server.url), stages) for stages in (MOVING, other)]
    sent = b""
    for request in requests_of(shape, 5):
        bodies = await asyncio.gather(*(one.send(shape, request) for one in pair))
        assert bodies[0] == bodies[1]
        assert bodies[0].startswith(sent)
        sent = prefix_of(bodies[0])


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_lost_store_leaves_earlier_documents_as_they_came_and_is_counted(
    shape: str, replica: Callable[..., Replica]
) -> None:
    requests = requests_of(shape, 3)
    one = replica(create_store("memory://"))
    for request in requests[:4]:
        assert is_rewritten(request, await one.send(shape, request))
    two = replica(create_store("memory://"))
    body, report = await two.reported(shape, requests[4])
    earlier = len(requests[3]["messages"])
    messages = orjson.loads(body)["messages"]
    assert messages[:earlier] == requests[4]["messages"][:earlier]
    assert is_rewritten(requests[4], body), "the newest turn is decided as ever"
    assert report.cache_risk_blocks > 0
    assert (await two.send(shape, requests[5])).startswith(prefix_of(body))


# --- rivals of which each holds some of the blocks ----------------------------------------------


class TornStore:
    """A shared store to which, before the first that would be ours, a rival's outcomes come.

    ``taken`` says which of them; the others did not reach it.
    """

    def __init__(self, rivals: dict[str, bytes], taken: Callable[[int], bool]) -> None:
        self._inner = create_store("memory://")
        self._rivals = rivals
        self._taken = taken

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def set_many_if_absent(self, items: Any, *, ttl_s: float) -> Any:
        shared = [key for key, _ in items if key in self._rivals]
        early = [(key, self._rivals[key]) for n, key in enumerate(shared) if self._taken(n)]
        if early:
            await self._inner.set_many_if_absent(early, ttl_s=ttl_s)
        return await self._inner.set_many_if_absent(items, ttl_s=ttl_s)


class RecordingStore:
    """Remembers what was set if absent."""

    def __init__(self) -> None:
        self._inner = create_store("memory://")
        self.items: dict[str, bytes] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def set_many_if_absent(self, items: Any, *, ttl_s: float) -> Any:
        self.items.update(items)
        return await self._inner.set_many_if_absent(items, ttl_s=ttl_s)


@pytest.mark.parametrize("shape", ["search results", "documents"])
@pytest.mark.parametrize(
    "taken",
    [lambda n: n % 2 == 0, lambda n: n % 2 == 1, lambda n: n < 3, lambda n: n == 0, lambda n: True],
    ids=["even", "odd", "first", "one", "all"],
)
async def test_outcomes_adopted_for_some_of_the_blocks(
    shape: str, taken: Callable[[int], bool], replica: Callable[..., Replica]
) -> None:
    requests = requests_of(shape, 2)
    recorded: Any = RecordingStore()
    await replica(recorded, [RESTRUCTURE]).send(shape, requests[0])
    torn: Any = TornStore(recorded.items, taken)
    first = await replica(torn).send(shape, requests[0])
    content = orjson.loads(first)["messages"][0]["content"]
    assert content[-1] == requests[0]["messages"][0]["content"][-1]
    assert len(content) > 1, "something of the documents is left"
    # Whoever comes later, and whatever its own pipeline, says the same.
    for stages in (MOVING, [RESTRUCTURE], [REORDER]):
        later = replica(torn, stages)
        assert await later.send(shape, requests[0]) == first
        sent = prefix_of(first)
        for request in requests[1:]:
            body = await later.send(shape, request)
            assert body.startswith(sent)
            sent = prefix_of(body)


async def test_arrangements_that_contradict_each_other_are_given_up_by_all(
    replica: Callable[..., Replica],
) -> None:
    shape = "search results"
    request = requests_of(shape, 1)[0]
    recorded: Any = RecordingStore()
    moved = await replica(recorded, [REORDER]).send(shape, request)
    order = [part.get("source") for part in orjson.loads(moved)["messages"][0]["content"]]
    given = [part.get("source") for part in request["messages"][0]["content"]]
    assert order != given
    # Two texts an element: of the first element that moved, a rival keeps one part where it was.
    torn: Any = TornStore(recorded.items, lambda n: n == 1)
    in_place = await replica(torn, [{**RESTRUCTURE, "order": "request"}]).send(shape, request)
    now = [part.get("source") for part in orjson.loads(in_place)["messages"][0]["content"]]
    assert now == given
    assert await replica(torn, [REORDER]).send(shape, request) == in_place


# --- cache breakpoints --------------------------------------------------------------------------


def content_of(body: bytes | dict[str, Any], message: int = 0) -> list[dict[str, Any]]:
    parsed = orjson.loads(body) if isinstance(body, bytes) else body
    content: list[dict[str, Any]] = parsed["messages"][message]["content"]
    return content


def bare(parts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in part.items() if k != "cache_control"} for part in parts]


@pytest.mark.parametrize("marked", range(5))
async def test_a_document_with_a_breakpoint_stays_and_so_does_all_before_it(
    marked: int, replica: Callable[..., Replica]
) -> None:
    shape = "search results"
    (request, _) = requests_of(shape, 1)
    given = content_of(request)
    given[marked].update(BREAKPOINT)
    content = content_of(await replica(create_store("memory://")).send(shape, request))
    assert content[: marked + 1] == given[: marked + 1]
    assert content[-1] == given[-1]
    left = [part["source"] for part in content[marked + 1 : -1]]
    assert set(left) <= {part["source"] for part in given[marked + 1 : -1]}
    if marked < 2:  # the one that answers stands behind, and goes to the front of what is free
        assert left[0] == given[2]["source"]
        assert len(left) < 4 - marked


class DropBees:
    """A plugin whose stage, whatever the question, drops every document about bees."""

    identity = "drop-bees:1"
    traits = StageTraits(scope="turn", arranges=True)

    @hookimpl
    def register_stages(self, register: Any) -> None:
        register("drop_bees", lambda config, resources: self, NoOptions)

    async def apply(self, document: ContextDocument, context: StageContext) -> ContextDocument:
        return document.with_blocks(
            tuple(
                block.without_text() if block.element and "hive" in block.original else block
                for block in document.blocks
            )
        )


class NoOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


@pytest.mark.parametrize("where", ["on it", "behind it", "nowhere"])
async def test_a_stage_that_drops_documents_one_by_one_drops_none_with_a_breakpoint(
    where: str, replica: Callable[..., Replica]
) -> None:
    """A cached prefix ends with it, and a client may only have so many breakpoints."""
    shape = "documents"
    (request, _) = requests_of(shape, 1)
    given = content_of(request)
    if where != "nowhere":
        given[3 if where == "on it" else 4].update(BREAKPOINT)
    one = replica(create_store("memory://"), [{"use": "drop_bees"}], plugins=[DropBees()])
    left = content_of(await one.send(shape, request))
    assert left == (given if where == "on it" else [*given[:3], *given[4:]])


async def test_what_stands_in_one_piece_with_a_breakpoint_stays(
    replica: Callable[..., Replica],
) -> None:
    """On a part of a document, and on the tool result that documents stand in."""
    shape = "search results"
    (_, request) = requests_of(shape, 1)
    content_of(request)[4]["content"][0].update(BREAKPOINT)
    content_of(request, 2)[0].update(BREAKPOINT)
    body = await replica(create_store("memory://")).send(shape, request)
    assert orjson.loads(body) == request


@pytest.mark.parametrize("where", ["each document", "dropped", "result", "request", "question"])
@pytest.mark.parametrize("shape", ["search results", "documents"])
async def test_breakpoints_that_come_later_change_nothing_of_what_was_sent(
    shape: str, where: str, replica: Callable[..., Replica]
) -> None:
    """Clients put breakpoints on earlier messages once they are earlier, and take them off."""
    store = create_store("memory://")
    one = replica(store)
    requests = requests_of(shape, 3)
    sent: list[Any] = []
    for number, request in enumerate(requests):
        if number:
            place = number % 5
            if where == "each document":
                content_of(request)[place].update(BREAKPOINT)
            elif where == "dropped":  # what does not help with the question
                content_of(request)[3].update(BREAKPOINT)
            elif where == "result" and number > 1:
                content_of(request, 2)[0].update(BREAKPOINT)
            elif where == "question":
                content_of(request)[-1].update(BREAKPOINT)
            elif where == "request":
                request.update(BREAKPOINT)
        now = forwarded_blocks(orjson.loads(await one.send(shape, request)))
        assert now[: len(sent)] == sent
        sent = now
        # Another replica, which has nothing but the store.
        other = forwarded_blocks(orjson.loads(await replica(store).send(shape, request)))
        assert other == now
    assert len(content_of(requests[0])) > 1
    assert sent[0] != forwarded_blocks(requests[-1])[0], "it was moved to begin with"


@pytest.mark.parametrize("shape", ["search results", "documents"])
async def test_a_tool_that_is_told_to_be_a_reader_later_changes_nothing(
    shape: str, replica: Callable[..., Replica]
) -> None:
    store = create_store("memory://")
    requests = requests_of(shape, 3)
    first = replica(store)
    sent = b""
    for request in requests[:3]:
        body = await first.send(shape, request)
        sent = prefix_of(body)
    second = replica(store, MOVING, protect={"read_tools": ["search"]})
    body = await second.send(shape, requests[3])
    assert body.startswith(sent)
    assert not is_rewritten(requests[3], body), "what it reads from now on is protected"


async def test_documents_many_conversations_share_are_not_moved_for_one_question(
    replica: Callable[..., Replica],
) -> None:
    """A long prefix that was sent with another continuation stays what the cache holds."""
    shape = "search results"
    parts = search_results([one for turn in range(8) for one in retrieved_for(turn)])
    asked = [{"type": "text", "text": question(turn)} for turn in (1, 2)]
    bodies = [{"messages": [{"role": "user", "content": [*parts, text]}]} for text in asked]
    one = replica(create_store("memory://"))
    first, second = [content_of(await one.send(shape, body)) for body in bodies]
    assert first[0]["title"] != parts[0]["title"]
    assert len(first) < len(parts)
    # What caches keep begins with the first thousand tokens; half of these parts have more.
    behind = parts[len(parts) // 2 :]
    assert second[-1 - len(behind) :] == [*behind, asked[1]]


async def test_a_deadline_is_remembered_for_documents_as_for_anything(
    replica: Callable[..., Replica],
) -> None:
    shape = "search results"
    store = create_store("memory://")
    requests = requests_of(shape, 2)
    hurried, report = await replica(store, deadline_ms=0.001).reported(shape, requests[0])
    assert orjson.loads(hurried) == requests[0]
    assert report.stages[0].skipped is Skip.DEADLINE
    assert (await replica(store).send(shape, requests[1])).startswith(prefix_of(hurried))
