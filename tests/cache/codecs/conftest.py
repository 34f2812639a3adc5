"""Codecs compile their loops on first use, which takes a busy machine longer than a test may."""

from __future__ import annotations

from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """More time for the tests of this folder, whichever of them comes first."""
    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker(pytest.mark.timeout(300))
