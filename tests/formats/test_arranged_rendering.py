"""Arranged documents rendered: whole elements move and leave, not a byte of them changes."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxpress.document import Block, ContextDocument, Range
from ctxpress.elements import Arrangement, arrangements, consistent
from ctxpress.formats import ParseOptions, parse, parse_messages, render, render_messages
from ctxpress.formats.json_edit import ArrangeElements, apply_edits, rearranged
from tests.formats.spelling import json_values, spell, texts

OPTIONS = ParseOptions()
SOME_TEXT = texts.filter(lambda text: bool(text.strip()))


def text_part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def search_result(content: list[str], more: dict[str, Any]) -> dict[str, Any]:
    parts = [text_part(text) for text in content]
    return {"type": "search_result", "source": "s", "title": "T", **more, "content": parts}


def document(source: dict[str, Any]) -> dict[str, Any]:
    return {"type": "document", "source": source}


EXTRA = st.dictionaries(
    texts.filter(lambda key: key not in ("type", "source", "title", "content", "citations")),
    json_values,
    max_size=2,
)
FIXED = st.one_of(
    SOME_TEXT.map(text_part),
    st.just({"type": "image", "source": {"type": "url", "url": "https://e.org/[],{}\\"}}),
    st.just(search_result(["cited"], {"citations": {"enabled": True}})),
    st.just(document({"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="})),
)
MOVABLE = st.one_of(
    st.builds(search_result, st.lists(SOME_TEXT, min_size=1, max_size=3), EXTRA),
    SOME_TEXT.map(
        lambda text: document({"type": "text", "media_type": "text/plain", "data": text})
    ),
    SOME_TEXT.map(lambda text: document({"type": "content", "content": [text_part(text)]})),
    SOME_TEXT.map(lambda text: document({"type": "content", "content": text})),
)
PARTS = st.lists(FIXED | MOVABLE, min_size=1, max_size=6)
BLANKS = st.sampled_from(["", " ", "\n\t", "\r\n  "])


@dataclasses.dataclass
class Array:
    """A JSON array as it is spelt: its elements, and what stands between them."""

    pointer: str
    elements: list[str]
    first: str
    between: list[str]
    last: str

    def spelt(self, elements: Sequence[str]) -> str:
        parts = [self.first]
        for place, element in enumerate(elements):
            parts += [self.between[place - 1]] if place else []
            parts.append(element)
        return "[" + "".join([*parts, self.last]) + "]"

    def chosen(self, found: Arrangement | None, elements: list[str]) -> list[str]:
        """What must be there: written apart from the code under test."""
        if found is None:
            return elements
        taken = dict(found.placed)
        gone = set(found.movable) - set(taken)
        return [elements[taken.get(n, n)] for n in range(len(elements)) if n not in gone]


@st.composite
def arrays(draw: st.DrawFn, pointer: str, parts: list[Any]) -> Array:
    rng = random.Random(draw(st.integers(0, 999)))
    return Array(
        pointer,
        [spell(part, rng) for part in parts],
        draw(BLANKS),
        [f"{draw(BLANKS)},{draw(BLANKS)}" for _ in parts],
        draw(BLANKS),
    )


@dataclasses.dataclass
class Body:
    """Messages with an array of parts each; the first part of one may hold an array of its own."""

    outer: list[Array]
    inner: dict[int, Array]

    def spelt(self, found: Mapping[str, Arrangement]) -> bytes:
        messages = []
        for number, array in enumerate(self.outer):
            elements = list(array.elements)
            nested = self.inner.get(number)
            if nested is not None:
                inside = nested.chosen(found.get(nested.pointer), nested.elements)
                elements[0] = (
                    '{"type": "tool_result","tool_use_id":"t" ,\n"content" :'
                    + nested.spelt(inside)
                    + ', "z": 1.50}'
                )
            chosen = array.chosen(found.get(array.pointer), elements)
            messages.append('{"content" : ' + array.spelt(chosen) + ' ,"role":"user"}')
        return ('{ "messages":[' + ", ".join(messages) + '],\n"max_tokens" :1E2}').encode()


@st.composite
def bodies(draw: st.DrawFn) -> Body:
    outer, inner = [], {}
    for number in range(draw(st.integers(1, 3))):
        pointer = f"/messages/{number}/content"
        parts = draw(PARTS)
        if draw(st.booleans()):
            inner[number] = draw(arrays(f"{pointer}/0/content", draw(PARTS)))
            parts = [{}, *parts]  # spelt by Body
        outer.append(draw(arrays(pointer, parts)))
    return Body(outer, inner)


def placed(document: ContextDocument, wanted: Mapping[str, Mapping[int, int]]) -> ContextDocument:
    """``document`` with elements (array, index) at places; the other movable ones leave."""

    def moved(block: Block) -> Block:
        if block.element is None:
            return block
        array, _, index = block.element.rpartition("/")
        place = wanted[array].get(int(index))
        if place is None:
            return block.without_text()
        return dataclasses.replace(block, slot=None if place == int(index) else place)

    return document.with_blocks(tuple(moved(block) for block in document.blocks))


def drawn_places(data: st.DataObject, document: ContextDocument) -> dict[str, dict[int, int]]:
    wanted = {}
    for found in arrangements(document.blocks):
        size = data.draw(st.integers(0, len(found.movable)))
        elements = data.draw(st.permutations(found.movable))[:size]
        places = sorted(data.draw(st.permutations(found.movable))[:size])
        wanted[found.array] = dict(zip(elements, places, strict=True))
    return wanted


@settings(max_examples=200, deadline=None)
@given(bodies(), st.data())
def test_the_chosen_elements_are_there_byte_for_byte_and_nothing_else_changed(
    body: Body, data: st.DataObject
) -> None:
    raw = body.spelt({})
    parsed = parse("anthropic_messages", raw, OPTIONS)
    wanted = drawn_places(data, parsed.document)
    after = placed(parsed.document, wanted)
    found = {one.array: one for one in arrangements(after.blocks)}
    assert not any(one.contradictory for one in found.values())
    assert {array: {e: p for p, e in one.placed} for array, one in found.items()} == wanted
    rendered = render(parsed, after)
    assert rendered == body.spelt(found)
    assert orjson.loads(rendered)["max_tokens"] == 100


@settings(max_examples=100, deadline=None)
@given(bodies(), st.data())
def test_lists_of_messages_are_arranged_as_bodies_are(body: Body, data: st.DataObject) -> None:
    raw = body.spelt({})
    parsed = parse("anthropic_messages", raw, OPTIONS)
    wanted = drawn_places(data, parsed.document)
    messages = orjson.loads(raw)["messages"]
    listed = parse_messages(messages, None, OPTIONS)
    if all(block.element is None for block in listed.document.blocks):
        return  # nothing says whose messages these are
    rendered = render_messages(listed, placed(listed.document, wanted))
    whole = orjson.loads(render(parsed, placed(parsed.document, wanted)))
    assert rendered == whole["messages"]
    assert messages == orjson.loads(raw)["messages"], "the caller's own list stays as it is"


@settings(max_examples=100, deadline=None)
@given(bodies(), st.data())
def test_what_moves_may_be_cut_besides(body: Body, data: st.DataObject) -> None:
    """The element with the shorter text stands where the element was to go."""
    raw = body.spelt({})
    parsed = parse("anthropic_messages", raw, OPTIONS)
    wanted = drawn_places(data, parsed.document)
    after = placed(parsed.document, wanted)
    free = [
        n
        for n, block in enumerate(after.blocks)
        if block.element and not block.dropped and len(block.spans) == 1
        if not block.spans[0].protected
    ]
    if not free:
        return
    number = data.draw(st.sampled_from(free))
    block = after.blocks[number]
    end = data.draw(st.integers(1, len(block.original)))
    if not block.original[:end].strip():
        return
    span = block.spans[0].keep(block.original, (Range(0, end),))
    blocks = list(after.blocks)
    blocks[number] = block.with_spans((span,))
    cut = orjson.loads(render(parsed, after.with_blocks(tuple(blocks))))
    whole = orjson.loads(render(parsed, after))
    pointer = block.pointer.split("/")[1:]
    array, _, index = (block.element or "").rpartition("/")
    inside = pointer[len(array.split("/")) :]
    place = _standing(arrangements(after.blocks), array, int(index), whole)
    value = _at(whole, [*array.split("/")[1:], str(place)])
    assert _at(value, inside) == block.original
    _at(value, inside[:-1])[_key(inside[-1])] = block.original[:end]
    assert cut == whole


def _key(key: str) -> Any:
    return int(key) if key.isdigit() else key


def _at(value: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        value = value[_key(key)]
    return value


def _standing(found: Sequence[Arrangement], array: str, index: int, whole: dict[str, Any]) -> int:
    """The index of an element in the rendered array."""
    (one,) = (one for one in found if one.array == array)
    taken = dict(one.placed)
    gone = set(one.movable) - set(taken)
    size = len(_at(whole, array.split("/")[1:])) + len(gone)
    return [taken.get(n, n) for n in range(size) if n not in gone].index(index)


def test_an_image_stays_between_the_documents_around_it() -> None:
    raw = b'{"a":[ 0, "image", 2,3 ]}'
    edit = ArrangeElements("/a", (0, 2, 3), ((2, 3),))
    assert apply_edits(raw, [edit]) == b'{"a":[ "image", 3 ]}'
    assert rearranged([0, "image", 2, 3], edit.movable, edit.placed) == ["image", 3]


def test_many_arrays_are_arranged_in_one_pass_over_the_body(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ctxpress.formats import rendering

    passes: list[int] = []

    def counted(body: bytes, edits: Sequence[Any]) -> bytes:
        passes.append(len(edits))
        return apply_edits(body, edits)

    monkeypatch.setattr(rendering, "apply_edits", counted)
    results = [search_result([f"text {n}"], {}) for n in range(2)]
    messages = [{"role": "user", "content": results} for _ in range(50)]
    parsed = parse("anthropic_messages", orjson.dumps({"messages": messages}), OPTIONS)
    wanted = {f"/messages/{n}/content": {0: 1, 1: 0} for n in range(50)}
    rendered = orjson.loads(render(parsed, placed(parsed.document, wanted)))
    assert all(one["content"] == results[::-1] for one in rendered["messages"])
    assert passes == [0, 50]


# --- outcomes that contradict each other -----------------------------------------------------


def three_results(*more: dict[str, Any]) -> ContextDocument:
    content = [*(search_result([f"text {n}"], {}) for n in range(3)), *more]
    raw = orjson.dumps({"messages": [{"role": "user", "content": content}]})
    return parse("anthropic_messages", raw, OPTIONS).document


@pytest.mark.parametrize(
    "outcome",
    [
        {0: 1, 1: 1, 2: 0},
        {0: 0, 1: 1, 2: 7},
        {0: 2, 1: 1},
    ],
)
def test_contradictory_places_leave_all_where_they_were(outcome: dict[int, int]) -> None:
    before = three_results(text_part("Why?"))
    blocks = list(placed(before, {"/messages/0/content": outcome}).blocks)
    if len(outcome) == 2:  # an element of which one part leaves and another stays
        blocks[1] = dataclasses.replace(blocks[1], slot=2)
    after = consistent(blocks, before.blocks)
    assert [(b.text, b.slot, b.dropped) for b in after] == [
        (b.text, None, False) for b in before.blocks
    ]


@pytest.mark.parametrize("around", [(), (text_part("Why?"),)])
def test_an_array_that_rivals_emptied_together_gets_its_documents_back(around: Any) -> None:
    before = three_results(*around)
    after = consistent(placed(before, {"/messages/0/content": {}}).blocks, before.blocks)
    left = [block.text for block in after if block.element and not block.dropped]
    assert left == ([] if around else ["text 0", "text 1", "text 2"])
