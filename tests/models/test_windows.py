from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpress.models.windows import plan_windows


@given(
    n_tokens=st.integers(0, 3000),
    sizes=st.integers(0, 40).flatmap(
        lambda margin: st.tuples(st.integers(2 * margin + 1, 2 * margin + 300), st.just(margin))
    ),
)
def test_windows_cover_everything_once_with_context(n_tokens: int, sizes: tuple[int, int]) -> None:
    body, margin = sizes
    windows = plan_windows(n_tokens, body, margin)
    owned = [index for window in windows for index in range(window.own_start, window.own_stop)]
    assert owned == list(range(n_tokens))
    for window in windows:
        assert 0 <= window.start <= window.own_start <= window.own_stop <= window.stop <= n_tokens
        assert window.stop - window.start == min(body, n_tokens)
        assert window.start == 0 or window.own_start - window.start >= margin
        assert window.stop == n_tokens or window.stop - window.own_stop >= margin


def test_margins_must_leave_room() -> None:
    with pytest.raises(ValueError, match="leave no room"):
        plan_windows(10, 64, 32)
