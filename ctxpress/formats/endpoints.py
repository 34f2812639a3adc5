"""Which format an HTTP path takes."""

from __future__ import annotations

import re

__all__ = ["format_of_path"]

# A prefix may be anything (Azure deployments, OpenRouter, `/openai/v1`), but the collection must
# stand where a create call has it: `/threads/{id}/messages` and `/messages/batches` are others.
_VERSION = re.compile(r"v\d[\w.]*", re.ASCII)
_FOREIGN = frozenset({"threads", "completions", "conversations", "batches", "fine_tuning", "evals"})


def format_of_path(path: str) -> str | None:
    """The format of the bodies that are posted to ``path``; ``None`` for every other endpoint.

    Endpoints match by suffix. A query and one slash at the end do not matter.
    """
    segments = path.partition("?")[0].removesuffix("/").split("/")[1:]
    if not segments:
        return None
    last, before = segments[-1], segments[:-1]
    parent = before[-1] if before else ""
    if last == "completions":
        if parent == "chat":
            return None if _FOREIGN.intersection(before) else "openai_chat"
        return None if _FOREIGN.intersection(before) else "openai_completions"
    if last == "responses":
        return None if _FOREIGN.intersection(before) else "openai_responses"
    if last == "messages" and (not parent or parent == "anthropic" or _VERSION.fullmatch(parent)):
        return None if _FOREIGN.intersection(before) else "anthropic_messages"
    return None
