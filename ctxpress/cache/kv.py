"""Keys and values of a run of tokens, as tensors."""

from __future__ import annotations

from dataclasses import dataclass, field

from ctxpress.cache.identity import KVIdentity
from ctxpress.errors import CodecError, MissingDependencyError

try:
    import torch
except ModuleNotFoundError as error:
    raise MissingDependencyError("a KVBlock needs torch: pip install 'ctxpress[torch]'") from error

__all__ = ["DTYPES", "KVBlock"]

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


@dataclass(frozen=True, slots=True, eq=False)
class KVBlock:
    """Keys and values of ``n_tokens`` consecutive tokens in all layers.

    ``keys`` and ``values`` are ``(n_layers, n_kv_heads, n_tokens, head_dim)``, of one dtype
    (float32, float16 or bfloat16) and on one device, contiguous or not. ``position_start`` is the
    position of the first token. ``keys_rotated`` says whether the keys carry their rotary
    position embedding; keys that do not can be placed anywhere.

    :raises CodecError: shapes, dtypes or devices do not fit each other or the identity, or a
        dimension but the tokens is empty.
    """

    keys: torch.Tensor
    values: torch.Tensor
    position_start: int = 0
    keys_rotated: bool = False
    identity: KVIdentity = field(default_factory=KVIdentity)

    def __post_init__(self) -> None:
        keys, values = self.keys, self.values
        for name, tensor in (("keys", keys), ("values", values)):
            if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided:
                raise CodecError(f"{name} must be a dense torch tensor, not {type(tensor)}")
        if keys.dim() != 4:
            raise CodecError(
                "keys must be (n_layers, n_kv_heads, n_tokens, head_dim), "
                f"not {keys.dim()}-dimensional"
            )
        if keys.shape != values.shape:
            raise CodecError(
                f"keys are {tuple(keys.shape)} and values {tuple(values.shape)}; "
                "they must have one shape"
            )
        if keys.dtype != values.dtype or keys.dtype not in DTYPES.values():
            raise CodecError(
                f"keys are {keys.dtype} and values {values.dtype}; both must be one of "
                + ", ".join(DTYPES)
            )
        if keys.device != values.device:
            raise CodecError(f"keys are on {keys.device} and values on {values.device}")
        if 0 in (keys.shape[0], keys.shape[1], keys.shape[3]):
            raise CodecError(f"keys are {tuple(keys.shape)}; only n_tokens may be zero")
        if type(self.position_start) is not int or self.position_start < 0:
            raise CodecError(
                f"position_start must be an integer of at least 0, not {self.position_start!r}"
            )
        if type(self.keys_rotated) is not bool:
            raise CodecError(f"keys_rotated must be a bool, not {self.keys_rotated!r}")
        if self.identity.dtype not in ("", self.dtype_name):
            raise CodecError(
                f"the tensors are {self.dtype_name}, and identity.dtype is {self.identity.dtype!r}"
            )

    @property
    def n_layers(self) -> int:
        return int(self.keys.shape[0])

    @property
    def n_kv_heads(self) -> int:
        return int(self.keys.shape[1])

    @property
    def n_tokens(self) -> int:
        return int(self.keys.shape[2])

    @property
    def head_dim(self) -> int:
        return int(self.keys.shape[3])

    @property
    def dtype_name(self) -> str:
        """``float32``, ``float16`` or ``bfloat16``."""
        return str(self.keys.dtype).removeprefix("torch.")

    @property
    def n_values(self) -> int:
        """How many numbers keys and values have together."""
        return 2 * int(self.keys.numel())

    @property
    def size_bytes(self) -> int:
        """What the tensors take up uncompressed."""
        return self.n_values * int(self.keys.element_size())
