"""Codecs by name: KV tensors to containers and back.

::

    from ctxpress.cache import KVBlock, create_codec

    block = KVBlock(keys=keys, values=values)  # (n_layers, n_kv_heads, n_tokens, head_dim)
    data = create_codec("cachegen-2").encode(block)
    again = create_codec("cachegen-2").decode(data)

A codec's code, and torch with it, loads when the codec is created.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ctxpress.cache.container import DEFAULT_MAX_DECODED_BYTES, ContainerHeader, parse_header
from ctxpress.cache.identity import KVIdentity
from ctxpress.errors import (
    CalibrationMissingError,
    CodecError,
    ConfigError,
    MissingDependencyError,
    UnsupportedVersionError,
)
from ctxpress.nearest import did_you_mean

if TYPE_CHECKING:
    from ctxpress.cache.calibration import Calibration
    from ctxpress.cache.kv import KVBlock

__all__ = [
    "BUILTIN_CODECS",
    "Codec",
    "CodecFactory",
    "NonFinite",
    "create_codec",
    "decode_container",
]

NonFinite = Literal["refuse", "exact"]


class Codec(Protocol):
    """Turns KV into container bytes and back. Holds no state of a block; safe from any thread.

    Codecs never do I/O. What they raise is a CodecError; for a cache that is a miss.
    """

    @property
    def name(self) -> str:
        """As in the header and in ``create_codec``."""

    @property
    def calibration_sha256(self) -> str:
        """The digest of the calibration that encoding depends on; empty without one."""

    def encode(self, block: KVBlock) -> bytes:
        """The container of ``block``.

        :raises CodecError: the block cannot be carried, as where it holds NaN or infinities and
            the codec was created with ``non_finite="refuse"``.
        """

    def decode(
        self,
        data: bytes | memoryview,
        *,
        expected: KVIdentity | None = None,
        max_decoded_bytes: int = DEFAULT_MAX_DECODED_BYTES,
    ) -> KVBlock:
        """The block in ``data``, in the dtype that it was encoded from, on the codec's device.

        :raises CodecError: see the classes below it; before any tensor exists where the header
            is wrong, of another identity or too large.
        """

    def decode_section(
        self,
        header: ContainerHeader,
        index: int,
        section: bytes | memoryview,
        shared: bytes | memoryview = b"",
    ) -> KVBlock:
        """The layers of section ``index`` alone, out of its checked bytes.

        ``shared`` is the section of layers ``(0, 0)`` where the container has one. Whoever reads
        by range has asked ``header.require(expected)`` before.

        :raises CodecError: as :meth:`decode`.
        """


class CodecFactory(Protocol):
    """``factory(name, calibration, non_finite=…, threads=…, device=…)``.

    Without a calibration that it needs, or with one that was not made for it, it raises a
    CalibrationMissingError; with one whose arrays do not fit each other, another CodecError.
    """

    def __call__(
        self,
        name: str,
        calibration: Calibration | None,
        *,
        non_finite: NonFinite,
        threads: int,
        device: str,
    ) -> Codec: ...


BUILTIN_CODECS: Mapping[str, str | CodecFactory] = {
    "raw": "ctxpress.cache.codecs.raw:create",
    "int8": "ctxpress.cache.codecs.integers:create",
    "int4": "ctxpress.cache.codecs.integers:create",
    "cachegen-1": "ctxpress.cache.codecs.cachegen:create",
    "cachegen-2": "ctxpress.cache.codecs.cachegen:create",
    "cachegen-3": "ctxpress.cache.codecs.cachegen:create",
    "cachegen-auto": "ctxpress.cache.codecs.cachegen:create",
    "kvtc": "ctxpress.cache.codecs.kvtc:create",
    "kvtc-8x": "ctxpress.cache.codecs.kvtc:create",
    "kvtc-12x": "ctxpress.cache.codecs.kvtc:create",
    "kvtc-16x": "ctxpress.cache.codecs.kvtc:create",
    "kvtc-24x": "ctxpress.cache.codecs.kvtc:create",
    "kvtc-32x": "ctxpress.cache.codecs.kvtc:create",
    "kvtc-64x": "ctxpress.cache.codecs.kvtc:create",
}


def create_codec(
    name: str,
    calibration: Calibration | None = None,
    *,
    non_finite: NonFinite = "refuse",
    threads: int = 1,
    device: str = "cpu",
    codecs: Mapping[str, str | CodecFactory] = BUILTIN_CODECS,
) -> Codec:
    """The codec called ``name``.

    ``calibration``: what was measured of the model whose KV it will carry; ``cachegen-auto`` and
    ``kvtc`` need one, others use it where that helps. ``non_finite``: refuse NaN and infinities,
    or carry the tokens that hold them exactly. ``threads``: how many sections are coded at a
    time. ``device``: where decoded tensors shall be.

    :raises ConfigError: no such codec (names the nearest), it needs a calibration, or another one,
        or an option is out of range.
    :raises MissingDependencyError: its package is not installed; holds the install command.
    """
    found = codecs.get(name)
    if found is None:
        raise ConfigError(f"no codec is called {name!r}{did_you_mean(name, codecs)}")
    try:
        return _created(name, found, calibration, non_finite, threads, device)
    except CodecError as error:  # of the calibration: nothing was encoded yet
        raise ConfigError(str(error)) from error


def _created(
    name: str,
    found: str | CodecFactory,
    calibration: Calibration | None,
    non_finite: NonFinite,
    threads: int,
    device: str,
) -> Codec:
    """See :func:`create_codec`, whose caller named the calibration.

    :raises CodecError: the codec needs a calibration or another one, or this one is damaged. Where
        a header named them, it is the container that is wrong.
    """
    if non_finite not in ("refuse", "exact"):
        raise ConfigError(f"non_finite must be 'refuse' or 'exact', not {non_finite!r}")
    if type(threads) is not int or threads < 1:
        raise ConfigError(f"threads must be an integer of at least 1, not {threads!r}")
    factory = _imported(name, found) if isinstance(found, str) else found
    return factory(name, calibration, non_finite=non_finite, threads=threads, device=device)


def decode_container(
    data: bytes | memoryview,
    *,
    calibrations: Sequence[Calibration] = (),
    expected: KVIdentity | None = None,
    max_decoded_bytes: int = DEFAULT_MAX_DECODED_BYTES,
    threads: int = 1,
    device: str = "cpu",
    codecs: Mapping[str, str | CodecFactory] = BUILTIN_CODECS,
) -> KVBlock:
    """The block in ``data``, by the codec and calibration that its header names.

    :raises UnsupportedVersionError: no such codec here.
    :raises CalibrationMissingError: its calibration is not among ``calibrations``.
    :raises CodecError: as :meth:`Codec.decode`.
    """
    header = parse_header(data, max_decoded_bytes=max_decoded_bytes)
    if expected is not None:
        header.require(expected)  # before codecs and calibrations cost anything
    if header.codec not in codecs:
        raise UnsupportedVersionError(f"no codec is called {header.codec!r} here")
    calibration = next((c for c in calibrations if c.sha256 == header.calibration), None)
    if header.calibration and calibration is None:
        raise CalibrationMissingError(
            f"the calibration {header.calibration[:12]}… is not at hand", sha256=header.calibration
        )
    found = codecs[header.codec]
    codec = _created(header.codec, found, calibration, "refuse", threads, device)
    return codec.decode(data, expected=expected, max_decoded_bytes=max_decoded_bytes)


def _imported(name: str, place: str) -> Callable[..., Any]:
    module, _, attribute = place.partition(":")
    try:
        factory: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in _PACKAGES:
            raise
        raise MissingDependencyError(
            f"the codec {name!r} needs {error.name}: pip install 'ctxpress[torch]'"
        ) from error
    return factory


_PACKAGES = ("numba", "safetensors", "torch", "zstandard")
