"""Prompts with documents encoded in parallel, for a vLLM whose connector loads KV.

A prompt is a shared prefix, documents one behind the other, and what stands behind them. The
connector puts each document's KV in its place in the layout of APE (arXiv 2502.05431): encoded by
itself behind the prefix, and seen by the question at the distance that it would have if all
documents began where the prefix ends. With S = 1/T that takes keys at other positions, divided by
T, and nothing that an unmodified vLLM lacks. See ``docs/vllm.md``. Needs neither torch nor vLLM.
"""

from __future__ import annotations

import operator
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "ParallelLayout",
    "VllmPrompt",
    "build_document_prompt",
    "build_prompt",
    "layout_of",
]

PARAMS_KEY = "ctxpress"
_VERSION = 1
_MAX_TEMPERATURE = 4.0
_FIELDS = {
    "version", "prefix_tokens", "document_tokens", "pad_tokens", "temperature", "encode",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmPrompt:
    """Three fields of a request to ``POST /v1/completions``.

    ``cache_salt`` keeps vLLM's own prefix cache from taking blocks of one request with documents in
    parallel for those of another; None where the KV is ordinary.
    """

    prompt_token_ids: tuple[int, ...]
    kv_transfer_params: dict[str, Any]
    cache_salt: str | None = None

    def fields(self) -> dict[str, Any]:
        """What to merge into the body of the request."""
        found: dict[str, Any] = {
            "prompt": list(self.prompt_token_ids),
            "kv_transfer_params": self.kv_transfer_params,
        }
        if self.cache_salt is not None:
            found["cache_salt"] = self.cache_salt
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ParallelLayout:
    """Where prefix and documents stand in a prompt, in tokens.

    ``document_tokens`` is without the ``pad_tokens`` behind the last document. ``encode`` asks for
    the one document to be computed behind the prefix, and stored.
    """

    prefix_tokens: int
    document_tokens: tuple[int, ...]
    pad_tokens: int
    temperature: float
    encode: bool

    @property
    def context_tokens(self) -> int:
        """Prefix, documents and padding: what is loaded."""
        return self.prefix_tokens + sum(self.document_tokens) + self.pad_tokens

    @property
    def shift_tokens(self) -> int:
        """How far prefix and documents stand from their own positions.

        The question comes at ``context_tokens`` and sees them as if it came right behind the
        longest document.
        """
        lengths = [*self.document_tokens]
        lengths[-1] += self.pad_tokens
        return sum(lengths) - max(lengths)


def build_prompt(
    prefix_ids: Sequence[int],
    documents_ids: Sequence[Sequence[int]],
    suffix_ids: Sequence[int],
    *,
    block_size: int,
    pad_token_id: int,
    temperature: float = 1.0,
) -> VllmPrompt:
    """A prompt whose documents are loaded, where all of them were encoded before.

    Where one was not, see :func:`build_document_prompt`, the prompt is computed as an ordinary
    one. The last document is padded until what is loaded fills vLLM's blocks of ``block_size``
    tokens; the suffix is computed. ``temperature``: T; the documents' keys are divided by it.

    :raises ValueError: a document, all of them, or the suffix has no tokens; an id is no token id;
        ``temperature`` is not above 0 and at most 4; ``block_size`` is below 1.
    """
    _check_block_size(block_size)
    prefix, suffix = _ids(prefix_ids), _ids(suffix_ids)
    documents = [_ids(document) for document in documents_ids]
    (pad,) = _ids([pad_token_id])
    if not documents:
        raise ValueError("there are no documents")
    for number, document in enumerate(documents):
        if not document:
            raise ValueError(f"document {number} has no tokens")
    if not suffix:
        raise ValueError("nothing stands behind the documents; one token at least must be computed")
    if not 0 < temperature <= _MAX_TEMPERATURE:
        raise ValueError(
            f"temperature must be above 0 and at most {_MAX_TEMPERATURE:g}, not {temperature}"
        )
    context = [*prefix, *(token for document in documents for token in document)]
    n_pads = -len(context) % block_size
    return VllmPrompt(
        prompt_token_ids=(*context, *[pad] * n_pads, *suffix),
        kv_transfer_params=_params(
            prefix_tokens=len(prefix),
            document_tokens=[len(document) for document in documents],
            pad_tokens=n_pads,
            temperature=float(temperature),
        ),
        cache_salt=secrets.token_urlsafe(16),
    )


def build_document_prompt(
    prefix_ids: Sequence[int],
    document_ids: Sequence[int],
    *,
    block_size: int,
    pad_token_id: int,
) -> VllmPrompt:
    """The ordinary request that encodes a document behind the prefix; send it for one token.

    Once is enough, on any replica. It ends in as much padding as any prompt may need behind the
    document; an answer to it means nothing.

    :raises ValueError: the document has no tokens, an id is no token id, ``block_size`` is below 1.
    """
    _check_block_size(block_size)
    prefix, document = _ids(prefix_ids), _ids(document_ids)
    (pad,) = _ids([pad_token_id])
    if not document:
        raise ValueError("the document has no tokens")
    n_pads = block_size - 1
    return VllmPrompt(
        prompt_token_ids=(*prefix, *document, *[pad] * n_pads),
        kv_transfer_params=_params(
            prefix_tokens=len(prefix),
            document_tokens=[len(document)],
            pad_tokens=n_pads,
            encode=True,
        ),
    )


def layout_of(params: Mapping[str, Any] | None) -> ParallelLayout | None:
    """The layout that a request's ``kv_transfer_params`` speak of; None where they name none.

    :raises ValueError: they are not what :func:`build_prompt` or :func:`build_document_prompt`
        writes; says what is wrong.
    """
    if not params or PARAMS_KEY not in params:
        return None
    row = params[PARAMS_KEY]
    if not isinstance(row, Mapping):
        raise ValueError(f"kv_transfer_params.{PARAMS_KEY} must be an object")
    strange = sorted(set(map(str, row)) - _FIELDS)
    if strange:
        raise ValueError(f"kv_transfer_params.{PARAMS_KEY} has no field {strange[0]!r}")
    if row.get("version") != _VERSION:
        raise ValueError(f"version {row.get('version')!r}; this connector reads {_VERSION}")
    documents = row.get("document_tokens")
    if not isinstance(documents, list | tuple) or not documents:
        raise ValueError("document_tokens must be a list of numbers, one a document")
    temperature = row.get("temperature", 1.0)
    if isinstance(temperature, bool) or not isinstance(temperature, int | float):
        raise ValueError("temperature must be a number")
    if not 0 < temperature <= _MAX_TEMPERATURE:
        raise ValueError(f"temperature must be above 0 and at most {_MAX_TEMPERATURE:g}")
    encode = row.get("encode", False)
    if not isinstance(encode, bool):
        raise ValueError("encode must be true or false")
    if encode and len(documents) != 1:
        raise ValueError("one document is encoded at a time")
    return ParallelLayout(
        prefix_tokens=_count(row.get("prefix_tokens"), "prefix_tokens", least=0),
        document_tokens=tuple(_count(n, "document_tokens", least=1) for n in documents),
        pad_tokens=_count(row.get("pad_tokens"), "pad_tokens", least=0),
        temperature=float(temperature),
        encode=encode,
    )


def _params(**values: Any) -> dict[str, Any]:
    return {PARAMS_KEY: {"version": _VERSION, **values}}


def _check_block_size(block_size: int) -> None:
    if type(block_size) is not int or block_size < 1:
        raise ValueError(f"block_size must be a whole number of at least 1, not {block_size!r}")


def _ids(tokens: Sequence[int]) -> tuple[int, ...]:
    """Tokens as plain numbers; numpy's do as well."""
    try:
        found = tuple(map(operator.index, tokens))
    except TypeError as error:
        raise ValueError(f"not token ids: {error}") from None
    for token in found:
        if not 0 <= token < 2**32:
            raise ValueError(f"{token} is no token id")
    return found


def _count(value: object, name: str, *, least: int) -> int:
    if type(value) is not int or not least <= value < 2**32:
        raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}")
    return value
