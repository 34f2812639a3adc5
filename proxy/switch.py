"""``ctxpress off`` and ``ctxpress on``: one small file that every running proxy looks at."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

__all__ = ["SwitchState", "SwitchWatcher", "read_switch", "switch_path", "write_switch"]

logger = logging.getLogger(__name__)

POLL_S = 0.5
MAX_BYTES = 4096


@dataclass(frozen=True, slots=True)
class SwitchState:
    """``off``: every request goes untouched. ``on``: as configured.

    In passthrough without a pipeline, ``on`` compresses with ``pipeline``.
    """

    mode: Literal["on", "off"]
    pipeline: str | None = None


def switch_path(folder: Path | None = None) -> Path:
    """Where the switch is; in the user's state folder unless another is given."""
    if folder is None:
        from ctxpress.cache.key import state_dir

        folder = state_dir()
    return folder / "switch.json"


def write_switch(on: bool, *, pipeline: str | None = None, folder: Path | None = None) -> Path:
    """Turn compression on or off for running proxies; they follow within half a second.

    Returns the file that was written, at once and as a whole.
    """
    path = switch_path(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".switch-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump({"mode": "on" if on else "off", "pipeline": pipeline}, file)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
    return path


def read_switch(folder: Path | None = None) -> SwitchState | None:
    """The state of the switch, or ``None`` where it was never touched.

    :raises ValueError: the file is damaged.
    :raises OSError: the file cannot be read.
    """
    try:
        with switch_path(folder).open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    if len(raw) > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES} bytes")
    value: Any = json.loads(raw)
    if not isinstance(value, dict) or value.get("mode") not in ("on", "off"):
        raise ValueError('"mode" is neither "on" nor "off"')
    pipeline = value.get("pipeline")
    if not isinstance(pipeline, str | None):
        raise ValueError('"pipeline" is neither a name nor null')
    return SwitchState(value["mode"], pipeline)


class SwitchWatcher:
    """Follows the file: ``state`` is what it said when it was last sound."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = switch_path(folder)
        self._seen: tuple[int, int, int] | None = None
        self.state: SwitchState | None = None
        self.poll()

    def poll(self) -> None:
        """Look once; a damaged file changes nothing and is logged once."""
        try:
            status = self._path.stat()
            seen = (status.st_mtime_ns, status.st_size, status.st_ino)
        except OSError:
            seen = None
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self.state = read_switch(self._folder)
        except (ValueError, OSError) as error:
            logger.warning("%s is damaged (%s); the last good state is kept", self._path, error)
            return
        logger.info("switch: %s", self.state.mode if self.state else "as configured")

    async def run(self) -> None:
        """Look every half second until cancelled."""
        while True:
            await asyncio.sleep(POLL_S)
            self.poll()
