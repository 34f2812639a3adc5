"""What was measured of a model's KV once, for codecs that adapt to it.

A calibration is data: named arrays and a few named texts and integers in one safetensors file,
known by the SHA-256 of its canonical bytes. Containers name that digest, so KV is never decoded
with another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ctxpress.errors import CodecError, MissingDependencyError

__all__ = ["Calibration"]

_METADATA_KEY = "ctxpress"
_MAX_FILE_BYTES = 2**30
_DTYPES = ("float32", "float16", "int64", "int32", "int16", "uint16", "int8", "uint8")


class Calibration:
    """Named arrays and facts about one model's KV. Immutable.

    ``arrays``: numpy arrays of plain dtypes. ``facts``: names to integers and texts, such as
    ``model``, ``n_layers`` and what each array is for. ``sha256``: the digest of both.

    :raises CodecError: an array is of another dtype, or a fact is neither integer nor text.
    """

    __slots__ = ("arrays", "facts", "sha256")

    def __init__(self, arrays: Mapping[str, np.ndarray], facts: Mapping[str, int | str]) -> None:
        self.arrays = {name: _frozen(name, arrays[name]) for name in sorted(arrays)}
        self.facts = {name: _fact(name, facts[name]) for name in sorted(facts)}
        self.sha256 = _digest(self.arrays, self.facts)

    def __repr__(self) -> str:
        return f"Calibration({self.sha256[:12]}, {len(self.arrays)} arrays, {self.facts})"

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read a calibration file.

        :raises CodecError: it is missing, too large, damaged, or no calibration.
        :raises MissingDependencyError: the package ``safetensors`` is not installed.
        """
        safetensors = _safetensors()
        try:
            if path.stat().st_size > _MAX_FILE_BYTES:
                raise CodecError(f"{path}: larger than {_MAX_FILE_BYTES} bytes")
            with safetensors.safe_open(path, framework="numpy") as file:
                text = (file.metadata() or {}).get(_METADATA_KEY)
                arrays = {name: file.get_tensor(name) for name in file.keys()}
        except (OSError, ValueError, safetensors.SafetensorError) as error:
            raise CodecError(f"{path}: not a calibration ({error})") from error
        try:
            stored: Any = json.loads(text) if text is not None else None
        except ValueError:
            stored = None
        if not isinstance(stored, dict) or "sha256" not in stored:
            raise CodecError(f"{path}: not a calibration (no facts)")
        digest = stored.pop("sha256")
        calibration = cls(arrays, stored)
        if calibration.sha256 != digest:
            raise CodecError(f"{path}: damaged; its digest does not match")
        return calibration

    def save(self, path: Path) -> None:
        """Write the calibration as a safetensors file.

        :raises MissingDependencyError: the package ``safetensors`` is not installed.
        """
        _safetensors()
        from safetensors.numpy import save_file

        facts = json.dumps({**self.facts, "sha256": self.sha256}, sort_keys=True)
        save_file(dict(self.arrays), str(path), metadata={_METADATA_KEY: facts})


def _frozen(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.name not in _DTYPES:
        raise CodecError(f"calibration array {name!r} is {array.dtype}; not one of {_DTYPES}")
    copy = np.array(array, order="C")
    copy.flags.writeable = False
    return copy


def _fact(name: str, value: object) -> int | str:
    if type(value) is not int and not isinstance(value, str):
        raise CodecError(f"calibration fact {name!r} is neither an integer nor a text")
    return value


def _digest(arrays: Mapping[str, np.ndarray], facts: Mapping[str, int | str]) -> str:
    head = [[name, array.dtype.name, list(array.shape)] for name, array in arrays.items()]
    digest = hashlib.sha256(json.dumps([head, dict(facts)], sort_keys=True).encode())
    for array in arrays.values():
        digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()


def _safetensors() -> Any:
    try:
        import safetensors
    except ImportError as error:
        raise MissingDependencyError(
            "calibrations need safetensors: pip install 'ctxpress[torch]'"
        ) from error
    return safetensors
