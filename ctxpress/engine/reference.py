"""The reference model: a small Llama that was really trained, in the package.

With it, quality figures for codecs and for parallel encoding mean something without a download.
It answers questions about facts in its context, see :mod:`ctxpress.evaluation.kv_tasks`, and
writes English of a kind; it is for measuring, tests and demonstrations, not for use. What it
can do and cannot is in its `CARD.md`.
"""

from __future__ import annotations

from pathlib import Path

from ctxpress.errors import ModelError

__all__ = ["reference_model_dir"]

_FOLDER = Path(__file__).with_name("reference_model")
_NEEDED = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


def reference_model_dir() -> Path:
    """The folder of the reference model, as transformers and vLLM load it.

    :raises ModelError: the installation lacks one of its files.
    """
    missing = [name for name in _NEEDED if not (_FOLDER / name).is_file()]
    if missing:
        raise ModelError(f"the reference model in {_FOLDER} lacks {', '.join(missing)}")
    return _FOLDER
