"""What a vLLM is, as far as the connector must know: checked, and refused where it does not fit."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctxpress.cache.calibration import Calibration
from ctxpress.cache.codec import Codec, create_codec
from ctxpress.engine.rope import RotaryPositions
from ctxpress.errors import CodecError, ConfigError, ModelError
from ctxpress.integrations.vllm.rotary import rotary_positions
from ctxpress.integrations.vllm.settings import ConnectorSettings

__all__ = ["ServedModel", "chunk_tokens", "codec_of", "served_model"]

logger = logging.getLogger("vllm.ctxpress")

# Options of models whose keys carry positions in some layers only, which cannot be seen from keys.
_WITHOUT_ROTATION = ("no_rope_layers", "no_rope_layer_interval", "nope_layer_interval")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """``rope`` is None where keys cannot be taken off their positions; ``parallel_refused`` says
    why documents cannot be used in parallel, empty where they can.
    """

    block_size: int
    tensor_parallel_size: int
    rope: RotaryPositions | None
    parallel_refused: str


def served_model(vllm_config: Any, kv_cache_config: Any) -> ServedModel:
    """What this vLLM serves.

    :raises ConfigError: its KV is not one key and one value a token, layer and head on every rank,
        or failed loads would fail requests.
    """
    transfer = vllm_config.kv_transfer_config
    if transfer.kv_role != "kv_both":
        raise ConfigError('set "kv_role": "kv_both": every replica stores and loads')
    if transfer.kv_load_failure_policy != "recompute":
        raise ConfigError(
            'set "kv_load_failure_policy": "recompute" in --kv-transfer-config: '
            "what a store loses must cost time, never an answer"
        )
    parallel, model = vllm_config.parallel_config, vllm_config.model_config
    for name in (
        "pipeline_parallel_size", "decode_context_parallel_size", "prefill_context_parallel_size",
    ):  # fmt: skip
        if getattr(parallel, name, 1) > 1:
            raise ConfigError(f"{name} above 1 is not supported by the connector")
    if model.use_mla:
        raise ConfigError("models with latent attention (MLA) are not supported by the connector")
    if vllm_config.cache_config.cache_dtype not in ("auto", "bfloat16", "float16"):
        raise ConfigError("a quantised KV cache is not supported: --kv-cache-dtype auto")
    groups = kv_cache_config.kv_cache_groups
    if len(groups) != 1 or not hasattr(groups[0].kv_cache_spec, "num_kv_heads"):
        raise ConfigError(
            "the connector needs one kind of attention in all layers, each keeping keys and values"
        )
    rope, refused = None, ""
    try:
        rope = rotary_positions(model.hf_text_config, model.get_head_size())
    except ModelError as error:
        refused = str(error)
        logger.warning("KV of prefixes only, none of documents in parallel: %s", error)
    if getattr(groups[0].kv_cache_spec, "sliding_window", None) is not None:
        refused = "some layers see a sliding window"
    if any(getattr(model.hf_text_config, name, None) for name in _WITHOUT_ROTATION):
        refused = "some layers do not rotate their keys"
    return ServedModel(
        block_size=int(vllm_config.cache_config.block_size),
        tensor_parallel_size=int(parallel.tensor_parallel_size),
        rope=rope,
        parallel_refused=refused,
    )


def codec_of(settings: ConnectorSettings) -> Codec:
    """The codec that the operator named.

    :raises ConfigError: there is none of that name, or its calibration is missing or wrong.
    """
    calibration = None
    if settings.calibration is not None:
        try:
            calibration = Calibration.load(Path(settings.calibration))
        except CodecError as error:
            raise ConfigError(f"kv_connector_extra_config.calibration: {error}") from error
    return create_codec(settings.codec, calibration)


def chunk_tokens(settings: ConnectorSettings, block_size: int) -> int:
    """The tokens of a chunk, in whole blocks."""
    return -(-settings.chunk_tokens // block_size) * block_size
