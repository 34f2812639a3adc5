"""The prompts that the demo sends: three that ship with ctxpress, or the user's own files."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctxpress.errors import ConfigError

__all__ = ["Sample", "load_samples", "read_samples"]

MODEL = "gpt-4o"
MAX_FILE_BYTES = 8 * 1024 * 1024  # some two million tokens: no model takes more


@dataclass(frozen=True, slots=True)
class Sample:
    """One request as a client would send it."""

    title: str
    body: bytes


def load_samples() -> list[Sample]:
    """The three that ship: a transcript, a RAG prompt, an agent's turn."""
    folder = importlib.resources.files("ctxpress.cli") / "samples"
    meeting = (folder / "meeting.md").read_text("utf-8")
    rag = (folder / "rag.md").read_text("utf-8")
    agent = json.loads((folder / "agent.json").read_text("utf-8"))
    return [
        _of_text("a meeting's transcript with a question", meeting),
        _of_text("retrieved passages in LangChain's prompt", rag),
        Sample("an agent's turn: tool results, JSON and code", _encode(agent)),
    ]


def read_samples(files: Iterable[Path]) -> list[Sample]:
    """The user's own files, each as one user message.

    :raises ConfigError: a file cannot be read, is empty, too large or not UTF-8 text.
    """
    return [_of_text(str(file), _read(file)) for file in files]


def _read(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            raw = opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigError(f"{file}: larger than {MAX_FILE_BYTES // 2**20} MiB")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not UTF-8 text: offset {error.start}") from None
    if not text.strip():
        raise ConfigError(f"{file}: there is no text in it")
    return text


def _of_text(title: str, text: str) -> Sample:
    body = {"model": MODEL, "messages": [{"role": "user", "content": text}]}
    return Sample(title, _encode(body))


def _encode(body: dict[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()
