"""Options of the stage ``compact``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["CompactConfig"]

Switch = Literal["on", "off"]


class CompactConfig(BaseModel):
    """What is written shorter.

    ``json``: ``minify`` takes out spacing, ``columns`` also writes arrays of like objects, and
    such objects one a line, as a header and rows. ``logs`` folds repeated lines and beginnings of
    lines, ``tables`` takes out padding. ``user_json``: JSON in a user's own text too. A piece of
    fewer than ``min_tokens`` tokens stays as it is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    # A field called `json` would hide a method of pydantic's.
    json_form: Annotated[Literal["minify", "columns", "off"], Field(alias="json")] = "columns"
    logs: Switch = "on"
    tables: Switch = "on"
    user_json: Switch = "off"
    min_tokens: Annotated[int, Field(ge=0)] = 32
