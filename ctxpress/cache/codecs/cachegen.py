"""``cachegen-1``, ``-2``, ``-3`` and ``cachegen-auto``: quantised KV, entropy-coded by channel.

After CacheGen (Liu et al., SIGCOMM 2024, arXiv 2310.07240), with what its released code leaves out
or gets wrong put right: scales a head instead of one over all heads, means and scales of key
channels (KIVI, arXiv 2402.02750), tables that cost next to nothing, anchors and deltas in rows
where they save bytes, bytes that are safe to read.

``cachegen-1`` to ``-3`` take the published bins (``cachegen_levels.py``) and need no calibration.
``cachegen-auto`` takes means and steps of every channel from a calibration
(``cachegen_steps.py``).
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch

from ctxpress.cache.calibration import Calibration
from ctxpress.cache.codec import NonFinite
from ctxpress.cache.codecs.cachegen_copies import decode_copies, encode_copies, find_copies
from ctxpress.cache.codecs.cachegen_decoding import DTYPES, decode_section
from ctxpress.cache.codecs.cachegen_delta import choose_rows, from_deltas, to_deltas
from ctxpress.cache.codecs.cachegen_levels import LEVELS
from ctxpress.cache.codecs.cachegen_parsing import FIELDS, HAS_CHANNELS, TENSORS
from ctxpress.cache.codecs.cachegen_quantiser import (
    ChannelScales,
    QuantisedTokens,
    dequantise,
    measure_channels,
    quantise,
)
from ctxpress.cache.codecs.cachegen_scales import LEAST_RUNG, all_rungs, ladder
from ctxpress.cache.codecs.cachegen_section import (
    SectionWriter,
    TensorStreams,
    TokenStreams,
    bytes_of,
    find_fields,
    read_channels,
    read_token_rungs,
    streams_of,
    without_zstd,
)
from ctxpress.cache.codecs.cachegen_steps import CalibratedSteps
from ctxpress.cache.codecs.entropy import decode_symbols, encode_symbols
from ctxpress.cache.codecs.entropy.classes import ladder as weight_ladder
from ctxpress.cache.codecs.entropy.tables import static_densities
from ctxpress.cache.codecs.methods import EncodedSections
from ctxpress.cache.codecs.sectioned import SectionedCodec
from ctxpress.cache.container import ContainerHeader
from ctxpress.cache.kv import KVBlock
from ctxpress.errors import CalibrationMissingError, ConfigError, CorruptContainerError

__all__ = ["CacheGenCodec", "create"]

N_SINKS = 4
_SINK_MOST = 127
SINK_RUNGS = -12  # sinks are eight times finer where steps come from a calibration
_SINKS, _SAVED = "sinks", "delta_saved_bytes"


class CacheGenCodec(SectionedCodec):
    """CacheGen at a published level, or with steps from a calibration."""

    version: ClassVar[int] = 1

    def __init__(
        self,
        name: str,
        calibration: Calibration | None,
        *,
        non_finite: NonFinite,
        threads: int,
        device: str,
    ) -> None:
        super().__init__(name, calibration, non_finite=non_finite, threads=threads, device=device)
        self._level = LEVELS.get(name)
        self._steps = None if calibration is None else CalibratedSteps(calibration)

    def encode_sections(self, block: KVBlock) -> EncodedSections:
        """See :class:`SectionMethods`."""
        if self._steps is not None:
            self._steps.require(block.n_layers, block.n_kv_heads, block.head_dim)
        n_sinks = min(N_SINKS, block.n_tokens) if block.position_start == 0 else 0
        layers = range(block.n_layers)

        def encode_one(layer: int) -> tuple[list[bytes], int]:
            return self._encode_layer(block, layer, n_sinks)

        if self._threads == 1 or block.n_layers == 1:
            encoded = [encode_one(layer) for layer in layers]
        else:
            with ThreadPoolExecutor(min(self._threads, block.n_layers)) as pool:
                encoded = list(pool.map(encode_one, layers))
        return EncodedSections(
            sections=[((i, i + 1), parts) for i, (parts, _) in enumerate(encoded)],
            parameters={_SINKS: n_sinks, _SAVED: sum(saved for _, saved in encoded)},
        )

    def check_section(
        self, header: ContainerHeader, index: int, section: memoryview, shared: memoryview
    ) -> None:
        """See :class:`SectionMethods`."""
        self._fields(header, index, section)

    def decode_into(
        self,
        header: ContainerHeader,
        index: int,
        section: memoryview,
        shared: memoryview,
        keys: torch.Tensor,
        values: torch.Tensor,
    ) -> None:
        """See :class:`SectionMethods`."""
        fields, n_sinks = self._fields(header, index, section)
        layer = header.sections[index].layers[0]
        if self._decoded_at_once(layer, section, fields, n_sinks, keys[0], values[0]):
            return
        streams = streams_of(section, fields, 2 if n_sinks else 1)
        places = None
        if streams.copies:
            places = decode_copies(streams.copies, header.layout.n_tokens - n_sinks)
        for kind, (tensor, parts) in enumerate(
            ((keys[0], streams.keys), (values[0], streams.values))
        ):
            channels = read_channels(parts, (tensor.shape[0], tensor.shape[2]))
            if channels is None and self._steps is not None:
                channels = self._steps.channels(layer, kind)
            if channels is None:
                raise CorruptContainerError(f"section {index} does not name its channels' scales")
            _decode_tensor(parts, channels, places, tensor)

    def describe_own(
        self, header: ContainerHeader, index: int, section: memoryview, shared: memoryview
    ) -> dict[str, int]:
        """See :class:`SectionMethods`."""
        fields, n_sinks = self._fields(header, index, section)
        streams = streams_of(section, fields, 2 if n_sinks else 1)
        sizes = {**streams.keys.sizes("k"), **streams.values.sizes("v")}
        if streams.copies:
            sizes["symbols_copies"] = sum(map(len, streams.copies))
        return {**sizes, "framing": len(section) - sum(sizes.values())}

    def _fields(
        self, header: ContainerHeader, index: int, section: memoryview
    ) -> tuple[np.ndarray, int]:
        """Where the section's streams lie, and how many tokens are sinks."""
        first, last = header.sections[index].layers
        n_sinks = header.parameters.get(_SINKS)
        wanted = min(N_SINKS, header.layout.n_tokens) if header.position_start == 0 else 0
        if last - first != 1 or n_sinks != wanted:
            raise CorruptContainerError(
                f"section {index} holds {last - first} layers and {n_sinks} sinks, "
                f"not one and {wanted}"
            )
        if self._steps is not None:
            layout = header.layout
            self._steps.require(layout.n_layers, layout.n_kv_heads, layout.head_dim)
        return find_fields(section, index, 2 if wanted else 1), wanted

    def _decoded_at_once(
        self,
        layer: int,
        section: memoryview,
        fields: np.ndarray,
        n_sinks: int,
        keys: torch.Tensor,
        values: torch.Tensor,
    ) -> bool:
        """Decode all streams in one compiled call, if all of them can be decoded there."""
        if keys.device.type != "cpu" or keys.numel() == 0 or sys.byteorder != "little":
            return False
        flags = (fields[TENSORS + 2], fields[TENSORS + FIELDS + 2])
        if self._steps is None and not all(one & HAS_CHANNELS for one in flags):
            return False
        shape = (keys.shape[0], keys.shape[2])
        scales, means = np.empty((2, 2, *shape), np.float32)
        if self._steps is not None:
            for kind in (0, 1):
                channels = self._steps.channels(layer, kind)
                scales[kind], means[kind] = channels.scales, channels.means
        width = keys.shape[2] * keys.element_size() // 2
        fields, plain = without_zstd(section, fields, keys.shape, n_sinks)
        done: bool = decode_section(
            bytes_of(section),
            fields,
            plain,
            n_sinks,
            scales,
            means,
            all_rungs(),
            static_densities(),
            weight_ladder(),
            DTYPES.index(str(keys.dtype).removeprefix("torch.")),
            torch.finfo(keys.dtype).max,
            *(tensor.view(torch.uint16).numpy().reshape(-1, width) for tensor in (keys, values)),
        )
        return done

    def _encode_layer(self, block: KVBlock, layer: int, n_sinks: int) -> tuple[list[bytes], int]:
        writer = SectionWriter()
        both = [self._quantised(block, layer, kind, n_sinks) for kind in (0, 1)]
        parts = [part for one in both for part in (one.body.symbols, one.body.token_rungs)]
        places = find_copies(parts)
        writer.copies([] if places is None else encode_copies(places))
        if places is not None:
            kept = np.unique(places, return_index=True)[1]
            both = [replace(one, body=one.body.of_tokens(kept)) for one in both]
        return writer.parts, sum(_write_tensor(writer, one) for one in both)

    def _quantised(self, block: KVBlock, layer: int, kind: int, n_sinks: int) -> _QuantisedTensor:
        tensor = (block.keys, block.values)[kind]
        rows = tensor[layer].detach().float().contiguous().cpu().numpy()
        if self._steps is not None:
            channels, most, least = self._steps.channels(layer, kind), self._steps.most, 0
        else:
            channels = measure_channels(rows, n_sinks, with_means=kind == 0, with_scales=kind == 0)
            most, least = self._most(layer, block.n_layers)[kind], LEAST_RUNG
        sinks = None
        if n_sinks:
            least_sink = least + SINK_RUNGS
            sinks = quantise(rows, (0, n_sinks), channels, _SINK_MOST, least_rung=least_sink)
        body = quantise(rows, (n_sinks, block.n_tokens), channels, most, least_rung=least)
        return _QuantisedTensor(channels, sinks, body)

    def _most(self, layer: int, n_layers: int) -> tuple[int, int]:
        if self._level is None:
            raise ConfigError(f"codec {self.name!r} has no published level")
        return self._level.most_symbols(layer, n_layers)


def create(
    name: str,
    calibration: Calibration | None,
    *,
    non_finite: NonFinite,
    threads: int,
    device: str,
) -> CacheGenCodec:
    """See :class:`~ctxpress.cache.codec.CodecFactory`.

    :raises CalibrationMissingError: ``cachegen-auto`` without a calibration.
    """
    if name in LEVELS:
        calibration = None  # their bins are the published ones, whatever was measured
    elif calibration is None:
        raise CalibrationMissingError(
            f"codec {name!r} needs a calibration; `ctxpress kv calibrate` measures one", sha256=""
        )
    return CacheGenCodec(name, calibration, non_finite=non_finite, threads=threads, device=device)


@dataclass(frozen=True, slots=True)
class _QuantisedTensor:
    """Keys or values of a layer: their channels, the first tokens of a sequence, all others."""

    channels: ChannelScales
    sinks: QuantisedTokens | None
    body: QuantisedTokens


def _write_tensor(writer: SectionWriter, tensor: _QuantisedTensor) -> int:
    """Write keys or values of a layer; the bytes that deltas saved."""
    symbols, most = tensor.body.symbols, tensor.body.most
    plain = encode_symbols(symbols, 2 * most + 1)
    encoded, saved = plain, 0
    deltas = choose_rows(symbols, most)
    if deltas.any():
        mixed = encode_symbols(to_deltas(symbols, most, deltas), 2 * most + 1)
        named = len(encode_symbols(deltas.astype(np.uint8).reshape(1, -1), 2)) + 4
        saved = max(0, len(plain) - len(mixed) - named)
        encoded = mixed if saved else plain
    writer.tensor(tensor.channels, deltas if saved else None)
    if tensor.sinks is not None:
        writer.tokens(tensor.sinks, encode_symbols(tensor.sinks.symbols, 2 * _SINK_MOST + 1))
    writer.tokens(tensor.body, encoded)
    return saved


def _decode_tensor(
    streams: TensorStreams, channels: ChannelScales, places: np.ndarray | None, out: torch.Tensor
) -> None:
    n_tokens = out.shape[1]
    if len(streams.runs) > 1:
        n_sinks = min(N_SINKS, n_tokens)
        _decode_run(streams.runs[0], None, channels, None, out[:, :n_sinks])
        out = out[:, n_sinks:]
    _decode_run(streams.runs[-1], streams.deltas, channels, places, out)


def _decode_run(
    run: TokenStreams,
    deltas: memoryview | None,
    channels: ChannelScales,
    places: np.ndarray | None,
    out: torch.Tensor,
) -> None:
    n_heads, n_tokens, head_dim = out.shape
    n_coded = n_tokens if places is None else int(places.max(initial=-1)) + 1
    symbols = decode_symbols(run.symbols, (n_heads * head_dim, n_coded), 2 * run.most + 1)
    if deltas is not None:
        rows = decode_symbols(deltas, (1, n_heads * head_dim), 2).reshape(-1).astype(bool)
        from_deltas(symbols, run.most, rows)
    rungs = read_token_rungs(run, (n_heads, n_coded))
    if rungs.size and not np.isfinite(ladder(rungs.max()) * channels.scales.max()):
        raise CorruptContainerError("a token's scale times a channel's is no finite number")
    tokens = QuantisedTokens(symbols, rungs, run.most)
    dequantise(tokens if places is None else tokens.of_tokens(places), channels, out)
