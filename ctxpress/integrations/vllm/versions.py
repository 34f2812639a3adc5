"""The releases of vLLM that the connector was tested with. Its interface still moves."""

from __future__ import annotations

import re

from ctxpress.errors import ConfigError

__all__ = ["TESTED", "release_of", "require_tested"]

TESTED = ((0, 32), (0, 33))  # from the first on, before the second


def release_of(version: str) -> str:
    """``0.32.0`` of ``0.32.0+cpu``, ``0.32.0rc1`` and their like.

    :raises ConfigError: it does not begin as a version does.
    """
    found = re.match(r"\d+\.\d+(\.\d+)?", version)
    if found is None:
        raise ConfigError(f"vLLM's version {version!r} cannot be read")
    return found.group()


def require_tested(version: str) -> None:
    """Return where ``version`` of vLLM is one that was tested.

    :raises ConfigError: it is not; names the range.
    """
    numbers = tuple(map(int, release_of(version).split(".")[:2]))
    first, before = TESTED
    if not first <= numbers < before:
        wanted = f">={first[0]}.{first[1]},<{before[0]}.{before[1]}"
        raise ConfigError(
            f"this vLLM is {version}, and the connector was tested with vllm{wanted}: "
            f"pip install 'vllm{wanted}'"
        )
