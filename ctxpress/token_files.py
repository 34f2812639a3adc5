"""Where tokenizers' files lie on this machine. Looks only; never downloads, never leaves a folder.

Model names come from requests: they are checked before they become a part of a path.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path

__all__ = ["find_hugging_face_file", "find_tiktoken_file", "find_tokenizer_file", "read_capped"]

_MAX_FILE_BYTES = 256 * 2**20
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")

# Names of tiktoken's cached files (SHA-1 of where they came from) and the SHA-256 of contents: the
# package downloads again what does not have it.
_TIKTOKEN_FILES = {
    "o200k_base": (
        "fb374d419588a4632f3f557e76b4b70aebbca790",
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    ),
    "cl100k_base": (
        "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    ),
}


def find_tiktoken_file(name: str) -> Path | None:
    """The intact file of an encoding in tiktoken's cache folder.

    The folder is tiktoken's own choice: ``TIKTOKEN_CACHE_DIR``, ``DATA_GYM_CACHE_DIR``, or one in
    the folder for temporary files.
    """
    default = str(Path(tempfile.gettempdir()) / "data-gym-cache")
    folder = os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR", default))
    if not folder or name not in _TIKTOKEN_FILES:
        return None  # an empty name switches its cache off: it would download
    file_name, sha256 = _TIKTOKEN_FILES[name]
    path = Path(folder) / file_name
    content = read_capped(path)
    return path if content and hashlib.sha256(content).hexdigest() == sha256 else None


def find_tokenizer_file(model: str, folder: Path) -> Path | None:
    """``<folder>/<model>/tokenizer.json``, if it is there."""
    parts = _parts(model)
    path = folder.joinpath(*parts, "tokenizer.json")
    return path if parts and path.is_file() else None


def find_hugging_face_file(model: str) -> Path | None:
    """``tokenizer.json`` of ``model`` in Hugging Face's cache folder.

    Of several snapshots, that of the branch ``main``, else the first by name.
    """
    parts = _parts(model)
    if not parts:
        return None
    folder = _hugging_face_hub() / f"models--{'--'.join(parts)}"
    name = (read_capped(folder / "refs" / "main") or b"").decode("ascii", "replace").strip()
    path = folder / "snapshots" / name / "tokenizer.json"
    if _PART.fullmatch(name) and path.is_file():
        return path
    return min(folder.glob("snapshots/*/tokenizer.json"), default=None)


def read_capped(path: Path) -> bytes | None:
    """The content of ``path``; ``None`` if it cannot be read or is larger than any tokenizer."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except OSError:
        return None
    return content if len(content) <= _MAX_FILE_BYTES else None


def _parts(model: str) -> list[str]:
    """The parts of a model's name; none if it could lead out of a folder."""
    parts = model.split("/")
    return parts if len(parts) <= 3 and all(_PART.fullmatch(part) for part in parts) else []


def _hugging_face_hub() -> Path:
    hub = os.environ.get("HF_HUB_CACHE")
    if hub:
        return Path(hub)
    home = os.environ.get("HF_HOME")
    if home:
        return Path(home) / "hub"
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(cache) / "huggingface" / "hub"
