"""What the demo prints: for each prompt the numbers, then the text, deletions struck through."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from ctxpress.cli.diff import Mark, Piece, from_texts, shorten, tight, to_plain
from ctxpress.document import Block, Kind, Role
from ctxpress.formats import ParseOptions, parse
from ctxpress.stage import TokenCounter
from ctxpress.tokens import create_counter

__all__ = ["DemoView", "Outcome"]

SHOWN_CHARACTERS = 1_500  # of each text, unless all is asked for: about a screen

STYLES = {Mark.KEPT: "", Mark.DELETED: "dim red strike", Mark.ADDED: "green"}
NAMES = {
    Kind.INSTRUCTION: "instructions",
    Kind.QUESTION: "question",
    Kind.DOCUMENT: "documents",
    Kind.TOOL_RESULT: "tool results",
    Kind.CODE: "code",
    Kind.JSON: "JSON",
    Kind.LOG: "logs",
    Kind.TABLE: "tables",
    Kind.PROSE: "prose",
    Kind.OPAQUE: "other parts",
}

NAMES_OF_ROLES = {
    Role.SYSTEM: "system prompt",
    Role.USER: "user",
    Role.ASSISTANT: "assistant",
    Role.TOOL: "tool result",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One request: the bytes that the client sent, those that arrived, and the answer's headers."""

    sent: bytes
    received: bytes
    sha256: str
    headers: Mapping[str, str]
    elapsed_ms: float


class DemoView:
    """Prints to one console."""

    def __init__(self, console: Console, *, full: bool) -> None:
        self._console = console
        self._full = full

    def begin(self, proxy_url: str, upstream_url: str) -> None:
        """Say what runs where."""
        line = Text("client -> ")
        line.append(f"ctxpress {proxy_url}", style="bold")
        line.append(f" -> upstream {upstream_url}")
        self._console.print(line)

    def sample(self, number: int, title: str, outcome: Outcome) -> None:
        """Show one request."""
        sent, received = _blocks(outcome.sent), _blocks(outcome.received)
        counter = create_counter("gpt-4o")
        before = sum(counter.count(block.original) for block in sent.values())
        after = sum(counter.count(block.original) for block in received.values())
        self._console.print()
        self._console.print(
            Rule(Text(f"{number}. {title}", style="bold"), style="dim", align="left")
        )
        self._console.print(_numbers(outcome, _protected(sent.values(), counter), before, after,
                                     estimated=counter.estimated))  # fmt: skip
        for pointer, block in sent.items():
            other = received.get(pointer)
            now = other.original if other is not None else ""
            if now != block.original:
                if len(sent) > 1:
                    where = f"\n{NAMES_OF_ROLES[block.role]} ({pointer})"
                    self._console.print(Text(where, style="bold"))
                self._text(block.original, now)
        if before == after:
            reason = outcome.headers.get("x-ctxpress-skipped", "nothing was there to compress")
            self._console.print(f"\nnothing was deleted: {reason}")

    def end(self, proxy_url: str, *, waiting: bool) -> None:
        """Say how to go on."""
        self._console.print()
        self._console.print(Rule(Text("try it yourself", style="bold"), style="dim", align="left"))
        lines = (
            "import openai",
            f'chat = openai.OpenAI(base_url="{proxy_url}/v1", api_key="x").chat',
            'chat.completions.create(model="m", messages=[{"role": "user", "content": text}])',
        )
        for line in lines:
            self._console.print(line, soft_wrap=True)
        self._console.print()
        if waiting:
            self._console.print(f"running at {proxy_url} until Ctrl-C; nothing leaves this machine")
        self._console.print(
            "in front of a real API: ctxpress serve --upstream https://api.openai.com "
            "--pipeline balanced"
        )

    def stopped(self) -> None:
        """Say that it is over."""
        self._console.print("\nstopped")

    def _text(self, before: str, after: str) -> None:
        pieces = from_texts(before, after)
        limit = sum(len(p.text) for p in pieces) if self._full else SHOWN_CHARACTERS
        head, tail = shorten(pieces, limit)
        self._console.print()
        self._console.print(self._struck(head))
        if tail:
            left_out = len(before.split()) - _count_words(head) - _count_words(tail)
            note = f"\n… {max(left_out, 0):,} words between are not shown; see all with --full\n"
            self._console.print(Text(note, style="italic"))
            self._console.print(self._struck(tail))

    def _struck(self, pieces: Sequence[Piece]) -> Text:
        if not self._console.is_terminal:
            return Text(to_plain(pieces).strip("\n"))
        text = Text()
        for piece in tight(pieces):
            text.append(piece.text, style=STYLES[piece.mark])
        return text


def _blocks(body: bytes) -> dict[str, Block]:
    """The texts of a request body by JSON pointer."""
    document = parse("openai_chat", body, ParseOptions()).document
    return {block.pointer: block for block in document.blocks if not block.opaque}


def _protected(blocks: Iterable[Block], counter: TokenCounter) -> Counter[Kind]:
    """Tokens of protected text by kind."""
    tokens: Counter[Kind] = Counter()
    for block in blocks:
        for span in block.spans:
            if span.protected:
                tokens[span.kind] += counter.count(span.text)
    return tokens


def _numbers(
    outcome: Outcome, protected: Counter[Kind], before: int, after: int, *, estimated: bool
) -> Table:
    table = Table.grid(padding=(0, 2))
    saved = 100 * (before - after) / before if before else 0
    unit = " (estimated)" if estimated else ""
    kept = ", ".join(f"{NAMES[kind]} {count:,}" for kind, count in protected.most_common() if count)
    table.add_row("protected", f"{kept} tokens" if kept else "nothing")
    numbers = Text(f"{before:,} -> {after:,}{unit}  ")
    numbers.append(f"{saved:.0f} % saved", style="bold green" if saved else "bold")
    table.add_row("tokens", numbers)
    overhead = outcome.headers.get("x-ctxpress-overhead-ms")
    own = f"{float(overhead):,.0f} ms in ctxpress, " if overhead else ""
    table.add_row("time", f"{own}{outcome.elapsed_ms:,.0f} ms in all")
    table.add_row(
        "upstream",
        f"received {len(outcome.received):,} of {len(outcome.sent):,} bytes, SHA-256 "
        f"{outcome.sha256[:12]}…, as its answer says; the text below is read from them",
    )
    return table


def _count_words(pieces: Sequence[Piece]) -> int:
    return len("".join(p.text for p in pieces if p.mark is not Mark.ADDED).split())
