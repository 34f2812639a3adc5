from __future__ import annotations

import unicodedata

import budoux
import pytest

from ctxpress.plugins.token_classification.characters import read
from ctxpress.plugins.token_classification.scripts import phrase_cuts
from ctxpress.plugins.token_classification.units import cut_units

HANS = "委员会周二开会讨论明年的预算北翼的供暖系统一月份坏了两次"
HANT = "委員會週二開會討論明年的預算北翼的供暖系統一月份壞了兩次"
JAPANESE = "今日は天気がいいので東京都に住んでいる友だちと公園へ行きます"
THAI = "วันนี้อากาศดีมากฉันไปตลาดเพื่อซื้อผลไม้"


def cuts(text: str) -> list[int]:
    return phrase_cuts(read(text)).tolist()


def pieces(text: str) -> list[str]:
    units = cut_units(text, [], [])
    return [text[a:b] for a, b in zip(units.starts.tolist(), units.ends.tolist(), strict=True)]


@pytest.mark.parametrize(
    ("text", "parser"),
    [
        (HANS, budoux.load_default_simplified_chinese_parser()),
        (HANT, budoux.load_default_traditional_chinese_parser()),
        (JAPANESE, budoux.load_default_japanese_parser()),
        (THAI, budoux.load_default_thai_parser()),
    ],
    ids=["hans", "hant", "ja", "th"],
)
def test_phrases_are_budoux_s(text: str, parser: budoux.Parser) -> None:
    phrases = parser.parse(text)
    ends = [sum(map(len, phrases[: i + 1])) for i in range(len(phrases) - 1)]
    marks = [unicodedata.category(text[end]) == "Mn" for end in ends]
    expected = [end for end, mark in zip(ends, marks, strict=True) if not mark]
    assert len(expected) > 5
    assert cuts(text) == expected


def test_latin_words_and_numbers_stay_with_what_follows() -> None:
    assert pieces("使用Python编写，2024年") == ["使用", "Python编写", "，", "2024年"]


def test_korean_is_cut_at_blanks() -> None:
    assert cuts("오늘은 날씨가 좋습니다") == []
    assert pieces("오늘은 좋습니다.") == ["오늘은", "좋습니다", "."]


def test_latin_text_has_no_cuts() -> None:
    assert cuts("plain text, nothing else") == cuts("") == []


def test_no_cut_within_a_grapheme_cluster() -> None:
    for text in (THAI * 3, "漢\u0301字\ufe00を\u3099読む" * 5, "人\u200d人\u200d人は"):
        for cut in cuts(text):
            assert unicodedata.category(text[cut]) not in ("Mn", "Mc", "Me")
            assert "\u200d" not in text[cut - 1 : cut + 1]


def test_the_result_does_not_depend_on_how_the_work_is_cut_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = (HANS + "。" + JAPANESE + "\n" + THAI + " and ") * 3
    whole = cuts(text)
    monkeypatch.setattr("ctxpress.plugins.token_classification.scripts._CHUNK", 7)
    assert cuts(text) == whole
