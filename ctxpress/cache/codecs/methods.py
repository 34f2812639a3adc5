"""What a codec over sections implements; what all of them share is in ``sectioned.py``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from ctxpress.cache.container import ContainerHeader, SectionData
from ctxpress.cache.kv import KVBlock

__all__ = ["EncodedSections", "SectionMethods"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedSections:
    """What a codec made of a block: its parameters, the shared section, and those of layers.

    ``sections``: layer ranges ``[first, last)`` and their bytes, or the parts of these in order.
    """

    sections: Sequence[tuple[tuple[int, int], SectionData]]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    shared: bytes = b""


class SectionMethods(ABC):
    """The five methods of a codec; two must be there.

    ``version``: that of the codec's own bytes. ``exact``: the codec carries any bits, NaN and
    infinities included, so none are looked for.
    """

    version: ClassVar[int]
    exact: ClassVar[bool] = False

    @abstractmethod
    def encode_sections(self, block: KVBlock) -> EncodedSections:
        """The sections of ``block``, all of whose values are finite unless ``exact``.

        Tokens that are kept exactly hold zeros in it.
        """

    @abstractmethod
    def decode_into(
        self,
        header: ContainerHeader,
        index: int,
        section: memoryview,
        shared: memoryview,
        keys: torch.Tensor,
        values: torch.Tensor,
    ) -> None:
        """Decode one section into ``keys`` and ``values``.

        Both are ``(layers of the section, n_kv_heads, n_tokens, head_dim)``, contiguous, of the
        header's dtype and on the codec's device. Bytes are hostile: they have passed a checksum
        that anybody can compute.

        :raises CorruptContainerError: the bytes are not what this codec writes.
        """

    def check_section(
        self, header: ContainerHeader, index: int, section: memoryview, shared: memoryview
    ) -> None:
        """Called for every section before tensors of the header's layout are allocated.

        A codec refuses here what it can tell from sizes alone, so that a few bytes cannot make a
        reader allocate gigabytes.

        :raises CorruptContainerError: the section cannot be what this codec writes.
        """
        return None  # a codec whose sections may be of any size has nothing to refuse

    def describe_own(
        self, header: ContainerHeader, index: int, section: memoryview, shared: memoryview
    ) -> Mapping[str, int]:
        """What the codec's own bytes of section ``index`` are for: names to bytes.

        Names such as ``scales_k``, ``symbols_v``, ``tables``; the bytes sum up to the section's.

        :raises CorruptContainerError: as :meth:`decode_into`.
        """
        return {"payload": len(section)}

    def exact_tokens(self, block: KVBlock) -> Sequence[int]:
        """Tokens that the codec wants kept exactly; indices into the block."""
        return ()
