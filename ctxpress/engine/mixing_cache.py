"""T and S of a model, measured once and kept in the state folder under the model's identity."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

from ctxpress.cache.key import state_dir
from ctxpress.engine.loading import RotaryModel
from ctxpress.engine.mixing_calibration import MixingCalibration, calibrate_mixing
from ctxpress.engine.parallel import Mixing
from ctxpress.engine.prompts import DEFAULT_DOCUMENT_TEMPLATE, PromptPieces
from ctxpress.errors import ConfigError

__all__ = ["builtin_prompts", "calibrated", "read_prompts"]

logger = logging.getLogger("ctxpress.engine")

_PROMPTS = "calibration_prompts.jsonl"
_VERSION = 1


def calibrated(
    model: RotaryModel,
    *,
    prompts: Path | None = None,
    folder: Path | None = None,
    bound: float | None = None,
) -> MixingCalibration:
    """The calibration of ``model``; measured where it is not known, which takes a while.

    ``prompts``: a file of the tenant's own, see :func:`read_prompts`; by default the built-in
    ones. ``folder``: where results are kept; by default the state folder's ``mixing``.

    :raises ConfigError: the prompts' file cannot be read.
    """
    lines = _builtin_text() if prompts is None else _text_of(prompts)
    where = (folder or state_dir() / "mixing") / f"{_name(model, lines)}.json"
    found = _read(where)
    if found is None:
        logger.warning("measuring T and S of %s (once)", model.name)
        found = calibrate_mixing(model, read_prompts(model, lines))
        _write(where, found)
    return found if bound is None else replace(found, bound=bound)


def builtin_prompts(model: RotaryModel) -> list[PromptPieces]:
    """A few questions with documents in plain English."""
    return read_prompts(model, _builtin_text())


def read_prompts(model: RotaryModel, lines: str) -> list[PromptPieces]:
    """Prompts of a JSONL text: ``{"prefix", "documents": [{"title", "text"}], "question"}``.

    :raises ConfigError: a line is not of that shape; names it.
    """
    found = []
    for number, line in enumerate(lines.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            documents = [
                DEFAULT_DOCUMENT_TEMPLATE.replace("{title}", document["title"]).replace(
                    "{text}", document["text"]
                )
                for document in row["documents"]
            ]
            pieces = PromptPieces(
                prefix=tuple(model.token_ids(row["prefix"])),
                documents=tuple(tuple(model.token_ids(text)) for text in documents),
                suffix=tuple(model.token_ids(row["question"])),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"calibration prompts, line {number}: needs prefix, documents (title, text) and "
                f"question ({type(error).__name__}: {error})"
            ) from error
        found.append(pieces)
    return found


def _builtin_text() -> str:
    return resources.files("ctxpress.engine").joinpath(_PROMPTS).read_text("utf-8")


def _text_of(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error


def _name(model: RotaryModel, lines: str) -> str:
    identity = model.identity
    parts = (str(_VERSION), identity.model, identity.revision, identity.tokenizer, identity.rope)
    return hashlib.sha256("\0".join((*parts, str(model.dtype), lines)).encode()).hexdigest()


def _read(path: Path) -> MixingCalibration | None:
    """What was kept; None for anything that is not whole, which is measured again."""
    try:
        row: dict[str, Any] = json.loads(path.read_text("utf-8"))
        row.pop("accepted")
        row["mixing"], row["inverse"] = Mixing(**row["mixing"]), Mixing(**row["inverse"])
        return MixingCalibration(**row)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("%s: not a calibration, measured anew (%s)", path, error)
        return None


def _write(path: Path, found: MixingCalibration) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, suffix=".part", delete=False, encoding="utf-8"
        ) as draft:
            json.dump(found.report(), draft, indent=1, sort_keys=True)
        os.replace(draft.name, path)
    except OSError as error:
        logger.warning("%s: cannot be kept (%s)", path, error)
