"""Compact: JSON, logs and tables of tool results and documents in fewer tokens, nothing lost.

``config`` are the options, ``stage`` finds spans and counts tokens. ``json_reader`` and ``columns``
write JSON, ``lines`` logs and ``tables`` tables; each documents its notation, ``docs/compact.md``
shows all of it. ``notation`` reads it again: :func:`expand`. In short::

    [columns("id","name")                              an array of objects: keys once, then rows
    1,"Ada"
    2,]                                                the second object has no "name"
    {columns("id","name") ... }                        objects one a line, without an array
    poll failed (×12)                                  a line that occurs twelve times in a row
    [each of the next 3 lines begins with "May 1 "]    and three lines without that beginning
    [4 rows padded to 12,8r]                           a table whose cells have lost their padding

A text in which any of this stands already is left alone: nobody could tell whose it is.
"""

from __future__ import annotations

from ctxpress.hookspecs import RegisterStage, hookimpl
from ctxpress.plugins.compact.config import CompactConfig
from ctxpress.plugins.compact.notation import expand
from ctxpress.plugins.compact.stage import CompactStage
from ctxpress.resources import Resources
from ctxpress.stage import Stage

__all__ = ["CompactConfig", "CompactStage", "expand", "register_stages"]


def _create_stage(config: CompactConfig, resources: Resources) -> Stage:
    return CompactStage(config)


@hookimpl
def register_stages(register: RegisterStage) -> None:
    """Register `compact`."""
    register("compact", _create_stage, CompactConfig)
