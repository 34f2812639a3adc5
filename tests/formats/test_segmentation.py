"""What segment() protects, what it releases, and that any text survives it whole."""

from __future__ import annotations

import json
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxpress.document import Kind, Range, Role, Span
from ctxpress.formats.options import ParseOptions
from ctxpress.formats.segmentation import segment

PLAIN = ParseOptions()


def cut(
    text: str,
    *,
    role: Role = Role.USER,
    kind: Kind = Kind.PROSE,
    options: ParseOptions = PLAIN,
    ask: bool = False,
) -> tuple[Span, ...]:
    spans = segment(text, role=role, kind=kind, options=options, ask=ask)
    check_cover(text, spans)
    return spans


def check_cover(text: str, spans: tuple[Span, ...]) -> None:
    assert "".join(span.text for span in spans) == text
    position = 0
    for span in spans:
        assert span.kept == (Range(position, position + len(span.text)),)
        assert span.text
        position += len(span.text)
    for left, right in zip(spans, spans[1:], strict=False):
        looks = [(s.kind, s.protected, s.source, s.detachable) for s in (left, right)]
        assert looks[0] != looks[1]


def protected(text: str, **keywords: object) -> str:
    return "\0".join(s.text for s in cut(text, **keywords) if s.protected)  # type: ignore[arg-type]


def released(text: str, **keywords: object) -> str:
    return "\0".join(s.text for s in cut(text, **keywords) if not s.protected)  # type: ignore[arg-type]


# --- the partition law -----------------------------------------------------------------------

FRAGMENTS = st.sampled_from(
    [
        "<keep>", "</keep>", "```", "~~~\n", "`", "``", "\n", "\n\n", "    x = 1\n", "{", "}", "[",
        "]", '"', '{"a": 1}', "[1] ", "\n[2] ", "<document>", "</document>", '<doc id="1">',
        "</doc>", "https://a.b/c", "a@b.co", "/usr/bin", "<b>", "<!--", "Question: ", "?", ". ",
        "| a | b |\n", "@@ -1,2 +1,2 @@\n", "Context information is below.\n--------\n",
        "\n--------\nGiven the context information", "\ud800", "\0", "\r\n", "文書。", "one two ",
        "Passage 1:", "\nPassage 2:", "12.5 ", "Acme", "<think>", "\t", "\\",
    ]
)  # fmt: skip
TEXTS = st.one_of(
    st.text(alphabet=st.characters(), max_size=200),
    st.lists(st.one_of(FRAGMENTS, st.text(max_size=5)), max_size=60).map("".join),
)
OPTIONS = ParseOptions(
    compress_system=True,
    compress_assistant=True,
    protect_numbers=True,
    protect_terms=("Acme", ""),
    protect_patterns=(re.compile(r"[a-z]{2}|x*"),),
    document_pattern=re.compile(r"\[(?P<id>\d)\] (?P<text>[^\[]*)"),
)


@settings(max_examples=300, deadline=2000)
@given(
    text=TEXTS,
    role=st.sampled_from(Role),
    kind=st.sampled_from([Kind.PROSE, Kind.TOOL_RESULT, Kind.DOCUMENT, Kind.INSTRUCTION]),
    options=st.sampled_from([PLAIN, OPTIONS]),
    ask=st.booleans(),
)
def test_spans_cover_any_text_exactly(
    text: str, role: Role, kind: Kind, options: ParseOptions, ask: bool
) -> None:
    cut(text, role=role, kind=kind, options=options, ask=ask)


def test_an_empty_text_has_no_spans() -> None:
    assert cut("") == ()


@settings(max_examples=100, deadline=2000)
@given(before=TEXTS, inside=st.text(max_size=40), after=TEXTS)
def test_kept_text_is_protected_wherever_it_stands(before: str, inside: str, after: str) -> None:
    marked = f"<keep>{inside}</keep>"
    text = before + marked + after
    start, end = len(before), len(before) + len(marked)
    for span in cut(text):
        (kept,) = span.kept
        if kept.start < end and kept.end > start:
            assert span.protected


UNITS = [
    "a", "{", "[", "`", "`` ` ``` ", "<keep>", "<keep></keep>x", "<", "<a ", "<document>", "</doc>",
    "<document>x</document><keep>y</keep>", "/", "@", "\n", " ", '{"a":', '{"a":1,}', '{"\\"',
    "[1] a\n", "?", "\nQuestion: x", "Use the following pieces of context\n\n", "<!-- ", "<pre>",
    "吗？", "```\n", "1,", "A b c. ", "http://a", "@@ -1,9 +1,9 @@\n", "a: b\n", "| a |\n", "\t",
    "http://x)))", "\ud800", "Document [1](Title: (", "    x y\n", '<document a="" ', "www.",
    "Context information is below.\n------\n", " ?", "\nQUESTION: ", "a/b.c@d`{\"x\":[1,2]}<b>",
]  # fmt: skip


@pytest.mark.parametrize("unit", UNITS)
def test_the_work_grows_with_the_length_and_no_faster(unit: str) -> None:
    def cost(length: int) -> float:
        text = (unit * (length // len(unit) + 1))[:length]
        best = float("inf")
        for _ in range(3):
            start = time.process_time()
            segment(text, role=Role.USER, kind=Kind.PROSE, options=PLAIN, ask=True)
            best = min(best, time.process_time() - start)
        return best

    small, large = cost(20_000), cost(80_000)
    # Quadratic work would cost 16 times as much; noise matters only where it is all over at once.
    assert large < 8 * small + 0.02


@pytest.mark.parametrize("text", ["x" * 1_000_000, "{" * 1_000_000, "`" * 100_000])
def test_a_megabyte_of_one_character_is_fine(text: str) -> None:
    cut(text, ask=True)


# --- roles -----------------------------------------------------------------------------------


def test_system_text_is_one_protected_instruction() -> None:
    (span,) = cut("Be kind. Read `this`.", role=Role.SYSTEM, kind=Kind.INSTRUCTION)
    assert (span.kind, span.protected) == (Kind.INSTRUCTION, True)


def test_assistant_text_is_one_protected_span() -> None:
    (span,) = cut("I did it. See `this`.", role=Role.ASSISTANT)
    assert span.protected


@pytest.mark.parametrize(
    ("role", "options"),
    [
        (Role.SYSTEM, ParseOptions(compress_system=True)),
        (Role.ASSISTANT, ParseOptions(compress_assistant=True)),
    ],
)
def test_released_roles_keep_what_every_text_keeps(role: Role, options: ParseOptions) -> None:
    text = "Some plain words here, then `code` and more."
    assert protected(text, role=role, options=options) == "`code`"


# --- inline ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("thing", "kind"),
    [
        ("`x = 1`", Kind.CODE),
        ("``a ` b``", Kind.CODE),
        ("https://example.org/a_(b)?q=1&r=%20#top", Kind.OPAQUE),
        ("http://localhost:8080", Kind.OPAQUE),
        ("www.example.org/path", Kind.OPAQUE),
        ("first.last+tag@mail.example.co.uk", Kind.OPAQUE),
        ("/usr/local/bin/python3", Kind.OPAQUE),
        ("./run.sh", Kind.OPAQUE),
        ("~/notes.md", Kind.OPAQUE),
        ("src/app/main.py:12", Kind.OPAQUE),
        (r"C:\Users\ann\file.txt", Kind.OPAQUE),
        ('{"name": "Ann", "tags": ["a", "b"]}', Kind.JSON),
        ('["a", {"b": null}]', Kind.JSON),
        ("<b>", Kind.OPAQUE),
        ('<a href="x y">', Kind.OPAQUE),
        ("<br/>", Kind.OPAQUE),
        ("<!-- a note -->", Kind.OPAQUE),
        ("<code>let x</code>", Kind.CODE),
        ("<script>if (a < b) {}</script>", Kind.CODE),
        ("d41d8cd98f00b204e9800998ecf8427e", Kind.OPAQUE),
        ("aGVsbG8gd29ybGQgaGVsbG8gd29ybGQgaGVsbG8gd29ybGQ=", Kind.OPAQUE),
        ("123e4567-e89b-12d3-a456-426614174000", Kind.OPAQUE),
        ("<keep>as it is</keep>", Kind.OPAQUE),
    ],
)
def test_things_inside_a_sentence_are_protected_alone(thing: str, kind: Kind) -> None:
    before, after = "We found that ", ", as the others had said before."
    spans = cut(before + thing + after)
    assert [(s.text, s.kind, s.protected) for s in spans] == [
        (before, Kind.PROSE, False),
        (thing, kind, True),
        (after, Kind.PROSE, False),
    ]


def test_the_link_part_of_a_markdown_link_is_one_thing() -> None:
    assert protected("Read [the manual](https://a.org/b) first.") == "](https://a.org/b)"


def test_text_between_tags_is_prose() -> None:
    text = "<p>The cat sat <b>on</b> the mat.</p>"
    assert released(text) == "The cat sat \0on\0 the mat."


def test_nested_keep_tags_belong_to_the_outermost() -> None:
    text = "a <keep>b <keep>c</keep> d</keep> e"
    assert protected(text) == "<keep>b <keep>c</keep> d</keep>"


def test_keep_tags_are_found_in_either_case() -> None:
    assert protected("a <KEEP>b c</Keep> d") == "<KEEP>b c</Keep>"


def test_an_unclosed_keep_tag_reaches_to_the_end() -> None:
    assert protected("a </keep> b <keep>c\n\nd").endswith("<keep>c\n\nd")


def test_the_tenant_lists_terms_numbers_and_patterns() -> None:
    text = "Acme Corp sold 1,250.5 units under ticket AB-12 in May."
    assert protected(text, options=ParseOptions(protect_terms=("Acme Corp",))) == "Acme Corp"
    assert protected(text, options=ParseOptions(protect_numbers=True)) == "1,250.5\x0012"
    patterns = ParseOptions(protect_patterns=(re.compile(r"[A-Z]{2}-\d+"),))
    assert protected(text, options=patterns) == "AB-12"


def test_a_pattern_sees_matches_across_its_windows() -> None:
    text = "word " * 817 + "KEY" + "7" * 100 + " word" * 2_000
    options = ParseOptions(protect_patterns=(re.compile(r"KEY\d+"),))
    assert protected(text, options=options) == "KEY" + "7" * 100


# --- blocks ----------------------------------------------------------------------------------

BEFORE = "Here is what we saw on the machine this morning.\n\n"
AFTER = "\nAfter that everybody went home and nothing else happened.\n"

BLOCKS = {
    "fence": "```python\nprint('hi')\n\nnot # code?\n```\n",
    "tilde fence": "~~~\nplain words in a fence\n```\nstill inside\n~~~\n",
    "indented fence": "  ```\n  some words\n  ```\n",
    "traceback": (
        'Traceback (most recent call last):\n  File "a.py", line 3, in f\n    g(x)\n'
        "ValueError: invalid literal\n"
    ),
    "java trace": (
        'Exception in thread "main" java.lang.IllegalStateException: no\n'
        "\tat com.acme.App.run(App.java:14)\n\tat com.acme.App.main(App.java:3)\n"
    ),
    "diff": (
        "diff --git a/x.py b/x.py\nindex 83db48f..bf269f4 100644\n--- a/x.py\n+++ b/x.py\n"
        "@@ -1,3 +1,3 @@\n The first line of words stays\n-An old sentence here.\n"
        "+A new sentence here.\n And the last\n"
    ),
    "ls": (
        "total 24\ndrwxr-xr-x 3 root root 4096 Nov 21 07:08 .\n"
        "-rw-r--r-- 1 root root  133 Nov 21 07:08 notes.txt\n"
    ),
    "shell": "$ cd /tmp && ls -la\n$ make test\n",
    "log": (
        "2024-05-01 10:00:12,123 INFO app.worker - started job 12\n"
        "2024-05-01 10:00:13,456 ERROR app.worker - it failed\n"
    ),
    "pytest": (
        "============ test session starts ============\ncollected 3 items\n\n"
        "tests/test_a.py ..F                    [100%]\n\nE   assert 1 == 2\n"
        "FAILED tests/test_a.py::test_x - assert 1 == 2\n"
        "========= 1 failed, 2 passed in 0.12s =========\n"
    ),
    "python": "def f(x):\n    return x + 1\n\n\nclass A:\n    y = 2\n",
    "javascript": "const a = require('b');\nfunction go(x) {\n  return x.map((y) => y * 2);\n}\n",
    "c": '#include <stdio.h>\nint main(void) {\n  printf("hi");\n  return 0;\n}\n',
    "sql": "SELECT a, b FROM t\nWHERE a = 1\nORDER BY b;\n",
    "yaml": "name: build\non: push\njobs:\n  test:\n    runs-on: ubuntu\n",
    "headers": "Host: example.org\nAccept: text/html\nContent-Length: 12\n",
    "csv": "id,name,price\n1,Ann,2.5\n2,Bob,3.5\n",
    "tsv": "id\tname\tprice\n1\tAnn\t2\n",
    "aligned": "NAME      READY   STATUS\nweb-1     1/1     Running\nweb-2     0/1     Pending\n",
    "indented": "    first thing\n    second(thing)\n",
    "grep": "src/a.py:12:    import os\nsrc/b.py:3:import os\n",
    "env": "API_URL=https://x.y\nDEBUG=1\n",
    "pretty json": '{\n  "a": [\n    1,\n    2\n  ],\n  "b": "words in a string"\n}\n',
    "json lines": '{"a": 1, "b": "x"}\n{"a": 2, "b": "y"}\n',
    "broken json": '{\n  "a": 1,\n  "b": "words",\n}\n',
    "table": "| name | value |\n|------|-------|\n| a    | some words here |\n",
    "diff of data and fences": (
        "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,2 +1,5 @@\n ```\n"
        '+{"a": ["words in an array"]}\n+\n+Plain words were added here.\n ```\n'
    ),
    "toml": '[project]\nname = "x"\nkeywords = ["one word", "two words"]\nversion = "1"\n',
    "docstring": (
        'def f(x):\n    """Say what it does.\n\n    It does a lot of things, all of them well and\n'
        "    none of them in vain.\n\n    That was all there is to say about it.\n"
        '    """\n    return x\n'
    ),
    "c comment": "/*\n * Plain words about it.\n *\n * And some more.\n */\nint f(int x);\n",
    "pem": "-----BEGIN CERTIFICATE-----\nMIIBszCCARwCCQDe\n-----END CERTIFICATE-----\n",
    "git log": "commit 83db48f1a2\nAuthor: Ann <ann@example.org>\nDate:   Mon May 6\n",
}


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_between_paragraphs_are_protected_whole(name: str) -> None:
    spans = cut(BEFORE + BLOCKS[name] + AFTER)
    assert [s.protected for s in spans] in ([False, True, False], [False, True, True, False])
    middle = "".join(s.text for s in spans if s.protected)
    assert middle.strip("\n") == BLOCKS[name].strip("\n")


def test_an_unclosed_fence_reaches_to_the_end() -> None:
    assert protected("Words first.\n```\ncode\n\nmore words.") == "```\ncode\n\nmore words."


def test_a_whole_json_text_is_one_span() -> None:
    text = json.dumps({"results": [{"title": "T", "n": n} for n in range(20)]}, indent=2)
    (span,) = cut(text, role=Role.TOOL, kind=Kind.TOOL_RESULT)
    assert (span.kind, span.protected) == (Kind.JSON, True)


def test_deeply_nested_json_does_no_harm() -> None:
    cut("[" * 50_000 + "]" * 50_000)
    cut('{"a":' * 50_000 + "1" + "}" * 50_000)


# --- what must stay prose --------------------------------------------------------------------

PROSE = {
    "brackets": "The result [12] holds (see below) for all cases {except one}, they say [sic].",
    "numbered list": "1. Buy milk and eggs.\n2. Call the plumber about it.\n3. Rest.\n",
    "bullets": "- Performance: it is fast enough.\n- Cost: it is low.\n* Support: none so far.\n",
    "headings": "# A title\n\nSome words.\n\n## Another title\n\nMore words follow here.\n",
    "maths": "If x = 5 and y < 3, then 2 * x + y = 12 > 3, so the claim holds for all n >= 2.",
    "sums": "12 * 3 = 36\n36 + 4 = 40\nSo the answer is 40.",
    "quotes": '"Well," she said, "it\'s \'fine\' by me." He replied: "So be it."',
    "block quote": "> It was the best of times,\n> it was the worst of times.\n",
    "slashes": "He/she and/or they run 24/7 at 50 km/h, w/o a break, on 1/2/2024.",
    "dialogue": (
        "Alice: Hello there, how are you today?\nBob: I am fine, thanks.\nAlice: Good to hear!\n"
    ),
    "transcript": (
        "Project Manager: Okay . Let us begin .\nMarketing: Yeah , sure .\n"
        "Industrial Designer: I have a question .\nProject Manager: Go on .\n"
    ),
    "timed transcript": (
        "[00:01:02] Ann: So we should talk about the budget.\n"
        "[00:01:09] Bob: Yes, I think it is too small.\n"
    ),
    "letter": "Dear Ann,\n\nThank you for the letter. I will come on Friday.\n\nYours,\nBob\n",
    "contract": "The tenant shall:\n(a) pay the rent on time;\n(b) keep the garden in order; and\n",
    "colon": "There are three reasons for this: time, money, and patience.",
    "if": "If you want to know more about this, ask him.\nFor all of us, it was a good day.\n",
    "from": "From there we went on.\nfrom here to eternity\nimport duties were raised again\n",
    "return": "return to the house of the rising sun,\nclass was out for the day.\n",
    "triple quotes": '"""\nThe cat sat on the mat.\n\nThen a dog came in, that was all.\n"""\n',
    "double spaces": "He came.  She left.  Nobody knew why.  Then it rained all day long.\n",
    "indented quotation": "He wrote:\n\n    We went to the sea and it rained for weeks.\n",
    "list continuation": "- First point of all\n\n    and some more about it, at length, here.\n",
    "price": "It costs $5 or €4, i.e. 20 % less; 3 @ $2 each.",
    "less than": "With a < b and c > d we are done, <3 to all.",
    "caps": "PLEASE NOTE: THE OFFICE IS CLOSED ON MONDAY.",
    "french": "L’été dernier, nous sommes allés à la mer ; il a plu : quelle tristesse !",
    "chinese": "我们昨天去了北京。天气很好，大家都很高兴。他说：“明天再来。”",
    "arabic": "ذهبنا أمس إلى السوق واشترينا الخبز والحليب، ثم عدنا إلى البيت.",
    "hindi": "हम कल बाज़ार गए और रोटी खरीदी। फिर हम घर लौट आए।",
    "thai": "เมื่อวานเราไปตลาดและซื้อขนมปังกับนมแล้วกลับบ้าน",
    "russian": "Вчера мы пошли на рынок, купили хлеб и/или молоко, а потом вернулись домой.",
    "japanese": "昨日、私たちは市場へ行き、パンと牛乳を買いました。「楽しかった」と彼は言った。",
}


@pytest.mark.parametrize("name", PROSE)
def test_prose_stays_prose(name: str) -> None:
    for kind in (Kind.PROSE, Kind.TOOL_RESULT, Kind.DOCUMENT):
        spans = cut(PROSE[name], kind=kind)
        assert [(s.kind, s.protected) for s in spans] == [(kind, False)]


def test_a_web_page_is_prose_with_its_links_protected() -> None:
    text = (
        "Visit Lisbon\n\nLisbon is the capital of Portugal. The old town, Alfama, survived the\n"
        "earthquake of 1755 ([more](https://example.org/alfama)).\n\nOpening hours\n\n"
        "The castle opens at nine and closes at six, but for Mondays.\n"
    )
    assert protected(text, role=Role.TOOL, kind=Kind.TOOL_RESULT) == "](https://example.org/alfama)"


# --- the question ----------------------------------------------------------------------------

FILLER = "The committee met again and nothing was decided on that day. " * 60


def questions(text: str) -> list[str]:
    return [s.text for s in cut(text, ask=True) if s.kind is Kind.QUESTION]


def test_a_short_text_is_the_question_whole() -> None:
    (span,) = cut("What does `x` do?\n\n    x = 1\n", ask=True)
    assert (span.kind, span.protected) == (Kind.QUESTION, True)


def test_the_ends_of_a_long_text_are_the_question() -> None:
    text = "Summarise this for me. " + FILLER + "What was decided in the end?"
    head, tail = questions(text)
    assert head.startswith("Summarise this for me. The committee")
    assert head.endswith("on that day.")
    assert tail.endswith("What was decided in the end?")
    assert tail.startswith("The committee")
    assert len(head.split()) <= 60
    assert len(tail.split()) <= 60


def test_a_sentence_longer_than_the_limit_is_cut_between_words() -> None:
    head, tail = questions("word " * 500)
    assert head == ("word " * 60).rstrip()
    assert tail == "word " * 60


def test_scripts_without_spaces_have_ends_too() -> None:
    text = "请总结这次会议。" + "委员会再次开会，没有作出任何决定。" * 100 + "最后决定了什么？"
    head, tail = questions(text)
    assert head.startswith("请总结这次会议。")
    assert tail.endswith("最后决定了什么？")
    assert len(head) + len(tail) < 250


def test_one_endless_word_is_not_all_question() -> None:
    assert sum(map(len, questions("x" * 100_000))) < 10_000


def test_an_asking_paragraph_at_the_end_stays_whole() -> None:
    asking = "Given all of this, and " + "with the greatest care, " * 16 + "what should we do?"
    assert questions(FILLER + "\n\n" + asking)[-1].strip() == asking


@pytest.mark.parametrize("label", ["Question", "Query", "Task", "**Question**"])
def test_a_labelled_question_is_the_question(label: str) -> None:
    asked = f"{label}: " + "Compare the first with the last meeting, and be exact. " * 12
    found = "".join(questions(f"Read on.\n\n{asked.strip()}\n\n{FILLER}"))
    assert asked.strip() in found
