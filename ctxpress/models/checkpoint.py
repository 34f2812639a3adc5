"""Checkpoints of Hugging Face, whatever their head: found, checked, loaded. Needs torch.

A checkpoint is a folder, or a name whose files are in Hugging Face's cache or can be fetched into
it. The network is asked only where the cache does not have them, and only here: while a pipeline is
built, never in a request. Weights are read from safetensors alone; code that a repository brings
along is never run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ctxpress.errors import MissingDependencyError, ModelError

__all__ = [
    "INSTALL_COMMAND",
    "Checkpoint",
    "Device",
    "Dtype",
    "ModelKind",
    "load_checkpoint",
    "padding_id",
    "quietly",
    "require_torch",
    "window_tokens",
]

INSTALL_COMMAND = "pip install 'ctxpress[torch]'"
Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["auto", "float32", "float16", "bfloat16"]

_PATTERNS = ["*.json", "*.safetensors", "*.txt", "*.model"]
_TOKENIZER_FILES = (
    "tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model",
    "tokenizer.model",
)  # fmt: skip
_BLOCK_BYTES = 1 << 20
_FEWEST_TOKENS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelKind:
    """What a checkpoint is loaded as.

    `auto_class`: the class of transformers that loads it. `noun`: what errors call such a model.
    `used_by`: what needs torch for it. `spare`: beginnings of the names of weights that the model
    may lack because nothing reads what they compute.
    """

    auto_class: str
    noun: str
    used_by: str
    spare: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A loaded model in evaluation mode, and its tokenizer.

    `folder` is where its files lie. `identity` changes whenever they do: the repository's commit,
    or a hash of the folder's files. `device` is torch's name of where the model is; `dtype` that of
    its weights.
    """

    name: str
    folder: Path
    identity: str
    device: str
    dtype: str
    model: Any
    tokenizer: Any


def require_torch(used_by: str) -> None:
    """Check that torch, transformers and safetensors are installed, which `used_by` needs.

    :raises MissingDependencyError: with the command that installs them.
    """
    try:
        import safetensors  # noqa: F401
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"{used_by} needs {error.name or 'torch'}: {INSTALL_COMMAND}"
        ) from error


def load_checkpoint(
    model: str,
    kind: ModelKind,
    *,
    revision: str | None = None,
    device: Device = "auto",
    exact: bool = False,
    dtype: Dtype | None = None,
) -> Checkpoint:
    """Load a model of `kind` by name or folder.

    `device` auto takes a CUDA GPU if there is one. Weights are 16 bits wide where that is quicker:
    float16 on a GPU, bfloat16 on CPUs with instructions for it. `exact` keeps them float32 on CPUs.
    `dtype` decides instead of both; with auto they stay as the checkpoint has them.

    :raises MissingDependencyError: torch or transformers is not installed.
    :raises ModelError: the checkpoint is not at hand and cannot be fetched, is not of this kind,
        has no safetensors or no fast tokenizer, or is damaged.
    """
    require_torch(kind.used_by)
    folder, identity = _find(model, revision)
    _check_files(model, folder)
    import transformers

    chosen = _choose_device(device)
    wanted = _choose_dtype(chosen, exact=exact) if dtype is None else dtype
    try:
        with quietly():
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                str(folder), use_fast=True, local_files_only=True, trust_remote_code=False
            )
            loaded, report = getattr(transformers, kind.auto_class).from_pretrained(
                str(folder),
                dtype=wanted,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
            )
    except Exception as error:  # transformers has no common base of its own errors
        raise ModelError(f"{model}: cannot be loaded: {_one_line(error)}") from error
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(f"{model}: there is no fast tokenizer (tokenizer.json) for it")
    n_rows = loaded.get_input_embeddings().num_embeddings
    if len(tokenizer) > n_rows:
        raise ModelError(f"{model}: its tokenizer has {len(tokenizer)} tokens, its model {n_rows}")
    missing = sorted(key for key in report["missing_keys"] if not key.startswith(kind.spare))
    if missing:
        raise ModelError(f"{model}: is no {kind.noun}, its weights lack {missing[0]}")
    held = str(loaded.dtype).removeprefix("torch.")
    return Checkpoint(
        name=model,
        folder=folder,
        identity=f"{identity}/{held}",
        device=chosen,
        dtype=held,
        model=loaded.to(chosen).eval(),
        tokenizer=tokenizer,
    )


@contextmanager
def quietly() -> Iterator[None]:
    """Keep transformers' progress bars and advice, meant for notebooks, out of a server's log."""
    from transformers.utils import logging

    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def window_tokens(checkpoint: Checkpoint, most: int) -> int:
    """The longest window, framing included, that the model takes; at most `most` tokens.

    :raises ModelError: it is too short for any text.
    """
    positions = int(getattr(checkpoint.model.config, "max_position_embeddings", 0) or 0)
    for name, module in checkpoint.model.named_modules():
        # RoBERTa's kin count positions from behind that of the padding token.
        if name.endswith("position_embeddings") and hasattr(module, "num_embeddings"):
            skipped = 0 if module.padding_idx is None else module.padding_idx + 1
            positions = module.num_embeddings - skipped
    limits = [most, int(min(checkpoint.tokenizer.model_max_length, 2**30))]
    if positions > 0:
        limits.append(positions)
    if min(limits) < _FEWEST_TOKENS:
        raise ModelError(f"{checkpoint.name}: takes {min(limits)} tokens, too few for a window")
    return min(limits)


def padding_id(checkpoint: Checkpoint) -> int:
    """The token that fills up a batch; the model's own where it names one, since some look for it.

    Any will do for the others, for padding is masked.
    """
    named = getattr(checkpoint.model.config, "pad_token_id", None)
    found = checkpoint.tokenizer.pad_token_id if named is None else named
    return 0 if found is None else int(found)


def _find(model: str, revision: str | None) -> tuple[Path, str]:
    """The folder of a checkpoint, and what identifies its content."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise ModelError(f"{model}: is a folder; revision is for names on the Hugging Face hub")
        return folder, f"folder:{_digest(folder)}"
    if model.startswith((".", "/", "~")):
        raise ModelError(f"{model}: there is no such folder")
    snapshot = _snapshot(model, revision, local=True)
    if snapshot is None or not any(snapshot.glob("*.safetensors")):
        snapshot = _snapshot(model, revision, local=False)
    assert snapshot is not None, "asking the network gives a folder or raises"  # noqa: S101
    return snapshot, f"{model}@{snapshot.name}"


def _snapshot(model: str, revision: str | None, *, local: bool) -> Path | None:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                model, revision=revision, local_files_only=local, allow_patterns=_PATTERNS
            )
        )
    except Exception as error:  # of HTTP, of the file system, of the hub: all mean "not at hand"
        if local:
            return None
        raise ModelError(
            f"{model}: is not in the Hugging Face cache and cannot be fetched "
            f"({_one_line(error)}); without a network, set model: to a folder that holds it, or "
            f"fill the cache where there is one: hf download {model}"
        ) from error


def _check_files(model: str, folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise ModelError(f"{model}: {folder} has no config.json, it is no checkpoint")
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        # transformers would make up a tokenizer without a vocabulary
        raise ModelError(f"{model}: {folder} has no tokenizer ({_TOKENIZER_FILES[0]})")
    if any(folder.glob("*.safetensors")):
        return
    pickled = sorted(path.name for path in folder.glob("*.bin"))
    if pickled:
        raise ModelError(
            f"{model}: has its weights in {pickled[0]} only, a pickle that could run any code; "
            "convert them to safetensors, or name a revision that has them"
        )
    raise ModelError(f"{model}: has no *.safetensors with weights")


def _digest(folder: Path) -> str:
    """A hash over names and contents of the files that decide scores."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix not in (".json", ".safetensors", ".txt", ".model") or not path.is_file():
            continue
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
    return digest.hexdigest()[:24]


def _choose_device(device: Device) -> str:
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise ModelError("device cuda: torch finds no CUDA GPU; set device: cpu or auto")
    return "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"


def _choose_dtype(device: str, *, exact: bool) -> Any:
    """Without instructions for it, bfloat16 is emulated: 25 times slower than float32."""
    import torch

    if device == "cuda":
        return torch.float16
    if exact:
        return torch.float32
    ask = getattr(torch.cpu, "get_capabilities", dict)  # torch before 2.10 cannot tell
    features: dict[str, Any] = ask()
    fast = features.get("avx512_bf16") or features.get("amx_bf16")
    return torch.bfloat16 if fast else torch.float32


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
