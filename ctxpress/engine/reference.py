"""The reference model: a small Llama that was really trained, in the package.

With it, quality figures for codecs and for parallel encoding mean something without a download.
It answers questions about facts in its context, see :mod:`ctxpress.evaluation.kv_tasks`, and
writes English of a kind; it is for measuring, tests and demonstrations, not for use. What it
can do and cannot is in its `CARD.md`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctxpress.errors import ModelError

if TYPE_CHECKING:
    from ctxpress.engine.loading import RotaryModel

__all__ = ["REFERENCE", "load_named", "reference_model_dir"]

REFERENCE = "reference"
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


def load_named(name: str, *, device: Any = "auto", dtype: Any = "auto") -> RotaryModel:
    """The model that a command was told to use; ``reference`` is the one in the package.

    A folder of that name is ``./reference``.

    :raises CtxpressError: as ``load_model``.
    """
    from ctxpress.engine.loading import load_model

    if name == REFERENCE:
        return load_model(str(reference_model_dir()), device=device, dtype=dtype, name=name)
    return load_model(name, device=device, dtype=dtype)
