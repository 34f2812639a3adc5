"""Texts for measuring KV: windows of tokens, whose second part is foretold from the first's KV."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ctxpress.engine import RotaryModel
from ctxpress.errors import ConfigError

__all__ = ["TextWindow", "read_texts", "windows_of"]


@dataclass(frozen=True, slots=True)
class TextWindow:
    """Token ids in two parts: what becomes KV, and what is foretold from it."""

    context: tuple[int, ...]
    target: tuple[int, ...]


def read_texts(path: Path) -> list[str]:
    """Texts of a file: one a line of JSON (field ``text``) in ``.jsonl``, else the whole file.

    :raises ConfigError: it cannot be read, is not what its name says, or holds no text.
    """
    try:
        content = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as text: {error}") from None
    if path.suffix != ".jsonl":
        return [content] if content.strip() else _nothing(path)
    texts = []
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
        except ValueError:
            raise ConfigError(f"{path}:{number}: not JSON") from None
        text = item.get("text") if isinstance(item, dict) else None
        if not isinstance(text, str):
            raise ConfigError(f"{path}:{number}: an object with a field text is needed")
        texts.append(text)
    return texts or _nothing(path)


def windows_of(
    model: RotaryModel,
    texts: Sequence[str],
    *,
    context_tokens: int,
    target_tokens: int,
    limit: int,
) -> list[TextWindow]:
    """Windows out of the texts put one behind the other, at most ``limit``, evenly spread.

    Each begins with the tokens that the model's tokenizer puts in front of any text.

    :raises ConfigError: there are too few tokens for one window, or the model's own window is
        shorter.
    """
    size = context_tokens + target_tokens
    if size > model.max_tokens:
        raise ConfigError(
            f"{context_tokens} tokens of context and {target_tokens} to foretell do not fit into "
            f"the {model.max_tokens} of {model.name}"
        )
    start = model.start_ids
    ids = [token for text in texts for token in model.token_ids(text.rstrip("\n") + "\n")]
    stride = size - len(start)
    n_windows = len(ids) // stride
    if n_windows < 1:
        raise ConfigError(f"the texts have {len(ids)} tokens; one window takes {stride}")
    return list(_spread(ids, start, stride, n_windows, limit, context_tokens))


def _spread(
    ids: Sequence[int], start: Sequence[int], stride: int, n_windows: int, limit: int, cut: int
) -> Iterator[TextWindow]:
    chosen = min(limit, n_windows)
    for number in range(chosen):
        first = number * n_windows // chosen * stride
        window = (*start, *ids[first : first + stride])
        yield TextWindow(window[:cut], window[cut:])


def _nothing(path: Path) -> list[str]:
    raise ConfigError(f"{path}: holds no text")
