"""Random checkpoints of the two families, made on the spot: the real classes, tiny.

`head` is what a class of transformers is called behind its family: ForTokenClassification, …
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CORPUS = [
    "The committee met on Tuesday to go over the budget for the coming year, didn't it?",
    "Project costs: $4,300.50 in 2024 - v1.2.3 (see https://example.org/a?b=c#d). Next time.",
    "rethinking aboutness; thinking about the answer is, however, no use! \"quoted\" 'words'",
    "def cost(n): return n * 4300 + [x for x in y if x <= 3 and x => 2] # ~comment_here %d & |",
    "Ärger über Öl, façade, naïve; Виктор пишет письмо, 新闻内容很长。天气寒冷，委员会开会。",
    "会議は火曜日に開かれました。 سلام دنیا 0123456789 ½ © ™ € ,-./ -> .. () <=> {} \\ ^ ` _ @",
    "Hello world, this is an important meeting about heating and projects with many words.",
    "jump jumping jumped jumps play playing played player players token tokens tokenised",
]


def make_bert(
    folder: Path,
    *,
    seed: int = 0,
    hidden: int = 32,
    head: str = "ForTokenClassification",
    num_labels: int = 2,
) -> Path:
    """A WordPiece checkpoint in `folder`: cased, characters of the corpus and frequent pieces."""
    import transformers
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertTokenizer

    trained = BertWordPieceTokenizer(lowercase=False, strip_accents=False)
    trained.train_from_iterator(CORPUS * 3, vocab_size=600, min_frequency=2, show_progress=False)
    vocabulary = trained.get_vocab()
    words = sorted(vocabulary, key=vocabulary.__getitem__)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", "utf-8")
    tokenizer = BertTokenizer.from_pretrained(
        str(folder), do_lower_case=False, model_max_length=512
    )
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=hidden,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=2 * hidden,
        max_position_embeddings=512,
        initializer_range=0.3,
        num_labels=num_labels,
    )
    return _save(folder, getattr(transformers, f"Bert{head}"), config, tokenizer, seed)


def make_xlm_roberta(
    folder: Path,
    *,
    seed: int = 0,
    hidden: int = 32,
    head: str = "ForTokenClassification",
    num_labels: int = 2,
) -> Path:
    """A Unigram checkpoint in `folder`, with XLM-R's special tokens and position offset."""
    import transformers
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import XLMRobertaConfig, XLMRobertaTokenizer

    trained = Tokenizer(models.Unigram())
    trained.normalizer = normalizers.NFKC()
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=500, special_tokens=specials, unk_token="<unk>", show_progress=False
    )
    trained.train_from_iterator(CORPUS * 3, trainer)
    pieces = [
        (piece, float(score)) for piece, score in json.loads(trained.to_str())["model"]["vocab"]
    ]
    tokenizer = XLMRobertaTokenizer(vocab=[*pieces, ("<mask>", 0.0)], model_max_length=512)
    tokenizer.backend_tokenizer.normalizer = normalizers.NFKC()
    config = XLMRobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=2 * hidden,
        max_position_embeddings=514,
        type_vocab_size=1,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        initializer_range=0.3,
        num_labels=num_labels,
    )
    return _save(folder, getattr(transformers, f"XLMRoberta{head}"), config, tokenizer, seed)


def _save(folder: Path, model_class: Any, config: Any, tokenizer: Any, seed: int) -> Path:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = model_class(config)
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return folder
