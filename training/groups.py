"""Groups: a question with all passages that compete for it, hard negatives mined among them.

What the stages for documents need is not a probability a passage but the right order over twenty of
them. So the passages of a question are one example, and the ranking loss runs over all of them.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator, Mapping, Sequence

import bm25s

from training.questions import Example, Item, alone, find_answers, with_question
from training.written import Written

_NEAREST = 30
"""Negatives are drawn from so many of the best passages by BM25."""
_ALONE_CHANCE = 0.4


class NegativeMiner:
    """Finds passages that look like they answer a question and do not: BM25 over all passages.

    `titles` maps every passage that may be seen to its title.
    """

    def __init__(self, titles: Mapping[str, str]) -> None:
        self._texts = list(titles)
        self._titles = list(titles.values())
        self._index = bm25s.BM25()
        corpus = [f"{title} {text}" for text, title in titles.items()]
        tokens = bm25s.tokenize(corpus, stopwords="en", show_progress=False)
        self._index.index(tokens, show_progress=False)

    def extended(self, item: Item, count: int, rng: random.Random) -> Item:
        """`item` with up to `count` more passages, none of which holds one of its answers.

        Without annotated answers nothing shows that a passage is of no use: `item` itself.
        """
        if not item.answers:
            return item
        query = bm25s.tokenize(
            [item.question], stopwords="en", show_progress=False, return_ids=False
        )
        if not query[0]:
            return item
        scores = self._index.get_scores(query[0])
        nearest = scores.argsort()[::-1][:_NEAREST]
        candidates = [
            int(number)
            for number in nearest
            if scores[number] > 0  # without a word in common it looks like no answer
            and self._texts[number] not in item.passages
            and not find_answers(self._texts[number], item.answers)
        ]
        chosen = rng.sample(candidates, min(count, len(candidates)))
        return dataclasses.replace(
            item,
            titles=(*item.titles, *(self._titles[number] for number in chosen)),
            passages=(*item.passages, *(self._texts[number] for number in chosen)),
            quoted=(*item.quoted, *(() for _ in chosen)),
        )


def epoch_groups(
    items: Sequence[Item],
    written: Sequence[Written],
    miner: NegativeMiner,
    negatives: tuple[int, int],
    written_share: float,
    rng: random.Random,
) -> Iterator[list[Example]]:
    """One epoch: every item, and `written_share` of the written questions, each with its rivals.

    `negatives` are the mined passages of an item and of a written question. Some useful passages
    come by themselves, without the question, so that this reading is not unlearned.
    """
    for item in items:
        yield list(_group(miner.extended(item, negatives[0], rng), rng))
        if item.answers and item.useful and rng.random() < _ALONE_CHANCE:
            yield [alone(item, rng.choice(item.useful), rng)]
    for passage in written:
        for item in passage.items:
            if rng.random() < written_share:
                yield list(_group(miner.extended(item, negatives[1], rng), rng))
                if rng.random() < _ALONE_CHANCE / 2:
                    yield [alone(item, 0, rng)]


def _group(item: Item, rng: random.Random) -> Iterator[Example]:
    useful, seed = item.useful, rng.random()
    for index in range(len(item.passages)):
        # The same seed for all: the question and the titles are printed in one way.
        example = with_question(item, index, random.Random(seed))
        # Only of passages that matter the levels are asked for: that costs a run of the teacher.
        yield dataclasses.replace(example, has_levels=index in useful)
