"""Strings that nobody would write: a result or an error that names the argument, in linear time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest

import ctxpress
from ctxpress.errors import ConfigError
from ctxpress.models import TokenScores
from ctxpress.plugins.token_classification import TokenClassificationConfig
from ctxpress.stage import StageSkip
from ctxpress.testing import make_block, make_document
from tests.plugins.token_classification.running import FakeScorer, run

ODD = {
    "empty": "",
    "blanks": " \t\n \u3000\r\n",
    "emoji": "😀👩\u200d👩\u200d👧🇩🇪👍🏽" * 30,
    "emoji apart": "😀 👩\u200d👩\u200d👧 🇩🇪 👍🏽 " * 30,
    "digits": "0123456789" * 50,
    "numbers": "1 22 333.5 " * 60,
    "special tokens": "<|endoftext|> [CLS] [SEP] <s> [NEW5] [MASK] " * 20,
    "new5": "[NEW5]",
    "nul": "a\x00b \x00 " * 40,
    "lone surrogates": "\ud800 a \udfff" * 30,
    "marks": "\u0301\u0301 a\u0301 " * 40,
    "joiners": "\u200d" * 100,
    "right to left": "שלום עולם، مرحبا. " * 30,
    "punctuation": ".,;:!?()[]{}\"'`*_~|#-+" * 30,
    "open brackets": "([{“«「" * 100,
    "bars": "|---|\n" * 50,
    "mixed": "中文 and English、日本語も. ไทยด้วย 한국어 " * 20,
}


class SparseScorer(FakeScorer):
    """A score for every fourth character, by arithmetic over whole arrays: for long texts."""

    def score(
        self,
        texts: Sequence[str],
        *,
        question: str | None = None,
        checkpoint: Callable[[], None] | None = None,
    ) -> list[TokenScores]:
        results = []
        for text in texts:
            starts = np.arange(0, len(text), 4, dtype=np.int32)
            scores = (starts.astype(np.int64) * 2_654_435_761 % 1000 / 1000).astype(np.float32)
            results.append(TokenScores(starts, np.minimum(starts + 4, len(text)), scores))
        return results


class QuarterCounter:
    """Four bytes are a token: quick, and linear beyond doubt."""

    identity = "quarter/1"
    estimated = True

    def count(self, text: str) -> int:
        return len(text.encode("utf-8", "surrogatepass")) // 4


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
@pytest.mark.parametrize("ratio", [0.01, 0.5, 1.0])
def test_any_string_gives_a_result(text: str, ratio: float) -> None:
    result = ctxpress.compress(text, keep_ratio=ratio, strict=True)
    assert result.text == "".join(text[start:end] for start, end in result.kept)
    assert bool(result.text.strip()) == bool(text.strip())
    assert ratio < 1 or result.text == text


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_any_string_is_worked_on_in_any_language(text: str) -> None:
    try:
        block = run(make_document(make_block(text)), keep_ratio=0.4).blocks[0]
    except StageSkip:
        assert not text.strip()
        return
    assert block.text == "".join(text[start:end] for start, end in block.kept)


@pytest.mark.parametrize("ratio", [0, 1.5, -1, float("nan"), float("inf")])
def test_a_wrong_ratio_is_named(ratio: float) -> None:
    with pytest.raises(ConfigError, match="keep_ratio"):
        ctxpress.compress("some text", keep_ratio=ratio)
    with pytest.raises(ValueError, match="keep_ratio"):
        TokenClassificationConfig(keep_ratio=ratio)


@pytest.mark.parametrize("budget", [0, -3])
def test_a_wrong_budget_is_named(budget: int) -> None:
    with pytest.raises(ConfigError, match="target_tokens"):
        ctxpress.compress("some text", target_tokens=budget)
    with pytest.raises(ConfigError, match="budget_tokens"):
        ctxpress.compress_documents("why?", ["some text"], budget_tokens=budget)
    with pytest.raises(ValueError, match="target_tokens"):
        TokenClassificationConfig(target_tokens=budget)


@pytest.mark.parametrize("value", ["0.5", True, [1]])
def test_a_wrong_type_is_named(value: object) -> None:
    with pytest.raises(TypeError, match="keep_ratio"):
        ctxpress.compress("some text", keep_ratio=value)
    with pytest.raises(TypeError, match="target_tokens"):
        ctxpress.compress("some text", target_tokens=value)


LONG = {
    "words": "lorem ipsum dolor, sit (amet). ",
    "one word": "a",
    "blanks": " ",
    "chinese": "委员会周二开会讨论明年的预算。",
    "japanese": "今日は天気がいいですね。",
    "thai": "วันนี้อากาศดีมาก",
    "quotes": '"a ',
    "links": "[a](",
    "brackets": "((",
    "asterisks": "*a",
    "rules": "|-|\n",
    "table": "| a | b |\n|---|---|\n",
    "citations": "[1] ",
    "abbreviations": "U.S.",
    "emoji": "👩\u200d👩\u200d👧",
}


def work(unit: str, n_characters: int) -> float:
    """Processor seconds of the stage for a line of that length: what else runs does not count."""
    text = (unit * n_characters)[:n_characters]
    document = make_document(make_block(text))
    started = time.process_time()
    try:
        run(
            document,
            scorer=SparseScorer(),
            counter=QuarterCounter(),
            keep_ratio=0.5,
            min_sentence_words=2,
        )
    except StageSkip:
        assert not text.strip()
    return time.process_time() - started


@pytest.mark.slow
@pytest.mark.parametrize("unit", LONG.values(), ids=LONG)
def test_work_grows_in_proportion(unit: str) -> None:
    work(unit, 1000)  # what is loaded once
    # Thirty times the text: quadratic work would be 900 times as much.
    assert work(unit, 300_000) < 150 * max(0.01, work(unit, 10_000))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("unit", ["lorem ipsum, ", "x", "委员会周二开会。"])
def test_ten_megabytes_on_one_line(unit: str) -> None:
    text = unit * (10_000_000 // len(unit.encode()))
    document = make_document(make_block(text))
    after = run(document, scorer=SparseScorer(), counter=QuarterCounter(), keep_ratio=0.5)
    assert len(after.blocks[0].text) <= len(text)
