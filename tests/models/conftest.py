from __future__ import annotations

import pytest

from ctxpress.models import OnnxTokenScorer, load_bundled_scorer


@pytest.fixture(scope="session")
def scorer() -> OnnxTokenScorer:
    return load_bundled_scorer(threads=2)
