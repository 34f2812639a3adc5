"""Examples may take their time here: a slow machine is no failure."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("dedupe", deadline=None)
settings.load_profile("dedupe")
