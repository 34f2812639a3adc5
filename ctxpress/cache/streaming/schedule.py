"""When a context is in place: three machines that work side by side.

* The **link** carries one chunk at a time.
* The **decoder** takes a chunk when it has arrived and the one before it is decoded.
* The **compute** recomputes a chunk when all chunks before it are in place.

Recomputing goes through the chunks from the first one on, so the link carries the last one first:
whatever it does not manage is then next in the row of what is recomputed, where recomputing is
cheapest, and never waits for KV in front of it (as in "Compute or Load KV Cache? Why Not Both?",
Jin et al. 2024). Only where a chunk that must be recomputed stands further back, what is in front
of it comes before what is behind it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

__all__ = ["FIXED", "TEXT", "Choice", "Problem", "finish_ms", "first_late"]

TEXT = -1
FIXED = -2
Choice = int  # an index into a chunk's levels, TEXT, or FIXED for what is under way already


@dataclass(slots=True, kw_only=True)
class Problem:
    """What is left of a context, times in milliseconds on one clock.

    All lists have an entry per chunk that is not in place yet, in order. ``transfers``,
    ``decodes`` and ``losses`` hold one per level. ``ready`` is ``None``, or when a chunk will be
    in place that nothing is decided for any more. ``deferred`` chunks are loaded after others.

    Derived: ``fastest``, for each chunk the level with the least time, ``TEXT`` where none ever
    arrives, or ``FIXED``; ``order``, in which the link carries what it carries; ``due_ms``, when
    KV must be in place so that what must be recomputed behind it still can be.
    """

    link_ms: float
    decoder_ms: float
    compute_ms: float
    deadline_ms: float
    prefills: Sequence[float]
    transfers: Sequence[Sequence[float]]
    decodes: Sequence[Sequence[float]]
    losses: Sequence[Sequence[float]]
    ready: Sequence[float | None]
    deferred: Collection[int] = ()
    fastest: list[Choice] = field(init=False)
    order: list[int] = field(init=False)
    due_ms: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self.fastest = [self._fastest(index) for index in range(len(self.prefills))]
        self.due_ms = []
        self.order = []
        due = self.deadline_ms
        group: list[int] = []
        groups: list[list[int]] = []
        for index in range(len(self.prefills) - 1, -1, -1):
            self.due_ms.append(due)
            if self.fastest[index] == TEXT:
                due -= self.prefills[index]
                groups.append(group)
                group = []
            elif self.fastest[index] >= 0:
                group.append(index)
        self.due_ms.reverse()
        for one in (group, *reversed(groups)):
            self.order += [index for index in one if index not in self.deferred]
            self.order += [index for index in one if index in self.deferred]

    def __len__(self) -> int:
        return len(self.prefills)

    def _fastest(self, index: int) -> Choice:
        if self.ready[index] is not None:
            return FIXED
        best, least = TEXT, math.inf
        decodes = self.decodes[index]
        for level, transfer in enumerate(self.transfers[index]):
            time = transfer if transfer > decodes[level] else decodes[level]
            if time < least:
                best, least = level, time
        return best


def finish_ms(problem: Problem, choices: Sequence[Choice]) -> float:
    """When the last chunk is in place, if ``choices`` are made."""
    link, decoder = problem.link_ms, problem.decoder_ms
    transfers, decodes = problem.transfers, problem.decodes
    in_place = {}
    for index in problem.order:
        choice = choices[index]
        if choice >= 0:
            link += transfers[index][choice]
            decoder = (link if link > decoder else decoder) + decodes[index][choice]
            in_place[index] = decoder
    context = problem.compute_ms
    for index, choice in enumerate(choices):
        if choice == TEXT:
            context += problem.prefills[index]
        else:
            ready = in_place[index] if choice >= 0 else problem.ready[index]
            if ready is not None and ready > context:
                context = ready
    return context


def first_late(problem: Problem, choices: Sequence[Choice]) -> int:
    """The place in ``problem.order`` of the first KV that is not in place when it is due.

    The length of that order where none is late. Chunks that are recomputed by choice must stand
    before all KV.
    """
    link, decoder = problem.link_ms, problem.decoder_ms
    transfers, decodes, due = problem.transfers, problem.decodes, problem.due_ms
    for place, index in enumerate(problem.order):
        choice = choices[index]
        if choice >= 0:
            link += transfers[index][choice]
            decoder = (link if link > decoder else decoder) + decodes[index][choice]
            if decoder > due[index]:
                return place
    return len(problem.order)
