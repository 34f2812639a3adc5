"""The reference model's tokenizer: byte-level BPE, digits apart, the words of the tasks whole.

Merges are learnt from the texts. The words that tasks are made of are appended to the vocabulary
without merges; `ignore_merges` finds a whole pre-token there before any merge is tried.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from ctxpress.evaluation.kv_words import (
    ADJECTIVES,
    DIGITS,
    LABELS,
    NAMES,
    NOUNS,
    PLACES,
    VALUES,
    VERBS,
)

BOS, EOS, PAD = "<s>", "</s>", "<pad>"
MAX_LENGTH = 2048
_PATTERN = r"\n| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s"
_FRAME = ("Document", "Question", "Answer", "Input", "Label", "Read", "How", "What", "The")
_INNER = ("documents", "answer", "questions", "friend", "note", "have", "many")
_BLANK = "Ġ"  # how the byte-level alphabet writes a blank


def train_tokenizer(texts: Iterable[str], vocabulary_size: int) -> Tokenizer:
    """Learn a vocabulary of `vocabulary_size` tokens; raises ValueError where it cannot hold
    the bytes and the words of the tasks.
    """
    whole = [f"{_BLANK}{word}" for word in _task_words()] + list(_FRAME)
    whole += [f"{_BLANK}{digit}" for digit in "0123456789"]
    merged = vocabulary_size - len(whole)  # too many whole words are learnt anyway: topped up below
    if merged < 512:
        raise ValueError(f"a vocabulary of {vocabulary_size} leaves {merged} for bytes and merges")
    learnt = _learn(texts, vocabulary_size)
    model = json.loads(learnt.to_str())["model"]
    kept = _cut(model, whole, vocabulary_size)
    return _assemble(models.BPE(vocab=kept[0], merges=kept[1], ignore_merges=True))


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write `tokenizer.json` and the configuration that `AutoTokenizer` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": PAD,
        "model_max_length": MAX_LENGTH,
        "clean_up_tokenization_spaces": False,
    }
    text = json.dumps(config, indent=2) + "\n"
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")


def _task_words() -> list[str]:
    return [
        *NAMES,
        *VALUES,
        *(word for words in VALUES.values() for word in words),
        *DIGITS,
        *LABELS,
        *NOUNS,
        *ADJECTIVES,
        *VERBS,
        *PLACES,
        *_INNER,
    ]


def _pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _learn(texts: Iterable[str], vocabulary_size: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = _pre_tokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[BOS, EOS, PAD],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _cut(
    model: dict[str, object], whole: list[str], vocabulary_size: int
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Drop the last merges until every whole word has a place in the vocabulary."""
    vocab = model["vocab"]
    merges = model["merges"]
    if not isinstance(vocab, dict) or not isinstance(merges, list):
        raise ValueError("the trained tokenizer is not a BPE model")
    ranked = sorted(vocab, key=lambda token: int(vocab[token]))
    size = len(ranked)
    while len(set(ranked[:size]) | set(whole)) > vocabulary_size:
        size -= 1
    tokens = ranked[:size]
    known = set(tokens)
    tokens += [word for word in whole if word not in known]
    pairs = [(str(left), str(right)) for left, right in merges if f"{left}{right}" in known]
    return {token: index for index, token in enumerate(tokens)}, pairs


def _assemble(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.add_special_tokens([BOS, EOS, PAD])
    tokenizer.pre_tokenizer = _pre_tokenizer()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return tokenizer
