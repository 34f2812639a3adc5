"""What a tenant may say about parsing: what to protect beyond the laws, what to release."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

__all__ = ["ParseOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParseOptions:
    """How bodies are cut into protected and compressible spans.

    ``compress_system`` and ``compress_assistant`` release those roles from protection.
    ``protect_numbers`` protects every number; ``protect_terms`` and ``protect_patterns`` protect
    literal strings and matches of regular expressions. ``document_pattern`` is the tenant's own
    recogniser: a regular expression with a named group ``text`` and, at will, ``id`` and
    ``title``. ``read_tools`` are further names of tools whose results are file contents.
    ``all_turns``: look into the blocks of earlier turns too, of a body that is not changed.
    """

    compress_system: bool = False
    compress_assistant: bool = False
    protect_numbers: bool = False
    protect_terms: tuple[str, ...] = ()
    protect_patterns: tuple[re.Pattern[str], ...] = field(default=())
    document_pattern: re.Pattern[str] | None = None
    read_tools: frozenset[str] = frozenset()
    all_turns: bool = False
