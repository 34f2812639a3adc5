"""Model variants that training measured: speed beside quality, read from JSON.

The file is a list of objects: `name`, `layers`, `tokens_per_second`, and `survival`, which maps
keep ratios written as strings to the share of questions whose answer survives.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctxpress.evaluation.datasets import DataError

__all__ = ["Variant", "read_variants"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One model: `survival[ratio]` and `ratio` are in [0, 1]."""

    name: str
    layers: int
    tokens_per_second: float
    survival: Mapping[float, float]


def read_variants(path: Path) -> list[Variant]:
    """All variants of the file.

    :raises DataError: the file is missing or malformed; the message names it and the entry.
    """
    try:
        rows = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}") from None
    if not isinstance(rows, list) or not rows:
        raise DataError(f"{path}: a list of variants is needed, not empty")
    return [_read(row, f"{path}: entry {number}") for number, row in enumerate(rows)]


def _read(row: Any, place: str) -> Variant:
    if not isinstance(row, dict):
        raise DataError(f"{place}: an object is needed, not {type(row).__name__}")
    name, layers, survival = row.get("name"), row.get("layers"), row.get("survival")
    if not isinstance(name, str) or not name:
        raise DataError(f"{place}: name: a string is needed")
    if type(layers) is not int or layers < 0:
        raise DataError(f"{place}: layers: a whole number, 0 or more, is needed")
    if not isinstance(survival, dict) or not survival:
        raise DataError(f"{place}: survival: an object of ratios is needed, not empty")
    return Variant(
        name=name,
        layers=layers,
        tokens_per_second=_number(row.get("tokens_per_second"), f"{place}: tokens_per_second"),
        survival={
            _share(key, f"{place}: survival"): _share(value, f"{place}: survival.{key}")
            for key, value in survival.items()
        },
    )


def _number(value: Any, place: str) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or value <= 0:
        raise DataError(f"{place}: a number above 0 is needed, not {value!r}")
    return float(value)


def _share(value: Any, place: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number <= 1:
        raise DataError(f"{place}: a number in [0, 1] is needed, not {value!r}")
    return number
