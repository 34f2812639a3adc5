"""Stand-in until the segmenter lands: every text is one span."""

from __future__ import annotations

from ctxpress.document import Kind, Role, Span
from ctxpress.formats.options import ParseOptions

__all__ = ["segment"]


def segment(
    text: str, *, role: Role, kind: Kind, options: ParseOptions, ask: bool
) -> tuple[Span, ...]:
    """One span; system and assistant are protected unless released; a short question is one."""
    if not text:
        return ()
    protected = (role is Role.SYSTEM and not options.compress_system) or (
        role is Role.ASSISTANT and not options.compress_assistant
    )
    if ask and len(text.split()) <= 120:
        kind, protected = Kind.QUESTION, True
    return (Span.of(text, 0, len(text), kind, protected=protected),)
