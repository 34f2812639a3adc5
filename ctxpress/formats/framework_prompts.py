"""The default prompts of LangChain and LlamaIndex: where in them the context is.

Facts read from langchain-classic 1.0, langchain-core 1.7 and llama-index-core 0.14, and from the
prompts on LangChain's hub and in its tutorials. Each prompt is known by one fixed phrase (looked up
as it is), what stands between that phrase and the context, and what follows the context.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ctxpress.document import Range
from ctxpress.formats.recognised import trimmed

__all__ = ["framework_context"]


class _Prompt(NamedTuple):
    """One shape of prompt.

    ``phrase`` must occur; ``opening`` is matched where it does and ends where the context begins;
    the last match of ``closing`` begins where the context ends (``None``: the end of the text). It
    is looked for in the text's last 20,000 characters.
    """

    phrase: str
    opening: re.Pattern[str]
    closing: re.Pattern[str] | None


def _prompt(phrase: str, opening: str, closing: str | None) -> _Prompt:
    return _Prompt(phrase, re.compile(opening), re.compile(closing) if closing else None)


_CLOSING_REACH = 20_000

# To the end of the paragraph that begins with the phrase; it may be wrapped.
_PARAGRAPH = r"(?:[^\n]|\n(?![\n-]|Question:)){0,1500}"
_RULE = r"-{6,40}"

# Of prompts with the same phrase the more particular come first.
_PROMPTS = (
    # LangChain: chat variant of RetrievalQA and load_qa_chain, in the system message.
    _prompt("Use the following pieces of ", rf"{_PARAGRAPH}\n{_RULE}\n", None),
    # LangChain: rlm/rag-prompt on the hub.
    _prompt(
        "Use the following pieces of ",
        rf"{_PARAGRAPH}\n+Question:[^\n]*(?:\n(?!Context:)[^\n]*){{0,40}}\nContext:\s?",
        r"\s*\nAnswer:\s*\Z",
    ),
    # LangChain: RetrievalQA, load_qa_chain(chain_type="stuff").
    _prompt(
        "Use the following pieces of ",
        rf"{_PARAGRAPH}\n\n",
        r"\n\n?(?:User )?Question:",
    ),
    # LangChain: create_retrieval_chain as in its tutorial, in the system message.
    _prompt("Use the following pieces of ", rf"{_PARAGRAPH}\n\n", None),
    # LangChain: langchain-ai/retrieval-qa-chat on the hub, and the LCEL quick start.
    _prompt(
        "based solely on the context below:",
        r"[^\n]{0,40}\s*<context>\s*",
        r"\s*</context>",
    ),
    _prompt(
        "based only on the following context:",
        r"[^\n:]{0,40}:\s*",
        r"\n\s*(?:Question|Query|Answer the)[ :]",
    ),
    # LlamaIndex: text QA, tree summarize; LangChain: refine chain's first prompt.
    _prompt(
        "Context information ",
        rf"[^\n]{{0,80}}\bbelow\.\s*\n{_RULE}\n",
        rf"\n{_RULE}\s*\nGiven the (?:context )?information",
    ),
    # Both: refine.
    _prompt(
        "with some more context below.",
        rf"[^\n]{{0,80}}\n{_RULE}\n",
        rf"\n{_RULE}\s*\nGiven the new",
    ),
    # LlamaIndex: chat refine.
    _prompt("\nNew Context: ", r"\nNew Context: ", r"\nQuery: "),
    # LlamaIndex: context chat engine, and its refine.
    _prompt(
        "Use the context information below to assist the user.",
        rf"[^\n]{{0,80}}\n{_RULE}\n",
        rf"\n{_RULE}\s*",
    ),
    _prompt(
        "Using the context below, refine the following existing answer",
        rf"{_PARAGRAPH}\n\n{_RULE}\n",
        rf"\n{_RULE}\s*\nExisting Answer:",
    ),
    # LlamaIndex: condense-plus-context chat engine, and its refine.
    _prompt(
        "Here are the relevant documents for the context:",
        r"[^\n]{0,80}\n\s*",
        r"\n\s*(?:Instruction: Based on the above|Existing Answer:)",
    ),
    # LlamaIndex: citation query engine.
    _prompt(
        "elow are several numbered sources of information",
        rf"{_PARAGRAPH}\n{_RULE}\n",
        rf"\n{_RULE}\s*\nQuery:",
    ),
    # LlamaIndex: choice of documents.
    _prompt("\nLet's try this now:", r"\nLet's try this now:\s*", r"\nQuestion: "),
    # LangChain: answers with sources.
    _prompt(
        "Given the following extracted parts of a long document and a question",
        r"[\s\S]{0,12000}\nQUESTION: [^\n]*\n={6,40}\n",
        r"\n={6,40}\s*\nFINAL ANSWER:\s*\Z",
    ),
    # Both: summaries.
    _prompt("Write a summary of the following", rf"{_PARAGRAPH}\n\n\s*", r"\s*\n[ ]*SUMMARY:"),
    _prompt(
        "Write a concise summary of the following",
        rf"{_PARAGRAPH}\n\n\s*",
        r"\s*\n[ ]*CONCISE SUMMARY:",
    ),
)


def framework_context(text: str) -> Range | None:
    """The context part of a framework's default prompt, or ``None`` if ``text`` is none."""
    absent: set[str] = set()
    for prompt in _PROMPTS:
        if prompt.phrase in absent:
            continue
        at = text.find(prompt.phrase)
        if at < 0:
            absent.add(prompt.phrase)
            continue
        opening = prompt.opening.match(text, at)
        if not opening:
            continue
        end: int | None = len(text)
        if prompt.closing:
            end = _last(prompt.closing, text, opening.end())
        if end is None:
            continue
        start, end = trimmed(text, opening.end(), end)
        if end > start:
            return Range(start, end)
    return None


def _last(closing: re.Pattern[str], text: str, start: int) -> int | None:
    """Where the last match of ``closing`` behind ``start`` begins."""
    found = None
    for match in closing.finditer(text, max(start - 2, len(text) - _CLOSING_REACH, 0)):
        found = match
    return max(found.start(), start) if found else None
