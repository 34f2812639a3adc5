"""Whatever is written in the notation, `expand` gives it back; what is none is left alone."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpress.errors import FormatError
from ctxpress.lossless import same_json
from ctxpress.plugins.compact import expand
from ctxpress.plugins.compact.columns import minified, with_columns
from ctxpress.plugins.compact.json_reader import read_json
from ctxpress.plugins.compact.lines import fold_lines
from ctxpress.plugins.compact.notation import holds_notation
from ctxpress.plugins.compact.tables import fold_tables

# Numbers whose spelling says more than their value does, and one that no float holds.
NUMBERS = ["0", "-0", "1", "1.0", "1.50", "1e5", "1E+5", "-2.5e-3", "12345678901234567890123"]
STRINGS = [
    '""',
    '"a"',
    '"a,b"',
    r'"\u00e9\n\"]"',
    r'"\/"',
    '"é"',
    '"]"',
    '"{[("',
    r'"\ud83d\ude00"',
]
KEYS = ['"id"', '"name"', '"a,b"', r'"\u006eame"', '"x)"', '""']
BLANKS = st.sampled_from(["", " ", "\n  ", "\t", "\r\n"])

scalars = st.sampled_from([*NUMBERS, *STRINGS, "true", "false", "null"])


@st.composite
def spelt(draw, values):
    """An array or an object of values with blanks wherever they may stand."""

    def gap():
        return draw(BLANKS)

    items = draw(st.lists(values, max_size=4))
    if draw(st.booleans()):
        return "[" + ",".join(f"{gap()}{item}{gap()}" for item in items) + gap() + "]"
    keys = draw(st.lists(st.sampled_from(KEYS), min_size=len(items), max_size=len(items)))
    members = (f"{gap()}{k}{gap()}:{gap()}{v}{gap()}" for k, v in zip(keys, items, strict=True))
    return "{" + ",".join(members) + gap() + "}"


@st.composite
def like_objects(draw):
    """Objects with a part of the same keys, in the same order more often than not."""
    keys = draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=4, unique=True))
    rows = []
    for _ in range(draw(st.integers(2, 6))):
        mine = [key for key in keys if draw(st.integers(0, 5))]
        if draw(st.integers(0, 9)) == 0:
            mine.reverse()
        rows.append("{" + ", ".join(f"{key}: {draw(scalars)}" for key in mine) + "}")
    return rows


texts_of_json = st.one_of(
    st.recursive(scalars, spelt, max_leaves=25),
    like_objects().map(lambda rows: "[" + ",\n".join(rows) + "]"),
    like_objects().map("\n".join),
    like_objects().map(lambda rows: '{"total": 2, "rows": [[' + ",".join(rows) + "], 1.0]}"),
)


@given(texts_of_json)
def test_json_comes_back_with_the_same_tokens(text):
    read = read_json(text)
    if read is None:
        return
    for form in (minified(read), with_columns(read)):
        assert same_json(expand(form), text)
        assert len(form) <= len(text)


@given(texts_of_json)
def test_json_is_read_as_the_standard_library_reads_it(text):
    twice = False

    def members(pairs):
        nonlocal twice
        twice = twice or len(dict(pairs)) < len(pairs)
        return dict(pairs)

    try:
        value = json.loads(text, object_pairs_hook=members)
    except ValueError:
        return  # several values, or a single word
    read = read_json(text)
    assert (read is None) == (twice or not isinstance(value, dict | list))
    if read is not None:
        assert json.loads(minified(read)) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3",
        '"a"',
        "[1,]",
        "[1 2]",
        '{"a"}',
        '{"a":1,}',
        '{"a":1,"a":2}',
        r'{"a":1,"\u0061":2}',
        "[01]",
        "[NaN]",
        "[1.]",
        '["a\nb"]',
        r'["\x"]',
        "[1]]",
        "[[1]",
        "[1},2]",
        "[1],[2]",
        "[truer]",
    ],
)
def test_what_is_no_json_of_unlike_keys_is_not_read(text):
    assert read_json(text) is None


def test_a_table_is_a_header_and_rows():
    text = '[{"id": 1, "name": "Ada", "tags": ["x"]}, {"id": 2.0, "name": "Bob"}]'
    read = read_json(text)
    assert with_columns(read) == '[columns("id","name","tags")\n1,"Ada",["x"]\n2.0,"Bob",]'
    lines = read_json('{"ts": "12:00", "level": "info"}\n{"ts": "12:01", "level": "warn"}')
    assert with_columns(lines) == '{columns("ts","level")\n"12:00","info"\n"12:01","warn"}'


def test_objects_that_differ_stay_objects():
    for text in (
        '[{"a":1,"b":2},{"b":1,"a":2}]',
        '[{"a":1},{"b":2},{"c":3},{"d":4}]',
        '[{"a":1},2]',
        '[{"a":"a long value that the key is nothing beside, whatever is done to it"},{"a":1}]',
    ):
        assert with_columns(read_json(text)) == text


def test_deep_and_wide_json_is_no_trouble():
    deep = "[" * 50_000 + "]" * 50_000
    assert minified(read_json(deep)) == deep
    nested = '[{"a":1,"b":' * 5_000 + "[]" + "},{}]" * 5_000
    assert same_json(expand(with_columns(read_json(nested))), nested)


LINES = st.lists(
    st.one_of(
        st.sampled_from(["", "  ", "2024-05-01 12:00:01 INFO ok", "same", "same", "a\r", "é: ü"]),
        st.builds("2024-05-01 12:0{}:{} WARN pump {} slow\r".format, *[st.integers(0, 9)] * 3),
        st.builds('say "{}" \\ {}'.format, *[st.integers(0, 3)] * 2),
        st.text(max_size=8),
    ),
    max_size=30,
)


def applied(text, pieces):
    """`text` with its pieces in their other form."""
    parts, at = [], 0
    for piece in pieces:
        assert at <= piece.start < piece.end <= len(text)
        assert expand(piece.text) == text[piece.start : piece.end]
        parts += (text[at : piece.start], piece.text)
        at = piece.end
    return "".join((*parts, text[at:]))


@given(LINES, st.integers(1, 5), st.booleans(), st.booleans())
def test_logs_come_back_character_by_character(lines, times, starts_line, ends_line):
    text = "\n".join(line for line in lines for _ in range(1 + len(line) % times))
    if holds_notation(text):
        return
    pieces = fold_lines(text, starts_line=starts_line, ends_line=ends_line)
    assert expand(applied(text, pieces)) == text


def folded(text, fold=fold_lines):
    return applied(text, fold(text, starts_line=True, ends_line=True))


def test_repeated_lines_and_beginnings_are_written_once():
    log = (
        "start\n"
        + "upstream refused\n" * 12
        + "".join(f"2024-05-01T12:00:{second:02} pump ok\n" for second in range(30, 40))
    )
    lines = folded(log).split("\n")
    assert lines[:3] == [
        "start",
        "upstream refused (×12)",
        '[each of the next 10 lines begins with "2024-05-01T12:00:"]',
    ]
    assert lines[3:5] == ["30 pump ok", "31 pump ok"]


def test_a_fold_may_stand_among_lines_that_begin_alike():
    log = "".join(f"2024-05-01 12:00 {'poll' if n < 5 else n} of the pumps\n" for n in range(9))
    assert "poll of the pumps (×5)" in folded(log).split("\n")


def test_each_stretch_has_the_beginning_that_saves_most():
    log = "".join(f"2024-05-0{day} 12:00:0{n} pump\n" for day in (1, 2) for n in range(9))
    assert folded(log).count('begins with "2024-05-0') == 2
    assert folded(log).count("\n") == log.count("\n") + 2


def test_lines_that_are_cut_off_are_not_folded():
    text = "a long line\na long line\na long line"
    assert [p.start for p in fold_lines(text, starts_line=False, ends_line=True)] == [12]
    assert [p.end for p in fold_lines(text, starts_line=True, ends_line=False)] == [23]


def test_many_lines_take_linear_work():
    log = "".join(f"{n % 7:09} {n}\n" for n in range(40_000))
    assert expand(folded(log)) == log


CELLS = st.sampled_from(["", "-", "=", "1", "12.5", "pump", ":-", "a  b", "表", "+", " x"])


@given(st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=2, max_size=6), st.data())
def test_tables_come_back_character_by_character(rows, data):
    widths = [max(len(row[n]) for row in rows) for n in range(3)]
    aligned = [data.draw(st.sampled_from([str.ljust, str.rjust, str.center])) for _ in widths]
    lines = [
        "| " + " | ".join(a(c, w) for a, c, w in zip(aligned, row, widths, strict=True)) + " |"
        for row in rows
    ]
    mark = data.draw(st.sampled_from("|+"))
    lines.insert(1, mark + mark.join("-" * (width + 2) for width in widths) + mark)
    text = "\n".join(["Cost:", *lines, data.draw(st.sampled_from(["", "end", "| ragged |"]))])
    assert expand(folded(text, fold_tables)) == text


def test_padding_goes_and_the_widths_are_noted():
    table = "| part   | cost |\n|:-------|-----:|\n| boiler | 4300 |\n| pump   |  120 |"
    assert folded(table, fold_tables) == (
        "[4 rows padded to 6,4r]\n|part|cost|\n|:-|-:|\n|boiler|4300|\n|pump|120|"
    )


def test_a_cell_that_is_padded_in_another_way_stays_as_it_was():
    table = "| id |\n|----|\n|  1 |\n| 2  |\n| -  |\n|  3 |\n|  4 |"
    assert folded(table, fold_tables).split("\n")[3:6] == ["|1|", "| 2  |", "| -  |"]


def test_tables_without_padding_or_of_unequal_rows_stay():
    for table in ("|a|b|\n|-|-|\n|1|2|", "| a |\n| b | c |\n| d |", "| a |\n| b |"):
        assert folded(table, fold_tables) == table


@pytest.mark.parametrize(
    "text",
    [
        "[columns(",
        '[columns("a"',
        '[columns("a")',
        '[columns("a")]',
        '[columns("a","b")\n1]',
        '[columns("a")\n1}',
        '{columns("a")\n[1}',
        '[each of the next 5 lines begins with "x"]\nonly one',
        '[each of the next 1 lines begins with "\\x"]\none',
        "[2 rows padded to 3]\n| a |",
        "a line (×0)",
        "a line (×1)",
        "plain text",
    ],
)
def test_what_only_looks_like_notation_is_left_as_it_is(text):
    assert expand(text) == text


@given(st.text("[]{}()columnsx\"',:1\n ×eachofthe", max_size=60))
def test_any_text_may_be_expanded(text):
    assert isinstance(expand(text), str)


@pytest.mark.parametrize(
    "text",
    [
        "line (×99999)\n" * 50,
        '[each of the next 3000 lines begins with "' + "x" * 3000 + '"]\n' + "y\n" * 3000,
        "[3 rows padded to 999999,999999]\n" + "|a|b|\n" * 3,
        '[columns("' + "k" * 3000 + '")' + "\n1" * 3000 + "]",
    ],
)
def test_an_expansion_that_would_fill_the_memory_is_refused(text):
    with pytest.raises(FormatError, match="more than 1,000,000 characters"):
        expand(text, max_characters=1_000_000)


def test_openings_that_lead_nowhere_cost_linear_time():
    text = '[columns("a")\n[' * 20_000
    assert expand(text) == text
