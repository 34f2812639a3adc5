"""The best schedule of one who knows the link's future and how long everything will take.

Dynamic programming over chunks; a state is (link free, decoder free, context in place, loss). Every
state is a real schedule: times are exact, and only which of two nearly equal states goes on is
decided on a grid of time, so the result can be reached, and is the optimum but for that grid.
"""

from __future__ import annotations

import numpy as np

from ctxpress.evaluation.streaming.world import Outcome, World

__all__ = ["best_outcome"]

GRID_MS = 2.0
MAX_STATES = 60_000


def best_outcome(world: World, *, grid_ms: float = GRID_MS) -> Outcome:
    """The least loss of quality in time; where nothing is in time, the soonest."""
    limit = world.slo_ms
    found = _search(world, limit, grid_ms)
    while found is None:
        limit *= 2
        grid_ms *= 2
        found = _search(world, limit, grid_ms, soonest=True)
    return found


def _search(
    world: World, limit_ms: float, grid_ms: float, *, soonest: bool = False
) -> Outcome | None:
    # Columns: link, decoder, context, loss, bytes, text tokens.
    states = np.zeros((1, 6))
    for index, chunk in enumerate(world.chunks):
        text = states.copy()
        text[:, 2] += world.prefill_ms[index]
        text[:, 5] += chunk.n_tokens
        options = [text]
        for option in chunk.levels:
            loaded = states.copy()
            loaded[:, 0] = world.trace.arrival_ms(index, states[:, 0], option.size_bytes)
            decode = world.decode_ms[index][option.level]
            loaded[:, 1] = np.maximum(loaded[:, 0], states[:, 1]) + decode
            loaded[:, 2] = np.maximum(states[:, 2], loaded[:, 1])
            loaded[:, 3] += option.quality_loss * chunk.n_tokens
            loaded[:, 4] += option.size_bytes
            options.append(loaded)
        states = np.concatenate(options)
        states = states[states[:, 2] <= limit_ms]
        if not len(states):
            return None
        states = _undominated(states, grid_ms)
    best = np.lexsort((states[:, 3], states[:, 2]) if soonest else (states[:, 2], states[:, 3]))[0]
    _, _, context, loss, n_bytes, text_tokens = (float(value) for value in states[best])
    tokens = sum(chunk.n_tokens for chunk in world.chunks) or 1
    return Outcome(
        ttft_ms=context,
        quality_loss=loss / tokens,
        transferred_bytes=n_bytes,
        text_share=text_tokens / tokens,
        slo_ms=world.slo_ms,
    )


def _undominated(states: np.ndarray, grid_ms: float) -> np.ndarray:
    """Of states whose link is free at about one time, those that no other beats."""
    link = np.floor(states[:, 0] / grid_ms)
    order = np.lexsort((states[:, 1], states[:, 3], states[:, 2], link))
    states, link = states[order], link[order]
    group = np.concatenate([[0], np.cumsum(np.diff(link) > 0)])
    loss = states[:, 3] - group * (2.0 * states[:, 3].max() + 1.0)  # falls from group to group
    before = np.concatenate([[np.inf], np.minimum.accumulate(loss)[:-1]])
    states = states[loss < before - 1e-12]
    if len(states) > MAX_STATES:
        return _undominated(states, grid_ms * 2)
    return states
