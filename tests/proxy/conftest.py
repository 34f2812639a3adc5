"""One fake upstream a test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.proxy.upstream import FakeUpstream


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream().running() as running:
        yield running
