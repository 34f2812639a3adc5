"""The two kinds of checkpoints that score relevance, and what their configurations say of it."""

from __future__ import annotations

import json
from typing import Literal

from ctxpress.errors import ModelError
from ctxpress.models.checkpoint import Checkpoint, Device, ModelKind, load_checkpoint

__all__ = ["Pooling", "has_sigmoid", "load_cross_encoder", "load_encoder", "pooling_of"]

Pooling = Literal["mean", "cls"]

_CROSS_ENCODER = ModelKind(
    auto_class="AutoModelForSequenceClassification",
    noun="sequence classifier",
    used_by="scorer cross_encoder",
)
# A pooler is for classifiers; many encoders are published without one.
_ENCODER = ModelKind(
    auto_class="AutoModel", noun="encoder", used_by="scorer embedding", spare=("pooler.",)
)
_POOLING_FILE = "1_Pooling/config.json"
_MAX_POOLING_BYTES = 1 << 16


def load_cross_encoder(
    model: str, *, revision: str | None = None, device: Device = "auto", exact: bool = False
) -> Checkpoint:
    """Load a reranker; the options are those of `models.checkpoint.load_checkpoint`.

    :raises MissingDependencyError: torch or transformers is not installed.
    :raises ModelError: the checkpoint cannot be had, or has neither one logit nor two.
    """
    checkpoint = load_checkpoint(
        model, _CROSS_ENCODER, revision=revision, device=device, exact=exact
    )
    n_labels = checkpoint.model.config.num_labels
    if n_labels not in (1, 2):
        raise ModelError(f"{model}: has {n_labels} labels; a reranker has one, or two of which "
                         "label 1 means relevant")  # fmt: skip
    return checkpoint


def load_encoder(
    model: str, *, revision: str | None = None, device: Device = "auto", exact: bool = False
) -> Checkpoint:
    """Load an encoder for embeddings; the options are those of `load_checkpoint`.

    :raises MissingDependencyError: torch or transformers is not installed.
    :raises ModelError: the checkpoint cannot be had, or is no encoder.
    """
    checkpoint = load_checkpoint(model, _ENCODER, revision=revision, device=device, exact=exact)
    if getattr(checkpoint.model.config, "is_encoder_decoder", False):
        raise ModelError(f"{model}: has a decoder; embeddings are taken from encoders")
    return checkpoint


def has_sigmoid(checkpoint: Checkpoint) -> bool:
    """Whether the configuration asks for a sigmoid over the logit, as sentence-transformers does.

    It is written as the name of a class of torch, in a place that changed with version 4.
    """
    config = checkpoint.model.config
    newer = getattr(config, "sentence_transformers", None)
    named = newer.get("activation_fn") if isinstance(newer, dict) else None
    if named is None:
        named = getattr(config, "sbert_ce_default_activation_function", None)
    return str(named).rpartition(".")[2].removesuffix("()") == "Sigmoid"


def pooling_of(checkpoint: Checkpoint) -> Pooling:
    """How the checkpoint's own configuration (of sentence-transformers) pools; mean without one.

    :raises ModelError: in a way that is neither mean nor cls, or the file is damaged.
    """
    path = checkpoint.folder / _POOLING_FILE
    if not path.is_file():
        return "mean"
    try:
        if path.stat().st_size > _MAX_POOLING_BYTES:
            raise ValueError("too large")
        modes = json.loads(path.read_text("utf-8"))
        if not isinstance(modes, dict):
            raise ValueError("no mapping")
    except (OSError, ValueError) as error:
        raise ModelError(f"{checkpoint.name}: {_POOLING_FILE} cannot be read: {error}") from error
    chosen = {key.removeprefix("pooling_mode_") for key, value in modes.items() if value is True}
    chosen &= {"cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens",
               "weightedmean_tokens", "lasttoken"}  # fmt: skip
    newer = modes.get("pooling_mode")
    if isinstance(newer, str):
        chosen = {newer}
    if chosen == {"mean_tokens"} or chosen == {"mean"}:
        return "mean"
    if chosen == {"cls_token"} or chosen == {"cls"}:
        return "cls"
    raise ModelError(
        f"{checkpoint.name}: {_POOLING_FILE} pools by {' and '.join(sorted(chosen)) or 'nothing'}; "
        "there are mean and cls, set pooling: to one of them if it suits"
    )
