"""Documents read from a request, moved, cut and dropped, whatever they are made of."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpress.arrangement import Passage, arrange, full_rows, passages_of, through
from ctxpress.document import Block, ContextDocument, Range
from ctxpress.elements import arrangements
from ctxpress.errors import LawError
from ctxpress.formats import ParsedRequest, ParseOptions, parse, render
from ctxpress.formats.rendering import render_list
from ctxpress.laws import check_laws

TEXTS = [
    "Marie Curie was born in Warsaw in 1867. She studied in Paris.",
    "The tower is 330 metres tall. See https://example.org/tower for more.",
    "Coral reefs need warm water. They are found near the coasts.",
    "Bees dance to show where flowers are. <keep>They never sleep.</keep> Or do they?",
]
QUESTION = "How tall is the tower?"


def tagged(texts: list[str]) -> ParsedRequest:
    body = "\n".join(
        f'<document id="{n}">\n{text}\n</document>' for n, text in enumerate(texts, start=1)
    )
    return request(f"Answer from these.\n\n{body}\n\n{QUESTION}")


def numbered(texts: list[str]) -> ParsedRequest:
    body = "\n\n".join(f"[{n}] {text}" for n, text in enumerate(texts, start=1))
    return request(f"{body}\n\nQuestion: {QUESTION}")


def request(content: Any, format: str = "openai_chat") -> ParsedRequest:
    body = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": content}]}
    return parse(format, orjson.dumps(body), ParseOptions())


def search_results(texts: list[str]) -> ParsedRequest:
    parts: list[dict[str, Any]] = [
        {
            "type": "search_result",
            "source": f"s{n}",
            "title": f"T{n}",
            "content": [{"type": "text", "text": text}, {"type": "text", "text": f"more {n}"}],
        }
        for n, text in enumerate(texts)
    ]
    return request([*parts, {"type": "text", "text": QUESTION}], "anthropic_messages")


SHAPES = {"tagged": tagged, "numbered": numbered, "search results": search_results}


def content_of(parsed: ParsedRequest, document: ContextDocument) -> Any:
    return json.loads(render(parsed, document))["messages"][0]["content"]


def lawful(before: ContextDocument, after: ContextDocument) -> ContextDocument:
    check_laws(before, after, extractive=True, arranges=True)
    return after


@pytest.mark.parametrize("shape", SHAPES)
def test_documents_are_found_with_their_own_text(shape: str) -> None:
    passages = passages_of(SHAPES[shape](TEXTS).document)
    assert [p.text.startswith(t) for p, t in zip(passages, TEXTS, strict=True)] == [True] * 4
    assert len({p.row for p in passages}) == 1
    assert [p.pinned for p in passages] == [False, False, False, True]


def test_order_changes_documents_and_nothing_around_them() -> None:
    parsed = tagged(TEXTS)
    after = lawful(
        parsed.document, arrange(parsed.document, passages_of(parsed.document), [2, 0, 3, 1])
    )
    body = "\n".join(f'<document id="{n + 1}">\n{TEXTS[n]}\n</document>' for n in [2, 0, 3, 1])
    assert content_of(parsed, after) == f"Answer from these.\n\n{body}\n\n{QUESTION}"


def test_numbers_stay_with_their_passages() -> None:
    parsed = numbered(TEXTS[:3])
    after = lawful(parsed.document, arrange(parsed.document, passages_of(parsed.document), [2, 0]))
    expected = f"[3] {TEXTS[2]}\n\n[1] {TEXTS[0]}\n\nQuestion: {QUESTION}"
    assert content_of(parsed, after) == expected


def test_elements_move_with_every_byte_of_theirs() -> None:
    parsed = search_results(TEXTS[:3])
    after = lawful(parsed.document, arrange(parsed.document, passages_of(parsed.document), [2, 0]))
    before = json.loads(parsed.body)["messages"][0]["content"]
    assert content_of(parsed, after) == [before[2], before[0], before[3]]
    rendered = render_list(json.loads(parsed.body)["messages"], parsed.document, after)
    assert rendered[0]["content"] == [before[2], before[0], before[3]]
    assert json.loads(parsed.body)["messages"][0]["content"] == before


def test_a_second_stage_sees_the_order_of_the_first() -> None:
    for shape in SHAPES.values():
        parsed = shape(TEXTS[:3])
        first = arrange(parsed.document, passages_of(parsed.document), [2, 0])
        again = passages_of(first)
        assert [p.text[:10] for p in again] == [TEXTS[2][:10], TEXTS[0][:10]]
        second = lawful(first, arrange(first, again, [1, 0]))
        assert [p.text[:10] for p in passages_of(second)] == [TEXTS[0][:10], TEXTS[2][:10]]


def test_a_pinned_document_is_left_with_what_is_pinned() -> None:
    parsed = tagged(TEXTS)
    after = lawful(parsed.document, arrange(parsed.document, passages_of(parsed.document), [1]))
    content = content_of(parsed, after)
    assert "330 metres" in content
    assert "Curie" not in content
    assert 'id="3"' not in content
    assert "<keep>They never sleep.</keep>" in content
    assert "Bees" not in content


def test_cuts_keep_addresses_whole() -> None:
    parsed = tagged(TEXTS)
    passages = passages_of(parsed.document)
    end = TEXTS[1].index(".") + 1
    after = lawful(parsed.document, arrange(parsed.document, passages, [1], {1: [Range(0, end)]}))
    assert "330 metres tall.https://example.org/tower\n" in content_of(parsed, after)


def test_a_text_or_an_array_never_becomes_empty() -> None:
    bare = request(
        [
            {
                "type": "tool_result",
                "tool_use_id": "t",
                "content": [
                    {
                        "type": "search_result",
                        "source": "a",
                        "title": "A",
                        "content": [{"type": "text", "text": TEXTS[0]}],
                    },
                ],
            }
        ],
        "anthropic_messages",
    )
    after = lawful(bare.document, arrange(bare.document, passages_of(bare.document), []))
    assert TEXTS[0] in json.dumps(content_of(bare, after))


def test_a_stage_that_does_not_arrange_may_not() -> None:
    for shape in SHAPES.values():
        document = shape(TEXTS[:3]).document
        after = arrange(document, passages_of(document), [1, 0])
        with pytest.raises(LawError):
            check_laws(document, after, extractive=True)


def test_two_elements_for_one_place_are_noticed() -> None:
    document = search_results(TEXTS[:3]).document
    blocks = [dataclasses.replace(b, slot=1) if b.element else b for b in document.blocks]
    assert arrangements(blocks)[0].contradictory
    with pytest.raises(LawError, match="two elements for one place"):
        check_laws(document, document.with_blocks(tuple(blocks)), extractive=True, arranges=True)


def test_an_order_of_what_is_not_there_is_refused() -> None:
    document = tagged(TEXTS).document
    for order in ([0, 0], [7], [-1]):
        with pytest.raises(ValueError, match="order"):
            arrange(document, passages_of(document), order)


def drawn_cuts(data: st.DataObject, passage: Passage) -> list[Range]:
    edges = data.draw(
        st.lists(st.integers(0, len(passage.text)), max_size=6, unique=True).map(sorted)
    )
    return [Range(a, b) for a, b in zip(edges[::2], edges[1::2], strict=False)]


@given(st.sampled_from(sorted(SHAPES)), st.integers(1, 4), st.data())
def test_whatever_is_asked_for_the_laws_hold(shape: str, count: int, data: st.DataObject) -> None:
    document = SHAPES[shape](TEXTS[-count:]).document
    for _ in range(2):
        passages = passages_of(document)
        numbers = st.permutations(range(len(passages)))
        order = data.draw(numbers)[: data.draw(st.integers(0, len(passages)))]
        keep = {n: drawn_cuts(data, passages[n]) for n in order if data.draw(st.booleans())}
        after = lawful(document, arrange(document, passages, order, keep))
        stands = passages_of(after)
        left = [passages[n].source for n in order]
        assert [p.source for p in stands if p.source in left] == [
            s for s in left if s in {p.source for p in stands}
        ]
        if shape != "search results":  # of several texts, none becomes blank
            texts = {passage.source: passage.text for passage in stands}
            for number, cut in keep.items():
                old = passages[number]
                inside = {i for a, b in [*cut, *old.fixed] for i in range(a, b)}
                expected = "".join(old.text[i] for i in sorted(inside))
                if any(old.text[a:b].strip() for a, b in cut):
                    assert texts[old.source] == expected
        document = after


def test_of_a_row_in_which_nothing_else_stands_a_document_must_stay() -> None:
    document = tagged(TEXTS[:3]).document
    passages = passages_of(document)
    assert list(full_rows(document, passages)) == []
    (block,) = (block for block in document.blocks if any(span.source for span in block.spans))
    alone = document.with_blocks(
        (block.with_spans(tuple(span for span in block.spans if span.source is not None)),)
    )
    assert list(full_rows(alone, passages_of(alone))) == [passages_of(alone)]
    after = lawful(alone, arrange(alone, passages_of(alone), []))
    assert len(passages_of(after)) == 1
    pinned = tagged(TEXTS).document
    assert list(full_rows(pinned, passages_of(pinned))) == []


def in_two_rows() -> ContextDocument:
    """An array with nothing but documents, in two rows: an image between them has left."""
    document = search_results(TEXTS[:3]).document
    blocks = [block for block in document.blocks if block.element]
    second = blocks[-1].element

    def moved(block: Block) -> Block:
        row = 1 if block.element == second else 0
        spans = [
            dataclasses.replace(span, source=dataclasses.replace(span.source, row=row))
            for span in block.spans
            if span.source
        ]
        return block.with_spans(tuple(spans))

    return document.with_blocks(tuple(moved(block) for block in blocks))


def test_of_several_rows_one_document_is_enough_not_to_be_empty() -> None:
    document = in_two_rows()
    passages = passages_of(document)
    assert [p.row.rpartition("#")[2] for p in passages][-1] == "1"
    assert list(full_rows(document, passages)) == [passages]
    after = lawful(document, arrange(document, passages, [2]))
    assert [p.source for p in passages_of(after)] == [passages[2].source]
    after = lawful(document, arrange(document, passages, []))
    assert len(passages_of(after)) == 1


def test_rows_keep_their_order_whatever_is_asked_for() -> None:
    document = in_two_rows()
    passages = passages_of(document)
    after = lawful(document, arrange(document, passages, [2, 1, 0]))
    assert [p.source.id for p in passages_of(after)] == ["s1", "s0", "s2"]
    (found,) = arrangements(after.blocks)
    assert found.order == (1, 0, 2)


def test_a_stage_that_moves_a_document_out_of_its_row_breaks_the_law() -> None:
    document = in_two_rows()
    slots = {"0": 2, "2": 0}
    blocks = [
        dataclasses.replace(block, slot=slots.get((block.element or "").rpartition("/")[2]))
        for block in document.blocks
    ]
    with pytest.raises(LawError, match="left its row"):
        check_laws(document, document.with_blocks(tuple(blocks)), extractive=True, arranges=True)
    text = request(f"Old: <doc>{TEXTS[0]}</doc> New: <doc>{TEXTS[1]}</doc> {QUESTION}").document
    (block,) = text.blocks
    spans = [span for span in block.spans if span.source is None]
    first, second = [
        [span for span in block.spans if span.source == passage.source]
        for passage in passages_of(text)
    ]
    for order in ([*second, spans[1], *first], [spans[1], *first, *second]):
        swapped = block.with_spans((spans[0], *order, *spans[2:]))
        with pytest.raises(LawError, match="left its row"):
            check_laws(text, text.with_blocks((swapped,)), extractive=True, arranges=True)


@st.composite
def ranges_in(draw: st.DrawFn, length: int) -> list[Range]:
    edges = sorted(draw(st.sets(st.integers(0, length), max_size=12)))
    return [Range(start, end) for start, end in zip(edges[::2], edges[1::2], strict=False)]


@given(st.data(), st.text(max_size=40))
def test_ranges_of_a_cut_text_lead_to_the_same_characters_of_the_original(
    data: st.DataObject, original: str
) -> None:
    kept = data.draw(ranges_in(len(original)))
    text = "".join(original[start:end] for start, end in kept)
    pieces = data.draw(ranges_in(len(text)))
    traced = list(through(kept, pieces))
    assert "".join(original[a:b] for a, b in traced) == "".join(text[a:b] for a, b in pieces)
    assert traced == sorted(traced)
    assert all(start < end for start, end in traced)


def test_a_stage_may_move_what_is_left_when_others_have_gone() -> None:
    document = search_results(TEXTS[:3]).document
    first = lawful(document, arrange(document, passages_of(document), [2, 1]))
    left = first.with_blocks(tuple(block for block in first.blocks if not block.dropped))
    assert [p.text[:10] for p in passages_of(left)] == [TEXTS[2][:10], TEXTS[1][:10]]
    second = lawful(left, arrange(left, passages_of(left), [1, 0]))
    assert [p.text[:10] for p in passages_of(second)] == [TEXTS[1][:10], TEXTS[2][:10]]
