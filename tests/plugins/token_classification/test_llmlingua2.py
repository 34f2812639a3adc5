"""What the library does beyond the paper, each by name; `tests/parity` compares with it."""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctxpress.errors import ParityError
from ctxpress.plugins.token_classification.checkpoint import load_checkpoint
from ctxpress.plugins.token_classification.llmlingua2 import (
    ChunkEncoder,
    LLMLingua2Compressor,
    LLMLingua2Options,
    LLMLingua2Result,
)
from ctxpress.plugins.token_classification.llmlingua2.chunks import ForceMap, cut_chunks, frame
from ctxpress.plugins.token_classification.llmlingua2.words import Family, WordRules

TEXT = "The committee met on Tuesday to go over the budget for the coming year, didn't it?"


class WordEncoder:
    """Stands in for a model: tokens are words, `~` continues one, scores are as given."""

    special = frozenset({"[CLS]", "[SEP]"})

    def __init__(self, scores: dict[str, float], family: Family = Family.WORD_PIECE) -> None:
        self.scores = scores
        self.family = family
        self.encoded = 0

    def tokenize(self, text: str) -> list[str]:
        return text.split()

    def text_of(self, tokens: Sequence[str]) -> str:
        return " ".join(tokens)

    def encode(
        self, chunks: Sequence[str], checkpoint: Callable[[], None] | None
    ) -> Iterator[tuple[list[str], list[float]]]:
        for chunk in chunks:
            self.encoded += 1
            if checkpoint is not None:
                checkpoint()
            tokens = ["[CLS]", *chunk.split(), "[SEP]"]
            yield tokens, [np.float32(self.scores.get(token, 0.5)) for token in tokens]  # type: ignore[misc]


def shorten(
    *contexts: str,
    scores: dict[str, float] | None = None,
    family: Family = Family.WORD_PIECE,
    count: Callable[[str], int] = lambda text: len(text.split()),
    **options: Any,
) -> LLMLingua2Result:
    encoder: Any = WordEncoder(scores or {}, family)
    return LLMLingua2Compressor(encoder, count).compress(contexts, LLMLingua2Options(**options))


LETTERS = "a b c d e f g h i j"
FALLING = {letter: 0.95 - index / 10 for index, letter in enumerate(LETTERS.split())}


def test_the_best_words_stay_in_order() -> None:
    assert shorten(LETTERS, scores=FALLING, rate=0.5).prompt == "a b c d e"
    assert shorten(LETTERS, scores=FALLING, rate=0.8).prompt == "a b c d e f g h"


def test_words_at_the_threshold_go_so_equal_words_all_go() -> None:
    assert shorten(LETTERS, rate=0.5).prompt == ""


def test_the_percentile_is_one_too_high_and_cut_to_an_integer() -> None:
    """100 * (1 - 0.9) + 1 is 10.999…: the tenth percentile, not the eleventh, is the threshold."""
    words = [f"w{index:03}" for index in range(101)]
    scores = {word: index / 200 for index, word in enumerate(words)}
    assert shorten(" ".join(words), scores=scores, rate=0.9).prompt.split() == words[11:]
    assert shorten(" ".join(words), scores=scores, rate=0.5).prompt.split() == words[52:]


@pytest.mark.parametrize("rate", [1.0, 1.5, math.inf, math.nan])
def test_without_anything_to_delete_the_text_still_goes_through_the_tokenizer(rate: float) -> None:
    assert shorten("a  b\n\nc", rate=rate).prompt == "a b c"


@pytest.mark.parametrize("rate", [0.0, -0.5])
def test_a_rate_that_keeps_nothing_is_an_error_that_names_it(rate: float) -> None:
    with pytest.raises(ParityError, match="rate") as caught:
        shorten(LETTERS, rate=rate)
    assert caught.value.mirrors is ValueError
    assert caught.value.argument == "rate"


def test_infinitely_little_is_an_error() -> None:
    with pytest.raises(ParityError) as caught:
        shorten(LETTERS, rate=-math.inf)
    assert caught.value.mirrors is OverflowError


def test_a_target_becomes_a_rate_of_the_counted_tokens() -> None:
    assert shorten(LETTERS, scores=FALLING, target_token=3).prompt == "a b c"
    assert shorten(LETTERS, scores=FALLING, target_token=0, rate=0.5).prompt == "a b c d e"


def test_words_weigh_as_many_tokens_as_they_have() -> None:
    heavy = shorten("a b c d", scores=FALLING, rate=0.5, count=lambda t: 9 if t == "a" else 1)
    assert heavy.prompt == ""  # three quarters of all tokens score at the threshold


def test_chunks_end_at_the_last_end_token_or_are_one_too_long() -> None:
    tokens = [f"t{index}" for index in range(1200)]
    assert [len(chunk) for chunk in cut_chunks(tokens, frozenset())] == [511, 511, 178]
    tokens[300] = tokens[450] = "."
    assert [len(chunk) for chunk in cut_chunks(tokens, frozenset({"."}))] == [451, 511, 238]
    assert cut_chunks([], frozenset()) == []
    assert len(cut_chunks(tokens[:510], frozenset())) == 1


def test_a_row_of_513_loses_its_end_token() -> None:
    assert frame(["a"] * 511)[-1] == "a"
    assert frame(["a"] * 510)[-1] == "[SEP]"
    assert frame(["a"])[:4] == ["[CLS]", "a", "[SEP]", "[PAD]"]
    assert len(frame([])) == 512


def test_each_chunk_is_shortened_by_itself_and_glued_to_the_next() -> None:
    text = " ".join(["high"] * 255 + ["low"] * 256 + ["higher", "lower"])
    scores = {"high": 0.9, "low": 0.1, "higher": 0.2, "lower": 0.1}
    prompt = shorten(text, scores=scores, rate=0.6).prompt
    assert "highhigher" in prompt
    assert "lower" not in prompt


def test_force_tokens_of_more_than_one_token_are_replaced_inside_words_too() -> None:
    options = LLMLingua2Options(force_tokens=("in out", "x"), chunk_end_tokens=("in out", "."))
    force_map = ForceMap.of(options, str.split)
    assert force_map.names == {"in out": "[NEW0]"}
    assert force_map.ends == {"in out", "[NEW0]", "."}
    assert force_map.mark("begin outer") == "beg[NEW0]er"
    assert force_map.restore("beg[NEW0]er") == "begin outer"


def test_more_than_a_hundred_force_tokens_are_refused() -> None:
    with pytest.raises(ParityError, match="101 force_tokens") as caught:
        shorten(LETTERS, force_tokens=tuple(map(str, range(101))))
    assert caught.value.mirrors is AssertionError


def read(
    tokens: list[str], family: Family, *, force: tuple[str, ...] = (), **options: Any
) -> list[tuple[str, float, float]]:
    options = {"force_reserve_digit": False, "token_to_word": "mean"} | options
    rules = WordRules(
        family=family,
        special=frozenset({"[UNK]"}),
        force_tokens=frozenset(force),
        force_map=ForceMap({"x y": "[NEW0]"}, frozenset()),
        **options,
    )
    values: Any = [np.float32((index + 1) / 8) for index in range(len(tokens))]
    words = rules.read(tokens, values)
    return [
        (word, float(value), float(free))
        for word, value, free in zip(
            words.words, words.probabilities, words.free_probabilities, strict=True
        )
    ]


def test_word_pieces_join_and_rank_by_their_first_piece() -> None:
    assert read(["a", "##b", "##c"], Family.WORD_PIECE) == [("abc", 0.25, 0.125)]
    joined = read(["a", "##b"], Family.WORD_PIECE, token_to_word="first")
    assert joined == [("ab", 0.125, 0.125)]


def test_special_tokens_vanish() -> None:
    assert [word for word, _, _ in read(["a", "[UNK]", "b"], Family.WORD_PIECE)] == ["a", "b"]


def test_only_the_forced_piece_is_certain() -> None:
    assert read(["a", "##1"], Family.WORD_PIECE, force_reserve_digit=True)[0][1] == (0.125 + 1) / 2
    assert read(["a", "##b"], Family.WORD_PIECE, force=("a",))[0] == ("ab", 0.625, 0.125)


def test_a_forced_continuation_begins_a_word_but_a_hash_can_never_be_forced() -> None:
    words = read(["a", "##b", "#"], Family.WORD_PIECE, force=("b", "#"))
    assert words == [("a", 0.125, 0.125), ("##b", 1.0, 0.25), ("#", 0.375, 0.375)]


def test_added_tokens_become_what_they_stand_for() -> None:
    assert read(["\u2581a", "[NEW0]"], Family.SENTENCE_PIECE)[1] == ("x y", 1.0, 0.25)


def test_sentence_pieces_begin_words_at_blanks_and_at_runs_of_punctuation() -> None:
    tokens = ["\u2581a", "b", "()", "->", "\u2581", "c"]
    words = [word for word, _, _ in read(tokens, Family.SENTENCE_PIECE)]
    assert words == ["\u2581ab", "()->", "\u2581c"]


def test_a_text_that_begins_within_a_word_is_an_error() -> None:
    with pytest.raises(ParityError, match="continues a word") as caught:
        read(["[NEW5]"], Family.SENTENCE_PIECE)
    assert caught.value.mirrors is IndexError


def test_an_unknown_way_from_tokens_to_words_is_an_error() -> None:
    with pytest.raises(ParityError, match="'last'") as caught:
        shorten(LETTERS, token_to_word="last")
    assert caught.value.mirrors is NotImplementedError
    assert caught.value.argument == "token_to_word"


def test_repeated_force_tokens_go_where_nothing_is_kept_between() -> None:
    text, scores = "a . . z z z z b . z", {"a": 0.9, "b": 0.8, "z": 0.1, ".": 0.2}
    options: dict[str, Any] = {"scores": scores, "rate": 0.6, "force_tokens": (".",)}
    assert shorten(text, **options).prompt == "a . . b ."
    assert shorten(text, drop_consecutive=True, **options).prompt == "a . b ."


GOOD, BAD, WORST = "a a a a b", "g h i g h", "j j j j j"


def test_a_default_rate_takes_its_share_of_contexts_and_of_words() -> None:
    result = shorten(GOOD, BAD, WORST, scores=FALLING, rate=0.5)
    assert result.contexts == (0, 1)
    assert result.prompts == ("", "g g")
    assert result.prompt == "\n\ng g"
    assert result.origin_tokens == 15
    assert result.compressed_tokens == 2


def test_of_two_contexts_one_always_goes_and_forced_ones_stay_beyond_the_rate() -> None:
    assert shorten(WORST, GOOD, scores=FALLING).contexts == (1,)
    assert shorten(WORST, GOOD, scores=FALLING, force_context_ids=(0,)).contexts == (0, 1)
    assert shorten(WORST, GOOD, scores=FALLING, rate=1.0).contexts == (0, 1)


def test_contexts_can_be_chosen_by_number_rate_or_tokens() -> None:
    contexts = (WORST, GOOD, BAD)
    keep: dict[str, Any] = {"scores": FALLING, "use_token_level_filter": False}
    assert shorten(*contexts, target_context=1, **keep).contexts == (1,)
    assert shorten(*contexts, context_level_rate=0.5, **keep).contexts == (1, 2)
    assert shorten(*contexts, context_level_target_token=1, **keep).contexts == (1,)
    assert shorten(*contexts, target_token=3, **keep).contexts == (1,)
    assert shorten(*contexts, target_context=1, **keep).prompts == (GOOD,)


def test_one_context_is_never_dropped() -> None:
    assert shorten(WORST, scores=FALLING, target_context=0, rate=1.0).contexts == (0,)


def test_contexts_that_all_stay_are_encoded_once() -> None:
    encoder: Any = WordEncoder(FALLING)
    compressor = LLMLingua2Compressor(encoder, len)
    compressor.compress([GOOD, BAD], LLMLingua2Options(force_context_ids=(0, 1)))
    assert encoder.encoded == 2
    compressor.compress([GOOD, BAD])
    assert encoder.encoded == 5


@pytest.mark.parametrize(
    ("contexts", "options", "mirrors"),
    [
        (("", "a"), {}, ZeroDivisionError),
        ((), {}, IndexError),
        ((), {"use_context_level_filter": False}, None),
        (("",), {"target_token": 5}, ZeroDivisionError),
        (("",), {}, None),
        (("[UNK]", "[UNK]"), {"use_context_level_filter": False}, IndexError),
        (("a", "b"), {"context_level_rate": -1.0}, ValueError),
        (("a <|endoftext|>",), {}, ValueError),
    ],
)
def test_empty_and_odd_calls_end_in_a_result_or_a_typed_error(
    contexts: tuple[str, ...], options: dict[str, Any], mirrors: type[Exception] | None
) -> None:
    encoder: Any = WordEncoder({})
    encoder.special = encoder.special | {"[UNK]"}
    compressor = LLMLingua2Compressor(encoder, lambda text: len(text.split()))
    if mirrors is None:
        assert compressor.compress(contexts, LLMLingua2Options(**options)).prompt == ""
        return
    with pytest.raises(ParityError) as caught:
        compressor.compress(contexts, LLMLingua2Options(**options))
    assert caught.value.mirrors is mirrors


def test_of_two_errors_that_of_the_first_chunk_is_raised() -> None:
    text = " ".join(["\u2581a"] * 511 + ["b"])
    with pytest.raises(ParityError) as caught:
        shorten(text, family=Family.SENTENCE_PIECE, rate=0.0)
    assert caught.value.mirrors is ValueError
    with pytest.raises(ParityError) as caught:
        shorten(text, family=Family.SENTENCE_PIECE, rate=0.5)
    assert caught.value.mirrors is IndexError


def test_one_who_gives_up_stops_between_batches(compressor: LLMLingua2Compressor) -> None:
    def give_up() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        compressor.compress([TEXT], checkpoint=give_up)
    assert compressor.compress([TEXT]).prompt


def test_a_real_checkpoint_gives_the_same_every_time(folder: Path) -> None:
    def prompts() -> tuple[str, ...]:
        encoder = ChunkEncoder(load_checkpoint(str(folder), device="cpu", exact=True))
        compressor = LLMLingua2Compressor(encoder, len)
        options = LLMLingua2Options(force_tokens=("\n", "the answer is"), rate=0.6)
        return compressor.compress([f"{TEXT}\nbut the answer is no\n", TEXT], options).prompts

    first = prompts()
    assert first == prompts()
    assert "".join(first)
    assert "[NEW" not in "".join(first)


def test_loading_leaves_the_random_state_of_the_process_alone(folder: Path) -> None:
    import torch

    before = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1])
    deterministic = torch.backends.cudnn.deterministic
    ChunkEncoder(load_checkpoint(str(folder), device="cpu", exact=True))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    assert np.array_equal(before[2], np.random.get_state()[1])
    assert torch.backends.cudnn.deterministic == deterministic


def test_what_is_kept_costs_no_more_than_the_rate(compressor: LLMLingua2Compressor) -> None:
    for rate in (0.2, 0.5, 0.8):
        result = compressor.compress([TEXT * 20], LLMLingua2Options(rate=rate))
        assert 0 < result.compressed_tokens <= rate * 1.15 * result.origin_tokens


@pytest.mark.parametrize(
    "text",
    ["", "  ", "\n", "😀", "😀 👩\u200d🚀", "2024", "<|endoftext|>", "[NEW5]", "[NEW5] a", "#",
     "a\ud800", "\x00", "[PAD]" * 600, "x" * 5000, "新闻内容" * 400],
)  # fmt: skip
@pytest.mark.parametrize("rate", [0.5, 1.0, 0.0])
def test_any_text_ends_in_a_result_or_a_typed_error(
    compressor: LLMLingua2Compressor, text: str, rate: float
) -> None:
    options = LLMLingua2Options(rate=rate, force_tokens=("\n",))
    with contextlib.suppress(ParityError):
        assert len(compressor.compress([text], options).prompts) == 1
