"""The log: one line a request, written some at a time; everything else at once."""

from __future__ import annotations

import logging
import time
from typing import TextIO

from .record import RequestRecord

__all__ = ["AccessLog", "BatchHandler", "LogFormatter", "configure_logging"]

access = logging.getLogger("ctxpress_proxy.access")


class AccessLog:
    """One line a request, written some at a time.

    A log record made in the middle of a request costs four times as much as one made in a row
    of others, so records wait for each other: up to ``MAX_WAITING`` of them, or until the next
    :meth:`flush`. Each has the time at which its request ended.
    """

    MAX_WAITING = 32

    def __init__(self) -> None:
        self._waiting: list[RequestRecord] = []

    def add(self, record: RequestRecord) -> None:
        """Log a request that is over, soon."""
        record.ended = time.time()
        waiting = self._waiting
        waiting.append(record)
        if len(waiting) >= self.MAX_WAITING:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        waiting, self._waiting = self._waiting, []
        if not access.isEnabledFor(logging.INFO):
            return
        for record in waiting:
            line = logging.LogRecord(access.name, logging.INFO, "", 0, record.line(), None, None)
            line.created = record.ended
            line.msecs = record.ended % 1 * 1000
            access.handle(line)
        for handler in logging.getLogger().handlers:
            handler.flush()


class LogFormatter(logging.Formatter):
    """UTC times in ISO 8601; the part that is the same for a whole second is kept."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")
        self._second = -1
        self._prefix = ""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        """The record's time to the millisecond."""
        second = int(record.created)
        if second != self._second:
            self._second = second
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._prefix}.{int(record.msecs):03d}Z"


class BatchHandler(logging.StreamHandler[TextIO]):
    """Writes the lines of requests with one call for many; any other record at once."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._lines: list[str] = []
        super().__init__(stream)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a request's line for the next flush; write anything else behind what was kept."""
        if record.name == access.name:
            self._lines.append(self.format(record) + self.terminator)
        else:
            self.flush()
            super().emit(record)

    def flush(self) -> None:
        """Write what was kept."""
        if self._lines:
            lines, self._lines = self._lines, []
            self.stream.write("".join(lines))
        super().flush()


def configure_logging(stream: TextIO | None = None) -> None:
    """Log to standard error from level INFO on, unless the program has set up logging already."""
    root = logging.getLogger()
    if root.handlers:
        return
    handler = BatchHandler(stream)
    handler.setFormatter(LogFormatter())
    root.addHandler(handler)
    root.setLevel(logging.INFO)
