"""Edits change the bytes they name and no others."""

from __future__ import annotations

import json
import random
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpress.document import Range
from ctxpress.errors import FormatError
from ctxpress.formats.json_edit import (
    DeleteMember,
    InsertElement,
    ReplaceString,
    apply_edits,
)
from ctxpress.formats.json_strings import rewrite_string
from ctxpress.stage import Skip
from tests.formats.spelling import json_values, spell, texts


def strings(value: Any, pointer: str = "") -> list[tuple[str, str]]:
    """Pointer and value of every string in ``value``."""
    if isinstance(value, str):
        return [(pointer, value)]
    if isinstance(value, dict):
        pairs = [(k.replace("~", "~0").replace("/", "~1"), v) for k, v in value.items()]
    elif isinstance(value, list):
        pairs = [(str(i), v) for i, v in enumerate(value)]
    else:
        return []
    return [found for key, inner in pairs for found in strings(inner, f"{pointer}/{key}")]


def replaced(value: Any, pointer: str, new: str) -> Any:
    if not pointer:
        return new
    head, *rest = pointer.split("/")[1:]
    tail = "".join(f"/{key}" for key in rest)
    if isinstance(value, list):
        return [replaced(v, tail, new) if str(i) == head else v for i, v in enumerate(value)]
    key = head.replace("~1", "/").replace("~0", "~")
    return {k: replaced(v, tail, new) if k == key else v for k, v in value.items()}


def test_no_edits_return_the_same_object() -> None:
    raw = b' {"a" : 1}'
    assert apply_edits(raw, []) is raw


@given(value=st.dictionaries(texts, json_values, max_size=5), data=st.data())
def test_only_the_string_changes(value: dict[str, Any], data: st.DataObject) -> None:
    raw = spell(value, random.Random(data.draw(st.integers(0, 999)))).encode()
    found = strings(value)
    if not found:
        return
    pointer, old = data.draw(st.sampled_from(found))
    cut = sorted(data.draw(st.lists(st.integers(0, len(old)), min_size=2, max_size=2)))
    pieces = data.draw(
        st.sampled_from(
            [
                (Range(0, cut[0]), Range(cut[1], len(old))),
                (Range(cut[0], cut[1]), Range(0, cut[0])),
                (Range(0, cut[0]), 'ÿ "new"\n😀', Range(cut[1], len(old))),
            ]
        )
    )
    new = "".join(p if isinstance(p, str) else old[p.start : p.end] for p in pieces)
    edited = apply_edits(raw, [ReplaceString(pointer, pieces)])
    assert orjson.loads(edited) == replaced(orjson.loads(raw), pointer, new)
    # The bytes around the string are the same, so a marker in its place gives the same body.
    marker = ReplaceString(pointer, ("#",))
    assert apply_edits(edited, [marker]) == apply_edits(raw, [marker])


@given(text=texts, data=st.data())
def test_kept_characters_keep_their_escapes(text: str, data: st.DataObject) -> None:
    raw = spell(text, random.Random(data.draw(st.integers(0, 999))))[1:-1].encode()
    assert rewrite_string(raw, (Range(0, len(text)),)) == raw
    at = data.draw(st.integers(0, len(text)))
    halves = [rewrite_string(raw, (r,)) for r in (Range(0, at), Range(at, len(text)))]
    assert b"".join(halves) == raw
    assert orjson.loads(b'"' + halves[0] + b'"') == text[:at]


def test_escape_spellings_survive() -> None:
    raw = rb'{"t":"\u0041\/\ud83d\ude00 \u00E9 tail \\n"}'
    edited = apply_edits(raw, [ReplaceString("/t", (Range(0, 5), Range(11, 13)))])
    assert edited == rb'{"t":"\u0041\/\ud83d\ude00 \u00E9\\n"}'


@pytest.mark.parametrize(
    ("old", "new"),
    [('"\\u00e9"', b'"\\u6f22\\ud83d\\ude00\\""'), ('"é"', '"漢😀\\""'.encode())],
)
def test_own_text_is_escaped_in_the_style_of_the_old(old: str, new: bytes) -> None:
    raw = f'{{"t": {old}}}'.encode()
    assert apply_edits(raw, [ReplaceString("/t", ('漢😀"',))]) == b'{"t": ' + new + b"}"


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(FormatError):
        apply_edits(b'{"t":"x"}', [ReplaceString("/t", ("\ud800",))])


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"x":1}', b"{}"),
        (b'{ "x" : [1, {"x": 2}] }', b"{  }"),
        (b'{"x":1 , "a":2}', b'{"a":2}'),
        (b'{"a":2 , "x":1 }', b'{"a":2 }'),
        (b'{"a":1,"x":2,"b":3}', b'{"a":1,"b":3}'),
        (b'{"x":1,"a":1,"x":2,"x":3,"b":2,"x":{}}', b'{"a":1,"b":2}'),
        (b'{"a":1,"\\u0078":2}', b'{"a":1}'),
        (b'{"a":1,"a":2,"x":3}', b'{"a":1,"a":2}'),
        (b'{"a":1}', b'{"a":1}'),
        (b'{"x":"]},\\"{["}\n', b"{}\n"),
    ],
)
def test_a_member_leaves_with_its_comma(raw: bytes, expected: bytes) -> None:
    assert apply_edits(raw, [DeleteMember("/x")]) == expected


@given(value=st.dictionaries(texts, json_values, max_size=5), data=st.data())
def test_deleting_leaves_the_rest(value: dict[str, Any], data: st.DataObject) -> None:
    items = list(value.items())
    items.insert(data.draw(st.integers(0, len(items))), ("ctxpress", [1, {"a": "]"}]))
    raw = spell(dict(items), random.Random(data.draw(st.integers(0, 999)))).encode()
    expected = orjson.loads(raw)
    del expected["ctxpress"]
    assert orjson.loads(apply_edits(raw, [DeleteMember("/ctxpress")])) == expected


@pytest.mark.parametrize(
    ("raw", "index", "expected"),
    [
        (b'{"a": [ ]}', 0, b'{"a": ["n" ]}'),
        (b'{"a": [1, 2]}', 0, b'{"a": ["n",1, 2]}'),
        (b'{"a": [1, 2]}', 1, b'{"a": [1, "n",2]}'),
        (b'{"a": [1, 2 ]}', 2, b'{"a": [1, 2,"n" ]}'),
    ],
)
def test_an_element_goes_in(raw: bytes, index: int, expected: bytes) -> None:
    assert apply_edits(raw, [InsertElement(f"/a/{index}", b'"n"')]) == expected


def test_many_edits_at_once() -> None:
    raw = b'{"x": 0, "a": [{"t": "one"}, {"t": "two"}], "b": "three", "x": 1}'
    edits = [
        ReplaceString("/b", (Range(2, 5),)),
        ReplaceString("/a/1/t", (Range(0, 1),)),
        DeleteMember("/x"),
        InsertElement("/a/1", b"{}"),
        ReplaceString("/a/0/t", (Range(1, 3),)),
    ]
    with pytest.raises(FormatError):  # "x" occurs twice beside edited strings
        apply_edits(raw, edits)
    once = raw.replace(b', "x": 1', b"")
    assert apply_edits(once, edits) == b'{"a": [{"t": "ne"}, {},{"t": "t"}], "b": "ree"}'


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":[{"t":"x"}],"a":[{"t":"x"}]}',
        b'{"a":[{"t":"x","t":"y"}]}',
        b'{"a":[{"t":"x","role":1,"r\\u006fle":2}]}',
    ],
)
def test_duplicate_keys_on_the_way_are_refused(raw: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        apply_edits(raw, [ReplaceString("/a/0/t", ("z",))])
    assert caught.value.code == Skip.DUPLICATE_KEYS


def test_duplicate_keys_elsewhere_do_not_matter() -> None:
    raw = b'{"a":[{"t":"x"},{"k":1,"k":2}],"b":{"k":1,"k":2}}'
    assert b'"z"' in apply_edits(raw, [ReplaceString("/a/0/t", ("z",))])


@pytest.mark.parametrize("pointer", ["/b", "/a/7/t", "/a/0/t/x", "/a", "/a/0/n", "/a/x/t"])
def test_a_wrong_pointer_is_an_error(pointer: str) -> None:
    with pytest.raises(FormatError):
        apply_edits(b'{"a":[{"t":"x","n":1}]}', [ReplaceString(pointer, ("z",))])


@pytest.mark.parametrize("raw", [b'{"a":"', b'{"a', b'{"t":[', b"{", b"", b'{"t"', b"x", b'"x"'])
def test_broken_bytes_raise_nothing_else(raw: bytes) -> None:
    with pytest.raises(FormatError):
        apply_edits(raw, [ReplaceString("/t", ("z",))])


def test_deep_nesting_does_not_recurse() -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    raw = b'{"d":' + deep + b',"t":"x","e":' + deep + b"}"
    assert apply_edits(raw, [ReplaceString("/t", ("z",))]) == raw.replace(b'"x"', b'"z"')


@pytest.mark.parametrize(
    "filler",
    [
        b'"' + b"QUJD" * 5_000_000 + b'"',
        json.dumps('{"k": "v"}, ' * 100_000).encode(),
        b'"' + b"\\\\" * 1_000_000 + b'"',
        json.dumps([{"k": ["v", 1, None]}] * 50_000).encode(),
    ],
)
def test_large_values_are_skipped(filler: bytes) -> None:
    # Quadratic time anywhere would run into the suite's timeout.
    raw = b'{"f":' + filler + b',"t":"x"}'
    assert apply_edits(raw, [ReplaceString("/t", ("z",))]) == raw[:-3] + b'z"}'
