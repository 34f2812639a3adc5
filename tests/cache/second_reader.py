"""A second reader of containers, written from ctxpress/cache/FORMAT.md alone.

It shares no code with ctxpress, does each check of the page, and is not fast. What the page calls
MUST for a reader is an assertion here.
"""

from __future__ import annotations

import json
import math
import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

FIELDS = {"calibration", "codec", "codec_version", "identity", "keys_rotated", "layout",
          "parameters", "position_start", "sections"}  # fmt: skip
IDENTITY = {"dtype", "model", "revision", "rope", "shard", "tokenizer", "tokens"}
LIMITS = {"n_layers": (1, 1024), "n_kv_heads": (1, 1024), "n_tokens": (0, 2**20),
          "head_dim": (1, 4096)}  # fmt: skip
ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass
class Read:
    """What a container holds; keys and values in float32, which has room for all three dtypes."""

    header: dict[str, Any]
    keys: np.ndarray
    values: np.ndarray


def read(data: bytes) -> Read:
    """The whole container."""
    header, offset = read_header(data)
    layout = header["layout"]
    shape = tuple(layout[name] for name in ("n_layers", "n_kv_heads", "n_tokens", "head_dim"))
    keys, values = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    ends_at = offset + sum(size for _, _, size, _ in header["sections"])
    assert len(data) == ends_at, "a byte is missing, or one too many"
    for first, last, size, checksum in header["sections"]:
        section = data[offset : offset + size]
        offset += size
        assert zlib.crc32(section) == checksum
        if (first, last) != (0, 0):
            read_section(header, section, keys[first:last], values[first:last])
    return Read(header, keys, values)


def read_header(data: bytes) -> tuple[dict[str, Any], int]:
    """The header, and where the sections begin."""
    magic, version, flags, size, checksum = struct.unpack("<8sHHII", data[:20])
    assert magic == bytes.fromhex("89 43 54 58 4B 56 0D 0A")
    assert (version, flags) == (1, 0)
    assert size <= 1_048_576
    text = data[20 : 20 + size]
    assert len(text) == size
    assert zlib.crc32(text) == checksum
    assert re.fullmatch(rb"[ -~]*", text)
    header = json.loads(text)
    assert json.dumps(header, sort_keys=True, separators=(",", ":")).encode() == text
    assert set(header) == FIELDS
    assert re.fullmatch(r"([0-9a-f]{64})?", header["calibration"])
    assert re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", header["codec"])
    assert is_integer(header["codec_version"], 0, 65_535)
    assert is_integer(header["position_start"], 0, 2_147_483_647)
    assert type(header["keys_rotated"]) is bool
    check_parameters(header["parameters"], 1)
    layout, identity = header["layout"], header["identity"]
    assert set(layout) == {"dtype", *LIMITS}
    assert layout["dtype"] in ITEM_BYTES
    assert all(is_integer(layout[name], *LIMITS[name]) for name in LIMITS)
    assert set(identity) == IDENTITY
    assert all(type(text) is str and len(text) <= 512 for text in identity.values())
    assert identity["dtype"] in ("", layout["dtype"])
    check_sections(header["sections"], layout)
    return header, 20 + size


def check_parameters(value: object, depth: int) -> None:
    if isinstance(value, Mapping | list):
        assert depth <= 5
        for item in value.values() if isinstance(value, Mapping) else value:
            check_parameters(item, depth + 1)
    else:
        assert isinstance(value, str) or is_integer(value, -(2**63), 2**63 - 1)


def check_sections(rows: list[list[int]], layout: Mapping[str, Any]) -> None:
    expected = 0
    layer_bytes = decoded_bytes(layout) // layout["n_layers"]
    assert decoded_bytes(layout) <= 2**31
    for number, (first, last, size, checksum) in enumerate(rows):
        assert is_integer(checksum, 0, 2**32 - 1)
        if number == 0 and (first, last) == (0, 0):
            n_layers = layout["n_layers"]
        else:
            assert first == expected
            assert last > first
            n_layers, expected = last - first, last
        assert is_integer(size, 0, 2 * n_layers * layer_bytes + 2**20)
    assert expected == layout["n_layers"]


def read_section(
    header: Mapping[str, Any], section: bytes, keys: np.ndarray, values: np.ndarray
) -> None:
    """One section of layers, into arrays of ``(its layers, heads, tokens, head_dim)``."""
    exact = header["parameters"]["exact_tokens"]
    assert all(is_integer(token, 0, keys.shape[2] - 1) for token in exact)
    assert exact == sorted(set(exact))
    dtype = header["layout"]["dtype"]
    rows_shape = (*keys.shape[:2], len(exact), keys.shape[3])
    (n,) = struct.unpack("<I", section[:4])
    assert n == 2 * math.prod(rows_shape) * ITEM_BYTES[dtype]
    rows = [floats(half, dtype).reshape(rows_shape) for half in halves(section[4 : 4 + n])]
    own = section[4 + n :]
    assert header["codec_version"] == 1
    if header["codec"] == "raw":
        assert len(own) == 2 * keys.size * ITEM_BYTES[dtype]
        for tensor, half in zip((keys, values), halves(own), strict=True):
            tensor[...] = floats(half, dtype).reshape(tensor.shape)
    else:
        assert header["codec"] in ("int8", "int4"), "no such codec"
        integers(own, 8 if header["codec"] == "int8" else 4, dtype, keys, values)
    for tensor, exactly in zip((keys, values), rows, strict=True):
        tensor[:, :, exact] = exactly


def integers(own: bytes, bits: int, dtype: str, keys: np.ndarray, values: np.ndarray) -> None:
    """Section 4.2 of the page."""
    n_layers, n_heads, n_tokens, head_dim = keys.shape
    assert n_layers == 1
    r, n = n_heads * n_tokens, n_heads * n_tokens * head_dim
    packed = -(-n * bits // 8)
    assert len(own) == 2 * (2 * r + packed)
    for place, tensor in enumerate((keys, values)):
        scales = floats(own[2 * r * place : 2 * r * (place + 1)], "bfloat16")
        assert np.isfinite(scales).all()
        assert not np.signbit(scales).any()
        start = 4 * r + packed * place
        symbols = np.frombuffer(own[start : start + packed], np.int8).astype(np.int32)
        if bits == 4:
            low, high = (symbols & 15), (symbols >> 4) & 15
            assert n % 2 == 0 or high[-1] == 0
            nibbles = np.concatenate([low, high])[:n]
            symbols = np.where(nibbles > 7, nibbles - 16, nibbles)
        shaped = symbols.reshape(tensor.shape[1:]).astype(np.float64)
        exact = shaped * scales.reshape(n_heads, n_tokens, 1).astype(np.float64)
        tensor[0] = rounded(exact, dtype)


def rounded(numbers: np.ndarray, dtype: str) -> np.ndarray:
    """To the nearest number of ``dtype``, ties to even, within its finite range, as float32."""
    most = {
        "float32": float(np.finfo(np.float32).max),
        "float16": 65504.0,
        "bfloat16": float(floats(b"\x7f\x7f", "bfloat16")[0]),
    }[dtype]
    limited = np.clip(numbers, -most, most)
    if dtype == "float16":
        return limited.astype(np.float16).astype(np.float32)
    single = limited.astype(np.float32)  # exact, or past the limit above
    if dtype == "float32":
        return single
    bits = single.view(np.uint32)
    even = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return even.astype(np.uint32).view(np.float32)


def floats(data: bytes, dtype: str) -> np.ndarray:
    """Little-endian numbers as float32."""
    if dtype == "bfloat16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(data, "<f4" if dtype == "float32" else "<f2").astype(np.float32)


def halves(data: bytes) -> tuple[bytes, bytes]:
    return data[: len(data) // 2], data[len(data) // 2 :]


def decoded_bytes(layout: Mapping[str, Any]) -> int:
    n_values = math.prod(layout[name] for name in LIMITS)
    return 2 * n_values * ITEM_BYTES[layout["dtype"]]


def is_integer(value: object, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most
