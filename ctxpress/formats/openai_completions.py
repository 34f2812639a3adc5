"""``POST /v1/completions``: a prompt, or several."""

from __future__ import annotations

from typing import Any

from ctxpress.document import Role
from ctxpress.errors import FormatError
from ctxpress.formats.block_builder import BlockBuilder
from ctxpress.stage import Skip

__all__ = ["read_body"]


def read_body(body: dict[str, Any], builder: BlockBuilder) -> None:
    """Feed the prompts of a completions body to ``builder``.

    Several prompts are several requests in one: each is a message of its own in turn 0, and none
    of them lends the others its question. Token ids are opaque; ``suffix`` is protected.

    :raises FormatError: there is no prompt.
    """
    prompt = body.get("prompt")
    if isinstance(prompt, str):
        prompts: list[Any] = [prompt]
    elif isinstance(prompt, list) and any(isinstance(p, str) for p in prompt):
        prompts = prompt
    elif isinstance(prompt, list):
        builder.begin("user", Role.USER, 0)
        builder.opaque("/prompt", prompt)
        builder.end("/prompt")
        prompts = []
    else:
        raise FormatError("there is no prompt", Skip.UNSUPPORTED_SHAPE)
    for index, text in enumerate(prompts):
        pointer = "/prompt" if isinstance(prompt, str) else f"/prompt/{index}"
        builder.begin("user", Role.USER, index, asks=len(prompts) == 1)
        if isinstance(text, str):
            builder.text(pointer, text)
        else:
            builder.opaque(pointer, text)
        builder.end(pointer)
    suffix = body.get("suffix")
    if suffix is not None:
        builder.begin("suffix", Role.USER, max(1, len(prompts)))
        if isinstance(suffix, str):
            builder.text("/suffix", suffix, protected=True)
        else:
            builder.opaque("/suffix", suffix)
        builder.end("/suffix")
