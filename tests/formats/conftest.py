"""Hypothesis without deadlines: these tests share their machine with others."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("formats", deadline=None)
settings.load_profile("formats")
