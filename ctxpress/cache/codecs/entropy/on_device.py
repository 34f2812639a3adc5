"""Decoding on a GPU: the loops of ``kernels.py`` as torch operations, many streams at once.

Every lane of every stream is one element of a tensor, so a step of all of them is some twenty
operations on it. All arithmetic is on integers: symbols are the same bits on any device. The tests
run this code on the CPU; no GPU has run it yet, and its speed there is not known. The codecs decode
symbols on the CPU and move them, one byte each, to where they become numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ctxpress.cache.codecs.entropy import kernels
from ctxpress.cache.codecs.entropy.outliers import place_outliers
from ctxpress.cache.codecs.entropy.rans import ParsedStream
from ctxpress.cache.codecs.entropy.stream_kernels import order_of, tables_of
from ctxpress.errors import CorruptContainerError

__all__ = ["decode_streams"]

_LOW = 1 << 31


def decode_streams(
    streams: Sequence[ParsedStream], shapes: Sequence[tuple[int, int]], device: torch.device
) -> list[torch.Tensor]:
    """The symbols of rANS streams, each uint8 of its shape ``(n_rows, n_columns)``, on ``device``.

    :raises CorruptContainerError: a stream does not end where its symbols do.
    """
    lanes = [_Lanes.of(stream, shape) for stream, shape in zip(streams, shapes, strict=True)]
    found: list[torch.Tensor] = [torch.empty(0)] * len(lanes)
    for n_lanes in sorted({stream.n_lanes for stream in streams}):
        alike = [i for i, stream in enumerate(streams) if stream.n_lanes == n_lanes]
        groups = _decode_alike([lanes[i] for i in alike], n_lanes, device)
        for i, grouped in zip(alike, groups, strict=True):
            found[i] = _expanded(streams[i], shapes[i], grouped)
    return found


@dataclass(frozen=True, slots=True)
class _Lanes:
    """One stream as the loop needs it: int64 arrays; ``kinds`` is the table of each group."""

    words: np.ndarray
    kinds: np.ndarray
    tables: np.ndarray

    @classmethod
    def of(cls, stream: ParsedStream, shape: tuple[int, int]) -> _Lanes:
        if stream.words.size < 2 * stream.n_lanes:
            raise CorruptContainerError("the words of a rANS stream end early")
        classes = stream.classes
        tables = tables_of(classes.heads, classes.weights)
        counts = np.diff(classes.segments(shape[1]))
        kinds = np.repeat(np.arange(len(counts)), counts)
        return cls(stream.words.astype(np.int64), kinds, tables.astype(np.int64))


def _decode_alike(
    lanes: Sequence[_Lanes], n_lanes: int, device: torch.device
) -> list[torch.Tensor]:
    """The groups of streams that have the same number of lanes, uint8."""
    word_ends = np.cumsum([one.words.size for one in lanes])
    table_starts = np.cumsum([0, *(len(one.tables) for one in lanes[:-1])])
    words = torch.from_numpy(np.concatenate([one.words for one in lanes])).to(device)
    tables = torch.from_numpy(np.concatenate([one.tables for one in lanes])).to(device).reshape(-1)
    n_groups = torch.tensor([one.kinds.size for one in lanes], device=device).unsqueeze(1)
    n_steps = -(-int(n_groups.max()) // n_lanes)
    kinds = torch.zeros(len(lanes), n_steps * n_lanes, dtype=torch.int64)
    for row, (one, start) in enumerate(zip(lanes, table_starts, strict=True)):
        kinds[row, : one.kinds.size] = torch.from_numpy(one.kinds + start)
    kinds = (kinds * kernels.TABLE_SIZE).to(device)
    ends = torch.from_numpy(word_ends).to(device).unsqueeze(1)
    begins = ends - torch.tensor([one.words.size for one in lanes], device=device).unsqueeze(1)
    lane = torch.arange(n_lanes, device=device).unsqueeze(0)
    states = words[begins + 2 * lane] | (words[begins + 2 * lane + 1] << 32)
    places = begins + 2 * n_lanes
    out = torch.zeros(len(lanes), n_steps * n_lanes, dtype=torch.uint8, device=device)
    for step in range(n_steps + n_steps % 2):
        if step < n_steps:
            part = slice(step * n_lanes, (step + 1) * n_lanes)
            active = step * n_lanes + lane < n_groups
            entries = tables[kinds[:, part] + (states & (kernels.TABLE_SIZE - 1))]
            after = (entries & 0xFFF) * (states >> 12) + ((entries >> 12) & 0xFFF)
            states = torch.where(active, after, states)
            out[:, part] = (entries >> 24).to(torch.uint8)
        if step % 2 == 1:  # only then may a lane take a word, as in the kernels
            need = states < _LOW
            rank = need.cumsum(1) - 1
            taken = words[torch.minimum(places + rank.clamp_min(0), ends - 1)]
            states = torch.where(need, (states << 32) | taken, states)
            places = places + need.sum(1, keepdim=True)
    if not (bool((places == ends).all()) and bool((states == _LOW).all())):
        raise CorruptContainerError("a rANS stream does not end where its symbols do")
    return [out[row, : one.kinds.size] for row, one in enumerate(lanes)]


def _expanded(stream: ParsedStream, shape: tuple[int, int], grouped: torch.Tensor) -> torch.Tensor:
    classes, device = stream.classes, grouped.device
    n_rows, n_columns = shape
    rows = order_of(classes.of_rows, len(classes.heads))
    heads = torch.from_numpy(classes.heads[classes.of_rows[rows]]).to(device)
    lows, widths, groups = heads[:, 1], heads[:, 2], heads[:, 3]
    n_of_row = (n_columns + groups - 1) // groups
    row = torch.repeat_interleave(torch.arange(n_rows, device=device), n_of_row)
    column = torch.arange(len(row), device=device) - (n_of_row.cumsum(0) - n_of_row)[row]
    column *= groups[row]
    rest, out = grouped.to(torch.int64), torch.empty(shape, dtype=torch.uint8, device=device)
    order = torch.from_numpy(rows).to(device)
    for digit in range(int(groups.max())):
        here = (digit < groups[row]) & (column + digit < n_columns)
        symbols = (lows[row] + rest % widths[row]).to(torch.uint8)
        out[order[row[here]], (column + digit)[here]] = symbols[here]
        rest = rest // widths[row]
    return _with_outliers(stream, out)


def _with_outliers(stream: ParsedStream, out: torch.Tensor) -> torch.Tensor:
    if stream.outliers.size == 0:
        return out
    on_host = out.cpu().numpy()
    if not place_outliers(stream.outliers, 256, on_host.shape[1], on_host):
        raise CorruptContainerError("the outliers of a rANS stream are no whole list")
    return torch.from_numpy(on_host).to(out.device)
