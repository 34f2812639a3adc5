"""What the terminal can show: colours or none, a progress bar or none."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["create_console", "has_colour", "progress", "steps"]


def has_colour(stream: TextIO) -> bool:
    """Whether to write ANSI colours: on a terminal, unless ``NO_COLOR`` or ``TERM=dumb``.

    ``FORCE_COLOR`` asks for them in a pipe too; ``NO_COLOR`` wins.
    """
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return bool(os.environ.get("FORCE_COLOR")) or stream.isatty()


def create_console() -> Console:
    """A console on standard output that obeys :func:`has_colour` and restyles nothing by itself."""
    from rich.console import Console

    colour = has_colour(sys.stdout)
    return Console(
        force_terminal=colour,
        color_system="auto" if colour else None,
        highlight=False,
        emoji=False,
        markup=False,
    )


@contextlib.contextmanager
def progress(what: str) -> Iterator[None]:
    """A moving bar on standard error while the body runs; nothing unless that is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        bar.add_task(what, total=None)
        yield


@contextlib.contextmanager
def steps(what: str, total: int) -> Iterator[tuple[Callable[[str], None], Callable[[], None]]]:
    """A bar of ``total`` steps on standard error; yields ``(describe, advance)``.

    Both do nothing unless standard error is a terminal.
    """
    if not sys.stderr.isatty():
        yield lambda text: None, lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield (
            lambda text: bar.update(task, description=f"{what} {text}"),
            lambda: bar.advance(task),
        )
