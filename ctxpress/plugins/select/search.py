"""Tree search over combinations of documents under a budget, with a reward for whole batches.

After CORAG (arXiv 2411.00744): a node is a combination, its children add one document
each; U = mean reward + C * sqrt(ln N / n) - lambda * cost / budget says where to go on; a node is
expanded by all its children in one batch; the best combination at any depth wins. Differences: the
reward that is passed up from an expansion is the batch's best, since children are known and not
drawn; combinations whose order does not matter are one node wherever they are reached from; a
subtree that is known whole is not entered again, so a small problem is solved exactly. Nothing is
random.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ctxpress.errors import DeadlineError, StageError
from ctxpress.plugins.select.config import SearchOptions

__all__ = ["Combination", "Found", "Reward", "search"]

Combination = tuple[int, ...]
"""Different numbers of candidates, in the order in which they would be sent."""


class Reward(Protocol):
    """What combinations are worth; higher is better. Any finite scale."""

    def evaluate(self, batch: Sequence[Combination]) -> Sequence[float]:
        """One finite number a combination, the same whatever else is in the batch."""


@dataclass(frozen=True, slots=True)
class Found:
    """The best combination that was evaluated; `reward` is `None` where time allowed for none.

    `complete`: it is known that every combination that fits was evaluated: this is the optimum.
    """

    chosen: Combination
    reward: float | None
    cost: int
    evaluated: int
    complete: bool


@dataclass(slots=True, eq=False)
class _Node:
    key: Combination
    cost: int
    reward: float
    visits: int = 1
    total: float = 0.0
    children: list[_Node] | None = None
    exhausted: bool = False
    members: frozenset[int] = field(default_factory=frozenset)


def search(
    costs: Sequence[int],
    budget: int,
    reward: Reward,
    options: SearchOptions,
    *,
    ranking: Sequence[int],
    ordered: bool = False,
    may_be_empty: bool = False,
    checkpoint: Callable[[], None] = lambda: None,
) -> Found:
    """The best combination of candidates 0 to n that costs no more than `budget` together.

    `costs`, (n,), are tokens, at least 1 each. Of `ordered` combinations the order is searched too;
    others are always in ascending order. Never worse, by `reward`, than any part of `ranking`
    filled up from its first candidate on, nor, with enough `iterations` for its length, than the
    greedy path that adds the best candidate while one fits. Exact if there are no more combinations
    with a candidate to add than `iterations`: up to 6 candidates by default, 4 if ordered.
    `may_be_empty`: none at all is a combination as well.

    `checkpoint` raises `DeadlineError` when the search has to end; the best so far is returned, or
    where nothing was evaluated, as much of `ranking` as fits.

    :raises StageError: the reward is no finite number.
    """
    tree = _Tree(costs, budget, reward, options, ordered=ordered, checkpoint=checkpoint)
    fill = tree.filled(ranking)
    if not fill and not may_be_empty:
        return Found((), None, 0, 0, True)
    complete = False
    try:
        tree.evaluate(
            [tree.canonical(fill[:k]) for k in range(0 if may_be_empty else 1, len(fill) + 1)]
        )
        tree.walk_greedily()
        complete = tree.grow()
    except DeadlineError:
        pass  # time is up, and the best so far is what there was time for
    best = tree.best
    if best is None:
        chosen = tree.canonical(fill)
        return Found(chosen, None, sum(costs[n] for n in chosen), 0, False)
    return Found(best.key, best.reward, best.cost, tree.evaluated, complete)


class _Tree:
    """The nodes met so far, by combination."""

    def __init__(
        self,
        costs: Sequence[int],
        budget: int,
        reward: Reward,
        options: SearchOptions,
        *,
        ordered: bool,
        checkpoint: Callable[[], None],
    ) -> None:
        self._costs = costs
        self._budget = budget
        self._reward = reward
        self._options = options
        self._ordered = ordered
        self._checkpoint = checkpoint
        self._root = _Node((), 0, 0.0)
        self._nodes: dict[Combination, _Node] = {}
        self._low, self._high = math.inf, -math.inf
        self.best: _Node | None = None
        self.evaluated = 0

    def canonical(self, key: Sequence[int]) -> Combination:
        """The combination as it would be sent."""
        return tuple(key) if self._ordered else tuple(sorted(key))

    def filled(self, ranking: Sequence[int]) -> list[int]:
        """Candidates in order of `ranking` while they fit; those that do not are passed over."""
        left, fill = self._budget, []
        for number in ranking:
            if self._costs[number] <= left:
                fill.append(number)
                left -= self._costs[number]
        return fill

    def evaluate(self, keys: Sequence[Combination]) -> int:
        """Make nodes of those combinations that are new, in one batch; how many were new."""
        new = [key for key in dict.fromkeys(keys) if key not in self._nodes]
        if not new:
            return 0
        self._checkpoint()
        rewards = [float(value) for value in self._reward.evaluate(new)]
        if len(rewards) != len(new) or not all(map(math.isfinite, rewards)):
            raise StageError("select: the reward of a combination is no finite number")
        for key, value in zip(new, rewards, strict=True):
            node = _Node(key, sum(self._costs[n] for n in key), value, total=value)
            node.members = frozenset(key)
            self._nodes[key] = node
            if self.best is None or _worth(node) > _worth(self.best):
                self.best = node
        self._low = min(self._low, *rewards)
        self._high = max(self._high, *rewards)
        self.evaluated += len(new)
        return len(new)

    def walk_greedily(self) -> None:
        """Expand the path that adds the best candidate each time, and pass its rewards up."""
        path = [self._root]
        for _ in range(self._options.iterations):
            self._expand(path[-1])
            children = path[-1].children
            if not children:
                break
            best = max(children, key=_worth)
            self._pass_up(path, best.reward)
            path.append(best)

    def grow(self) -> bool:
        """Expand where U is highest, `iterations` times; whether all that fits is known now."""
        left = self._options.iterations
        while left > 0:
            if self._root.exhausted:
                return True
            path = self._descend()
            node = path[-1]
            if node.children is None:
                left -= min(1, self._expand(node))
                self._pass_up(path, _best_below(node))
            for passed in reversed(path):
                passed.exhausted = passed.children is not None and not _open(passed)
        return self._root.exhausted

    def _descend(self) -> list[_Node]:
        """The path of highest U to a node that is not expanded, or of which no child is open."""
        node = self._root
        path = [node]
        while node.children is not None:
            open_children = _open(node)
            if not open_children:
                break
            log_visits = math.log(node.visits)
            utilities = [self._utility(child, log_visits) for child in open_children]
            node = open_children[utilities.index(max(utilities))]
            path.append(node)
        return path

    def _utility(self, node: _Node, log_visits: float) -> float:
        span = self._high - self._low
        mean = (node.total / node.visits - self._low) / span if span > 0 else 0.0
        explore = self._options.exploration * math.sqrt(log_visits / node.visits)
        return mean + explore - self._options.cost_weight * node.cost / max(1, self._budget)

    def _expand(self, node: _Node) -> int:
        """Give `node` all children that fit; how many of them were not known."""
        if node.children is not None:
            return 0
        left = self._budget - node.cost
        keys = [
            self.canonical((*node.key, number))
            for number, cost in enumerate(self._costs)
            if cost <= left and number not in node.members
        ]
        new = self.evaluate(keys)
        node.children = [self._nodes[key] for key in keys]
        return new

    def _pass_up(self, path: Sequence[_Node], reward: float) -> None:
        for node in path:
            node.visits += 1
            node.total += reward


def _open(node: _Node) -> list[_Node]:
    """The children below which something may be unknown."""
    return [child for child in node.children or () if not child.exhausted]


def _best_below(node: _Node) -> float:
    """The best reward of its children; its own where nothing more fits."""
    return max((child.reward for child in node.children or ()), default=node.reward)


def _worth(node: _Node) -> tuple[float, int, int]:
    """By reward; of equals the cheaper, then that of fewer documents."""
    return node.reward, -node.cost, -len(node.key)
