"""What every adapter promises, on each of them, called with and without a running loop."""

from __future__ import annotations

import asyncio
import copy
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ctxpress
from ctxpress.errors import ConfigError, StageError
from ctxpress.integrations.options import CompressionOptions
from ctxpress.integrations.retrieved import Retrieved, RetrievedCompressor
from ctxpress.results import CompressedDocuments
from tests.conversations import prose
from tests.integrations.drivers import DRIVERS, Driver, Item
from tests.integrations.stages import DROP_WORD, hold

HALF = [{"use": "token_classification", "keep_ratio": 0.5}]
QUESTION = "When is the offer valid?"
ITEMS = [Item(prose(name, 12), id=name, score=0.9 - 0.1 * n) for n, name in enumerate("abc")]
SENTENCES = [
    Item("Coral reefs need warm water. They are old.", id="reef", score=0.2),
    Item("This one is irrelevant. Nobody asked.", id="noise", score=None),
    Item("The tower is 330 metres tall. It is made of iron.", id="tower", score=0.8),
]


@pytest.fixture(params=sorted(DRIVERS))
def driver(request: pytest.FixtureRequest) -> type[Driver]:
    return DRIVERS[request.param]


@pytest.fixture(params=["sync", "async"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def text_of(ranges: list[list[int]], text: str) -> str:
    return "".join(text[start:end] for start, end in ranges)


def test_documents_are_shortened_and_all_else_survives(driver: type[Driver], mode: str) -> None:
    found = driver(stages=HALF).call(mode, QUESTION, ITEMS)
    pipeline = ctxpress.Pipeline.from_stages(*HALF)
    expected = asyncio.run(pipeline.compress_documents(QUESTION, [i.text for i in ITEMS]))
    assert [one.text for one in found] == [one.text for one in expected.documents]
    for number, (one, item) in enumerate(zip(found, ITEMS, strict=True)):
        assert len(one.text) < len(item.text)
        assert (one.id, one.score) == (item.id, item.score)
        assert {**item.metadata, "ctxpress": one.origin} == one.metadata
        assert (one.origin["source"], one.origin["index"]) == (item.id, number)
        assert text_of(one.origin["kept"], item.text) == one.text
        assert json.loads(json.dumps(one.origin)) == one.origin


def test_what_was_given_stays_as_it_was(driver: type[Driver]) -> None:
    made = driver(stages=HALF)
    documents = made.given(ITEMS)
    before = copy.deepcopy(documents)
    found = made.run(QUESTION, documents)
    assert documents == before
    found[0].metadata["ctxpress"]["kept"].clear()
    assert documents == before


def test_order_and_drops_are_the_stages(driver: type[Driver], mode: str) -> None:
    found = driver(pipeline=hold("backwards")).call(mode, None, SENTENCES)
    assert [(one.id, one.text) for one in found] == [
        (item.id, item.text) for item in (SENTENCES[2], SENTENCES[0])
    ]
    assert [one.origin["index"] for one in found] == [2, 0]


def test_a_question_reaches_the_stages_that_need_one(driver: type[Driver], mode: str) -> None:
    made = driver(pipeline=hold("first_sentence"))
    found = made.call(mode, "How high is the tower?", SENTENCES)
    assert [(one.id, one.text) for one in found] == [("tower", "The tower is 330 metres tall.")]
    assert found[0].origin == {"source": "tower", "index": 2, "kept": [[0, 29]]}
    found = made.call(mode, "Where is the reefs?", SENTENCES)
    assert [one.id for one in found] == ["reef"]
    assert made.call(mode, "Where is the moon?", SENTENCES) == []


@pytest.mark.parametrize("question", [None, "", "  \n"])
def test_a_missing_question_is_named_where_one_is_needed(
    driver: type[Driver], mode: str, question: str | None
) -> None:
    made = driver(pipeline=hold("backwards", "first_sentence"))
    with pytest.raises(ConfigError, match="first_sentence cannot work without a question: give "):
        made.call(mode, question, SENTENCES)
    found = driver(stages=HALF).call(mode, question, ITEMS)
    assert len(found) == len(ITEMS)


def test_nothing_in_nothing_out(driver: type[Driver], mode: str) -> None:
    calls: list[CompressedDocuments] = []
    made = driver(pipeline=hold("first_sentence"), on_report=calls.append)
    assert made.call(mode, None, []) == []
    assert calls == []


def test_documents_without_text_keep_their_places(driver: type[Driver], mode: str) -> None:
    blanks = [Item("", id="image"), Item(" \n", id="blank")]
    items = [blanks[0], SENTENCES[0], SENTENCES[1], blanks[1], SENTENCES[2]]
    found = driver(pipeline=hold("backwards")).call(mode, None, items)
    assert [one.id for one in found] == ["image", "tower", "reef", "blank"]
    assert [one.text for one in found if one.id in ("image", "blank")] == ["", " \n"]
    assert [one.origin["kept"] for one in found if one.id in ("image", "blank")] == [[], [[0, 2]]]


def test_equal_ids_do_not_mix_documents_up(driver: type[Driver], mode: str) -> None:
    items = [Item(item.text, id="same") for item in (*SENTENCES, *SENTENCES[:1])]
    found = driver(pipeline=hold("backwards")).call(mode, None, items)
    assert [one.text for one in found] == [items[n].text for n in (3, 2, 0)]
    assert [one.origin["index"] for one in found] == [3, 2, 0]


def test_the_report_says_what_was_dropped_and_why(driver: type[Driver], mode: str) -> None:
    calls: list[tuple[CompressedDocuments, int]] = []
    made = driver(
        pipeline=hold("backwards"),
        on_report=lambda result: calls.append((result, threading.get_ident())),
    )
    made.call(mode, None, SENTENCES)
    ((result, thread),) = calls
    assert [one.dropped for one in result.documents] == [None, "backwards: beside the point", None]
    assert result.report.tokens_after < result.report.tokens_before
    assert thread == threading.get_ident()


def test_half_is_kept_unless_somebody_says_otherwise(driver: type[Driver]) -> None:
    def shares(**options: Any) -> tuple[int, int]:
        calls: list[CompressedDocuments] = []
        driver(on_report=calls.append, **options).call("sync", None, ITEMS)
        return calls[0].tokens_before, calls[0].tokens_after

    before, after = shares()
    assert 0.4 * before <= after <= 0.55 * before
    before, after = shares(keep_ratio=0.25)
    assert 0.15 * before <= after <= 0.3 * before
    before, after = shares(stages=HALF, keep_ratio=0.25)
    assert 0.15 * before <= after <= 0.3 * before
    before, after = shares(stages=HALF, budget_tokens=100, model="gpt-4o")
    assert 60 <= after <= 100
    assert shares(keep_ratio=1.0)[0] == shares(keep_ratio=1.0)[1]


def test_a_pipeline_of_a_file_is_used(driver: type[Driver], tmp_path: Path) -> None:
    path = tmp_path / "ctxpress.yaml"
    path.write_text(
        "version: 1\nstore: memory://\npipelines:\n  rag:\n"
        "    min_tokens: 0\n    deadline_ms: 60000\n    stages:\n"
        "      - {use: token_classification, keep_ratio: 0.3}\n"
    )
    for config in (path, str(path)):
        found = driver(pipeline="rag", config=config).call("sync", None, ITEMS)
        expected = ctxpress.compress_documents(None, [i.text for i in ITEMS], keep_ratio=0.3)
        assert [one.text for one in found] == [one.text for one in expected.documents]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep_ratio": 0}, "keep_ratio: Input should be greater than 0"),
        ({"keep_ratio": 1.5}, "keep_ratio: Input should be less than or equal to 1"),
        ({"keep_ratio": True}, "keep_ratio: "),
        ({"keep_ratio": "0.5"}, "keep_ratio: "),
        ({"budget_tokens": 0}, "budget_tokens: "),
        ({"keep_ratio": 0.5, "budget_tokens": 9}, "not both"),
        ({"pipeline": "balanced", "stages": HALF}, "not both"),
        ({"config": "ctxpress.yaml"}, "name the pipeline"),
        ({"stages": "token_classification"}, "stages: "),
        ({"pipeline": 5}, "pipeline: "),
        ({"on_report": "print"}, "on_report: "),
        ({"title_key": None}, "title_key: "),
    ],
    ids=str,
)
def test_wrong_options_are_named(
    driver: type[Driver], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        driver(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pipeline": "balancd"}, "no pipeline is called 'balancd'; did you mean 'balanced'"),
        ({"stages": [{"use": "token_clasification"}]}, "did you mean 'token_classification'"),
        ({"stages": [{"keep_ratio": 0.5}]}, r"stages\[0\]"),
        ({"pipeline": "rag", "config": "nowhere/ctxpress.yaml"}, "nowhere/ctxpress.yaml"),
    ],
    ids=str,
)
def test_what_a_pipeline_cannot_be_made_of_is_named(
    driver: type[Driver], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        driver(**options).call("sync", None, ITEMS)


def test_a_strict_pipeline_fails_with_an_error_of_ours(driver: type[Driver], mode: str) -> None:
    with pytest.raises(StageError, match="broken"):
        driver(pipeline=hold("broken", strict=True)).call(mode, None, ITEMS)
    found = driver(pipeline=hold("broken")).call(mode, None, ITEMS)
    assert [one.text for one in found] == [item.text for item in ITEMS]


async def test_asynchronous_calls_stay_on_the_loop(
    driver: type[Driver], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_other_loop(work: Any) -> None:
        work.close()
        raise AssertionError("work was sent to another loop")

    threads: list[int] = []
    made = driver(stages=HALF, on_report=lambda _: threads.append(threading.get_ident()))
    monkeypatch.setattr("ctxpress.integrations.retrieved.wait", no_other_loop)
    assert len(await made.arun(QUESTION, made.given(ITEMS))) == len(ITEMS)
    assert threads == [threading.get_ident()]


async def test_a_synchronous_call_works_inside_a_running_loop(driver: type[Driver]) -> None:
    made = driver(stages=HALF)
    inside = made.run(QUESTION, made.given(ITEMS))
    assert inside == await made.arun(QUESTION, made.given(ITEMS))


def test_one_adapter_serves_many_loops_and_threads(driver: type[Driver]) -> None:
    made = driver(stages=HALF)
    lists = [[Item(prose(f"{a}{b}", 8), id=f"{a}{b}") for b in range(3)] for a in range(4)]
    alone = [driver(stages=HALF).call("sync", QUESTION, items) for items in lists]

    def call(number: int) -> list[Item]:
        return made.call(("sync", "async")[number % 2], QUESTION, lists[number // 2 % 4])

    with ThreadPoolExecutor(max_workers=6) as executor:
        found = list(executor.map(call, range(16)))
    assert found == [alone[n // 2 % 4] for n in range(16)]


def test_two_compressors_in_a_row_map_to_the_first_ones_documents(driver: type[Driver]) -> None:
    first = driver(pipeline=hold("backwards"), keep_ratio=None).call("sync", None, SENTENCES)
    cut = driver(stages=HALF).call("sync", None, ITEMS)
    again = driver(stages=HALF).call("sync", None, [*cut, *first])
    originals = [*ITEMS, SENTENCES[2], SENTENCES[0]]
    assert [one.origin["index"] for one in again] == [0, 1, 2, 2, 0]
    for one, original in zip(again, originals, strict=True):
        assert one.origin["source"] == original.id
        assert text_of(one.origin["kept"], original.text) == one.text
        assert len(one.text) < len(original.text)


def test_hostile_metadata_are_carried_and_nothing_more(driver: type[Driver]) -> None:
    notes: list[Any] = [None, "x", {"kept": "abc"}, {"kept": [[5, 2]]}, {"kept": [[0, 1e9]]},
                        {"kept": [[0, 10**9]]}, {"kept": [["a"]]}, {"kept": [5]}]  # fmt: skip
    items = [Item(SENTENCES[0].text, metadata={"ctxpress": note}) for note in notes]
    found = driver(pipeline=hold("backwards")).call("sync", None, items)
    assert [one.origin["kept"] for one in found] == [[[0, len(SENTENCES[0].text)]]] * len(notes)
    assert [one.origin["index"] for one in found] == list(reversed(range(len(notes))))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
NOTES = JSON | st.fixed_dictionaries(
    {"kept": st.lists(st.lists(st.integers(-2, 60), max_size=3), max_size=4)},
    optional={"source": JSON, "index": JSON},
)
BACKWARDS = RetrievedCompressor(
    CompressionOptions(pipeline=hold("backwards")), question_name="query"
)


@settings(max_examples=150, deadline=None)
@given(NOTES, st.text(max_size=30))
def test_any_note_in_the_metadata_is_answered_with_a_sound_one(note: Any, text: str) -> None:
    given = [Retrieved(text=text, id="x", metadata={"ctxpress": note, "a": 1})]
    (found,) = BACKWARDS.run(None, given)
    assert (found.number, found.text, found.metadata["a"]) == (0, text, 1)
    origin = found.metadata["ctxpress"]
    assert set(origin) == {"source", "index", "kept"}
    assert isinstance(origin["source"], str)
    assert isinstance(origin["index"], int)
    assert sum(end - start for start, end in origin["kept"]) == len(text)
    assert origin["kept"] == sorted(origin["kept"])


def test_the_word_that_drops_is_in_the_samples() -> None:
    assert [DROP_WORD in item.text for item in SENTENCES] == [False, True, False]
