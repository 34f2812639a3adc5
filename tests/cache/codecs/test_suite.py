"""The suite itself: no codec is left out of it."""

from __future__ import annotations

from ctxpress.cache.codec import BUILTIN_CODECS
from tests.cache.codecs.cases import CASES


def test_every_built_in_codec_is_in_the_suite() -> None:
    assert [case.name for case in CASES] == list(BUILTIN_CODECS)
