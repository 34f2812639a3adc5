"""The numbers that plans are made of, read from the files beside this module."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from typing import Any

from ctxpress.errors import ConfigError
from ctxpress.nearest import did_you_mean

__all__ = ["CodecCost", "Gpu", "codec_costs", "gpu_named", "measured_on", "read_constants"]


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU: its dense bf16 peak and its memory."""

    name: str
    bf16_tflops: float
    memory_gb: float


@dataclass(frozen=True, slots=True)
class CodecCost:
    """What a codec was measured to make of KV.

    ``bits_per_value``: in its container, everything included. ``decode_gb_per_s``: gigabytes of
    fp16 KV that one CPU core decodes in a second.
    """

    name: str
    bits_per_value: float
    decode_gb_per_s: float

    def stored_bytes(self, fp16_bytes: float) -> float:
        """What so many bytes of fp16 KV take in a store."""
        return fp16_bytes * self.bits_per_value / 16


def gpu_named(name: str) -> Gpu:
    """A GPU of ``gpus.json``.

    :raises ConfigError: it is not there.
    """
    known = read_constants("gpus")["gpus"]
    if name not in known:
        raise ConfigError(f"no GPU is called {name!r}{did_you_mean(name, known)}")
    return Gpu(name, known[name]["bf16_tflops"], known[name]["memory_gb"])


def codec_costs(names: tuple[str, ...] = ()) -> tuple[CodecCost, ...]:
    """Codecs of ``codecs.json`` by their names; all of them, where none is named.

    :raises ConfigError: one is not there.
    """
    known = read_constants("codecs")["codecs"]
    for name in names:
        if name not in known:
            raise ConfigError(f"no measured codec is called {name!r}{did_you_mean(name, known)}")
    return tuple(CodecCost(name, **known[name]) for name in names or known)


def measured_on() -> str:
    """What the codecs were measured on, as a sentence."""
    sentence: str = read_constants("codecs")["measured_on"]
    return sentence


def read_constants(name: str) -> dict[str, Any]:
    """One of the files beside this module."""
    text = resources.files("ctxpress.planning").joinpath(f"{name}.json").read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    return found
