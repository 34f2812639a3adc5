"""Restructure, reorder, cite: what is left of retrieved notes for a question, all offline.

``python examples/rag.py``; with ``--write FILE`` the output goes into a Markdown page.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from rag_documents import NOTES, QUESTION

import ctxpress
from ctxpress.evaluation.sections import replace_section

STAGES = """\
version: 1
store: memory://
pipelines:
  rag:
    min_tokens: 0
    deadline_ms: 60000
    stages:
      - {use: dedupe}
      - {use: restructure, keep_ratio: 0.35, format: sections, on_empty: drop}
"""


def example(folder: Path) -> Iterator[str]:
    """The page, line by line."""
    file = folder / "ctxpress.yaml"
    file.write_text(STAGES, "utf-8")
    documents = [{"id": note.id, "title": note.title, "text": note.text} for note in NOTES]
    result = ctxpress.compress_documents(QUESTION, documents, config=file, pipeline="rag")
    yield f"**{QUESTION}**"
    yield ""
    yield f"{len(NOTES)} notes, {result.tokens_before} tokens. What goes to the model:"
    yield ""
    yield "```"
    yield result.text
    yield "```"
    yield ""
    yield f"{result.tokens_after} tokens. What became of each document, and where its pieces stand:"
    yield ""
    yield "| document | place | | kept characters |"
    yield "|---|---|---|---|"
    for document in result.documents:
        kept = ", ".join(f"{start}–{end}" for start, end in document.kept)
        place = "" if document.place is None else str(document.place + 1)
        state = document.dropped or ("kept" if place else "")
        yield f"| `{document.id}` | {place} | {state} | {kept} |"


def main() -> None:
    """Print, or write."""
    import tempfile

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = "\n".join(example(Path(folder)))
    print(text)
    if options.write:
        replace_section(options.write, "example", "A worked example", text)


if __name__ == "__main__":
    main()
