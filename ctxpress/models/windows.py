"""Cutting a long token sequence into overlapping windows of one length."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Window:
    """The encoder reads tokens `[start, stop)`; scores of `[own_start, own_stop)` are used."""

    start: int
    stop: int
    own_start: int
    own_stop: int


def plan_windows(n_tokens: int, body_tokens: int, margin_tokens: int) -> list[Window]:
    """Windows over `n_tokens` tokens, each token owned by the window in which it is most central.

    A sequence of up to `body_tokens` is one window. A longer one is covered by evenly spaced
    windows of exactly `body_tokens`, as few as leave every owned token at least `margin_tokens` of
    context on both sides (fewer only where the text itself begins or ends). Owned ranges are
    disjoint, in order, and cover everything.

    :raises ValueError: when the margins leave no room in a window.
    """
    step_limit = body_tokens - 2 * margin_tokens
    if step_limit < 1 or margin_tokens < 0:
        raise ValueError(f"margins of {margin_tokens} leave no room in {body_tokens} tokens")
    if n_tokens <= body_tokens:
        return [Window(0, n_tokens, 0, n_tokens)] if n_tokens else []
    excess = n_tokens - body_tokens
    n_steps = -(-excess // step_limit)
    starts = [index * excess // n_steps for index in range(n_steps + 1)]
    borders = [
        (left + body_tokens + right) // 2 for left, right in zip(starts, starts[1:], strict=False)
    ]
    edges = [0, *borders, n_tokens]
    return [
        Window(start, start + body_tokens, edges[index], edges[index + 1])
        for index, start in enumerate(starts)
    ]
