"""Documents inside a text: tagged, numbered, or put there by a RAG framework's prompt."""

from __future__ import annotations

from ctxpress.formats.contexts import context_documents
from ctxpress.formats.framework_prompts import framework_context
from ctxpress.formats.numbered import numbered_passages
from ctxpress.formats.options import ParseOptions
from ctxpress.formats.recognised import RecognisedDocument
from ctxpress.formats.tagged import tagged_documents

__all__ = ["RecognisedDocument", "recognise", "recognise_framework"]


def recognise(text: str, options: ParseOptions) -> tuple[RecognisedDocument, ...]:
    """The documents in ``text``, in order of appearance; empty where none is recognised.

    The first that finds any wins: tagged text, the tenant's own ``document_pattern``, the default
    prompts of LangChain and LlamaIndex, numbered passages. (The prompts come before the passages
    because one of them shows numbered passages as an example, before the real ones.) Where one tag
    holds a prompt's whole context, the prompt says more about it than the tag.
    """
    tagged = tagged_documents(text)
    if len(tagged) == 1:
        inside = recognise_framework(text)
        if inside and tagged[0].start <= inside[0].start and inside[-1].end <= tagged[0].end:
            return inside
    return (
        tagged
        or _matched(text, options)
        or recognise_framework(text)
        or numbered_passages(text, 0, len(text))
    )


def recognise_framework(text: str) -> tuple[RecognisedDocument, ...]:
    """The documents in the context part of a framework's default prompt; empty if it is none.

    The context is split where it says itself how: by tags, by numbers, by the metadata that the
    framework prints. The frameworks' own separator, a blank line, also stands between the
    paragraphs of one document, so what it parts keeps its order.
    """
    context = framework_context(text)
    if context is None:
        return ()
    return (
        tagged_documents(text, *context)
        or numbered_passages(text, *context)
        or context_documents(text, *context)
    )


def _matched(text: str, options: ParseOptions) -> tuple[RecognisedDocument, ...]:
    """What the tenant's own pattern finds. It is run once over the whole text."""
    pattern = options.document_pattern
    if pattern is None or "text" not in pattern.groupindex:
        return ()
    found: list[RecognisedDocument] = []
    for match in pattern.finditer(text):
        start, end = match.span("text")
        if start < 0 or not text[start:end].strip():
            continue
        named = match.groupdict()
        found.append(
            RecognisedDocument(
                id=named.get("id") or str(len(found) + 1),
                title=named.get("title"),
                start=start,
                end=end,
                outer_start=match.start(),
                outer_end=match.end(),
            )
        )
    return tuple(found)
