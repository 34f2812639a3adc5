"""Store fixtures: a URL of each kind, and a store over it that is closed afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ctxpress.cache.store import Store, create_store
from tests.cache.stores import URLS


@pytest.fixture
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store; parametrise it indirectly with a name from ``URLS``."""
    return URLS[request.param](tmp_path, lambda: request.getfixturevalue("redis_server"))


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    """A store over ``store_url``."""
    opened = create_store(store_url)
    yield opened
    await opened.aclose()
