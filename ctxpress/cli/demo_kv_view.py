"""What ``ctxpress demo --kv`` prints: where things run, each request, the sizes by codec."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from ctxpress.cli.demo_kv import Answer, CodecSize, Setting

__all__ = ["KVDemoView"]


class KVDemoView:
    """Prints to one console."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._n_answers = 0

    def begin(self, setting: Setting) -> None:
        """Say what runs where, and why documents are encoded as they are."""
        workers = " and ".join(setting.worker_urls)
        grid = _grid()
        grid.add_row("client ->", Text(f"ctxpress {setting.proxy_url}", style="bold"))
        grid.add_row("->", f"workers {workers}")
        grid.add_row("->", f"store {setting.store}, codec {setting.codec}")
        grid.add_row("model", "reference, the small one in the package")
        found = setting.calibration
        verdict = "each is encoded by itself" if found.accepted else "one behind the other"
        grid.add_row(
            "documents",
            f"{verdict}: KL {found.kl:.3f} nats a token at T {found.mixing.temperature:.2f}, "
            f"S {found.mixing.scale:.2f}; the bound is {found.bound:.2f}",
        )
        self._console.print(grid)

    def answer(self, title: str, answer: Answer) -> None:
        """Show one request."""
        self._n_answers += 1
        self._rule(f"{self._n_answers}. {title}")
        question = answer.question.splitlines()[0].removeprefix("Question: ")
        verdict = "right" if answer.text == answer.expected else f"wrong: it is {answer.expected}"
        grid = _grid()
        grid.add_row("question", f"{question} {answer.text} ({verdict})")
        grid.add_row(
            "tokens",
            f"{answer.sent_tokens:,} sent, {answer.prompt_tokens:,} behind the stage dedupe",
        )
        cached = Text(f"{answer.cached_tokens:,} of {answer.prompt_tokens:,} from KV  ")
        share = 100 * answer.cached_tokens / answer.prompt_tokens
        cached.append(f"{share:.0f} % not computed", style="bold green" if share else "bold")
        grid.add_row("cached", cached)
        grid.add_row("worker", f"{answer.worker_url}: {_origin(answer)}")
        grid.add_row("time", f"{answer.elapsed_ms:,.0f} ms")
        self._console.print(grid)

    def lost(self, worker_url: str) -> None:
        """Say that a worker is gone."""
        self._console.print()
        self._console.print(f"{worker_url} is stopped, and its memory with it")

    def sizes(self, sizes: Iterable[CodecSize]) -> None:
        """A table of what each codec makes of the same KV; rows appear when all are measured."""
        measured = list(sizes)
        self._rule("the same KV by codec")
        table = Table(box=None, pad_edge=False, header_style="")
        table.add_column("codec")
        for title in ("bytes", "bytes a token", "of raw", "answers right"):
            table.add_column(title, justify="right")
        whole = measured[0].size_bytes
        for size in measured:
            table.add_row(
                size.codec,
                f"{size.size_bytes:,}",
                f"{size.size_bytes / size.n_tokens:,.0f}",
                f"{size.size_bytes / whole:.0%}".replace("%", " %"),
                f"{size.n_right} of {size.n_asked}",
            )
        self._console.print(table)

    def end(self, proxy_url: str, *, waiting: bool) -> None:
        """Say how to go on."""
        self._rule("on your own")
        lines = (
            "ctxpress worker --model reference --store redis://… --codec cachegen-3",
            "docs/worker.md: your own model, and the proxy in front of it",
        )
        for line in lines:
            self._console.print(line, soft_wrap=True)
        if waiting:
            self._console.print()
            self._console.print(f"running at {proxy_url} until Ctrl-C; nothing leaves this machine")

    def stopped(self) -> None:
        """Say that it is over."""
        self._console.print("\nstopped")

    def _rule(self, title: str) -> None:
        self._console.print()
        self._console.print(Rule(Text(title, style="bold"), style="dim", align="left"))


def _grid() -> Table:
    return Table.grid(padding=(0, 2))


def _origin(answer: Answer) -> str:
    if answer.from_store:
        return f"{answer.cached_documents} of {answer.documents} documents from the store"
    if answer.from_memory:
        return f"{answer.cached_documents} of {answer.documents} documents from its memory"
    return f"{answer.documents} documents computed"
