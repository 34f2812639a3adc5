"""Planning problems drawn at random, and a search through all their plans."""

from __future__ import annotations

import itertools
import math

from hypothesis import strategies as st

from ctxpress.cache.streaming.schedule import FIXED, TEXT, Problem


def reference_finish(problem: Problem, choices: tuple[int, ...]) -> float:
    """The schedule as FIFO queues, spelled out: what arrives, is decoded, is recomputed when."""
    link_free, decoder_free = problem.link_ms, problem.decoder_ms
    in_place = {i: ready for i, ready in enumerate(problem.ready) if ready is not None}
    for index in problem.order:
        if choices[index] in (TEXT, FIXED):
            continue
        arrived = link_free + problem.transfers[index][choices[index]]
        link_free = arrived
        decoder_free = max(arrived, decoder_free) + problem.decodes[index][choices[index]]
        in_place[index] = decoder_free
    compute_free = problem.compute_ms
    for index, choice in enumerate(choices):
        if choice == TEXT:
            earlier = max([in_place[i] for i in range(index)], default=0.0)
            compute_free = max(compute_free, earlier) + problem.prefills[index]
            in_place[index] = compute_free
    return max([problem.compute_ms, *in_place.values()])


def all_plans(problem: Problem) -> list[tuple[bool, float, float]]:
    """``(late, loss, finish)`` of every plan."""
    options = [
        [FIXED] if ready is not None else [TEXT, *range(len(levels))]
        for levels, ready in zip(problem.losses, problem.ready, strict=True)
    ]
    plans = []
    for choices in itertools.product(*options):
        finish = reference_finish(problem, choices)
        loss = sum(problem.losses[i][choice] for i, choice in enumerate(choices) if choice >= 0)
        if finish < math.inf:
            plans.append((finish > problem.deadline_ms, loss, finish))
    return plans


_ms = st.floats(0.0, 100.0)


@st.composite
def problems(
    draw: st.DrawFn, *, max_chunks: int = 4, max_levels: int = 3, decode_ms: float = 50.0
) -> Problem:
    """Small problems of any kind: chunks without KV, chunks under way, free losses and times."""
    n_chunks = draw(st.integers(0, max_chunks))
    n_levels = [draw(st.integers(0, max_levels)) for _ in range(n_chunks)]
    under_way = [draw(st.integers(0, 9)) == 0 for _ in range(n_chunks)]

    counts = [0 if busy else n for n, busy in zip(n_levels, under_way, strict=True)]

    def rows(values: st.SearchStrategy[float]) -> list[list[float]]:
        return [[draw(values) for _ in range(count)] for count in counts]

    return Problem(
        link_ms=draw(_ms) / 4,
        decoder_ms=draw(_ms) / 4,
        compute_ms=draw(_ms) / 4,
        deadline_ms=draw(st.floats(0.0, 300.0)),
        prefills=[draw(_ms) for _ in range(n_chunks)],
        transfers=rows(_ms),
        decodes=rows(st.floats(0.0, decode_ms)),
        losses=rows(st.floats(0.0, 1.0)),
        ready=[draw(_ms) if busy else None for busy in under_way],
    )


@st.composite
def link_bound_problems(draw: st.DrawFn) -> Problem:
    """Alike chunks that all have KV, and a decoder that takes no time."""
    n_chunks = draw(st.integers(1, 5))
    sizes = [10.0, 13.0, 18.0]
    losses = [1.0, 0.4, 0.1]
    scales = [draw(st.floats(0.8, 1.2)) for _ in range(n_chunks)]
    return Problem(
        link_ms=0.0,
        decoder_ms=0.0,
        compute_ms=0.0,
        deadline_ms=draw(st.floats(0.0, 100.0)),
        prefills=[25.0 + index for index in range(n_chunks)],
        transfers=[[scale * size for size in sizes] for scale in scales],
        decodes=[[0.0] * 3] * n_chunks,
        losses=[losses] * n_chunks,
        ready=[None] * n_chunks,
    )
