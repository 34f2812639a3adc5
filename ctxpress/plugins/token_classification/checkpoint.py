"""Token classifiers of Hugging Face, loaded by `models.checkpoint`. Needs torch, late."""

from __future__ import annotations

from ctxpress.errors import ModelError
from ctxpress.models.checkpoint import Checkpoint, Device, ModelKind
from ctxpress.models.checkpoint import load_checkpoint as load_any

__all__ = ["Checkpoint", "load_checkpoint"]

_KIND = ModelKind(
    auto_class="AutoModelForTokenClassification",
    noun="token classifier",
    used_by="backend huggingface",
)


def load_checkpoint(
    model: str,
    *,
    revision: str | None = None,
    device: Device = "auto",
    exact: bool = False,
) -> Checkpoint:
    """Load a token classifier by name or folder; the options are those of `models.checkpoint`.

    :raises MissingDependencyError: torch or transformers is not installed.
    :raises ModelError: the checkpoint cannot be had, or is no token classifier with two classes.
    """
    checkpoint = load_any(model, _KIND, revision=revision, device=device, exact=exact)
    n_classes = checkpoint.model.config.num_labels
    if n_classes < 2:
        raise ModelError(f"{model}: has {n_classes} class; class 1 means keep")
    return checkpoint
