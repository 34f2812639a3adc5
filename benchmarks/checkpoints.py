"""Makes checkpoints of full size with random weights: `python checkpoints.py FOLDER NAME…`.

Speed and memory do not depend on what a model has learned, so nothing is downloaded: the model has
the published shape, its tokenizer is of the right kind, made from the benchmark's own prose and
filled up with pieces that occur nowhere, so that embeddings have all of their rows. Folder names
hold what the llmlingua library looks for.

Needs torch, transformers and tokenizers, and nothing of ctxpress: it runs under the peer's Python,
since checkpoints written by an older transformers are read by newer ones, but not the other way.
"""

from __future__ import annotations

import math
import random
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

TRAINED_PIECES = 2000
SEED = 20


def make_xlm_roberta_large(folder: Path, text: list[str]) -> None:
    """24 layers, 1024 wide, 16 heads, 250,002 pieces; a Unigram tokenizer."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
    from tokenizers.processors import TemplateProcessing
    from transformers import XLMRobertaConfig, XLMRobertaTokenizerFast

    vocabulary = 250_002
    pieces = [(name, 0.0) for name in ("<s>", "<pad>", "</s>", "<unk>")]
    pieces += _unigrams(text)
    # The last row is <mask>, which the tokenizer's class adds behind the pieces.
    pieces += [(f"\u2581\u00a4{n}", -99.0) for n in range(vocabulary - 1 - len(pieces))]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )  # fmt: skip
    file = folder / "tokenizer.json"
    tokenizer.save(str(file))
    XLMRobertaTokenizerFast(tokenizer_file=str(file)).save_pretrained(folder)
    config = XLMRobertaConfig(
        vocab_size=vocabulary, num_hidden_layers=24, hidden_size=1024, num_attention_heads=16,
        intermediate_size=4096, max_position_embeddings=514, type_vocab_size=1,
        layer_norm_eps=1e-5, pad_token_id=1, bos_token_id=0, eos_token_id=2, num_labels=2,
    )  # fmt: skip
    _save_model(config, folder)


def make_bert_multilingual(folder: Path, text: list[str]) -> None:
    """12 layers, 768 wide, 12 heads, 119,547 pieces; a cased WordPiece tokenizer."""
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertTokenizerFast

    vocabulary = 119_547
    tokenizer = BertWordPieceTokenizer(lowercase=False, strip_accents=False)
    tokenizer.train_from_iterator(text, vocab_size=TRAINED_PIECES, show_progress=False)
    pieces = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    pieces += [f"[unused{n}]" for n in range(vocabulary - len(pieces))]
    file = folder / "vocab.txt"
    file.write_text("\n".join(pieces) + "\n", "utf-8")
    BertTokenizerFast(vocab_file=str(file), do_lower_case=False).save_pretrained(folder)
    config = BertConfig(
        vocab_size=vocabulary, num_hidden_layers=12, hidden_size=768, num_attention_heads=12,
        intermediate_size=3072, num_labels=2,
    )  # fmt: skip
    _save_model(config, folder)


MAKERS = {
    "random-xlm-roberta-large": make_xlm_roberta_large,
    "random-bert-base-multilingual-cased": make_bert_multilingual,
}


def _unigrams(lines: list[str]) -> list[tuple[str, float]]:
    """Words and signs of the text with their log frequencies, and characters to fall back on.

    A trained model would cut such a small text into shorter pieces than the published one cuts
    English into, and make every model look slow.
    """
    counts: Counter[str] = Counter()
    for line in lines:
        for blank, piece in re.findall(r"(^|\s)?(\w+|[^\w\s])", line):
            counts["\u2581" + piece if blank or line.startswith(piece) else piece] += 1
    total = sum(counts.values())
    characters = {character for piece in counts for character in piece} - set(counts)
    return [
        *((piece, math.log(count / total)) for piece, count in counts.most_common()),
        *((character, -20.0) for character in sorted(characters)),
    ]


def _save_model(config: Any, folder: Path) -> None:
    import torch
    from transformers import AutoModelForTokenClassification

    torch.manual_seed(SEED)
    model = AutoModelForTokenClassification.from_config(config)
    # Scores that differ, and are not rounded to 0 and 1: words with equal scores stay together.
    torch.nn.init.normal_(model.classifier.weight, std=0.05)
    model.save_pretrained(folder, safe_serialization=True)


def main() -> None:
    """Make the checkpoints named; the training text is read from standard input."""
    folder = Path(sys.argv[1])
    lines = [line for line in sys.stdin.read().splitlines() if line]
    random.Random(SEED).shuffle(lines)
    for name in sys.argv[2:]:
        (folder / name).mkdir(parents=True)
        MAKERS[name](folder / name, lines)


if __name__ == "__main__":
    main()
