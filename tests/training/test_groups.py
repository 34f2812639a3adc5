"""Groups of passages that compete for a question: mined rivals, batches, the ranking loss."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from ctxpress.models import load_bundled_tokenizer
from training.batches import MAX_ROW_TOKENS, Batch, group_batches
from training.fit import FitOptions, fit, loss_of
from training.groups import NegativeMiner, epoch_groups
from training.model import ANSWER, HALF, N_OUTPUTS, QUOTE, EncoderShape, TokenClassifier
from training.questions import Example, Item
from training.written import Written

MILL = "The mill was built in 1871. It burned down in 1902, and Ada Lind rebuilt it."
RIVAL = "The mill at Ostrand was rebuilt after a fire by people of the village."
HOLDER = "Ada Lind was a miller, too."
OTHERS = [f"Mill number {n} grinds corn by the river, they say." for n in range(40)]
TITLES = {MILL: "Mill", RIVAL: "Ostrand", HOLDER: "Lind", **dict.fromkeys(OTHERS, "Corn")}
ITEM = Item(
    "R1", "who rebuilt the mill", ("Ada Lind",), ("Mill",), (MILL,), (((28, len(MILL)),),), 0
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_bundled_tokenizer()


@pytest.fixture(scope="module")
def miner() -> NegativeMiner:
    return NegativeMiner(TITLES)


def levels(text: str) -> np.ndarray:
    tokens = load_bundled_tokenizer().encode(text, add_special_tokens=False).ids
    return np.full((len(tokens), 2), 0.5, np.float32)


def test_rivals_look_like_answers_and_hold_none(miner: NegativeMiner) -> None:
    for seed in range(5):
        found = miner.extended(ITEM, 3, random.Random(seed))
        assert found.passages[0] == MILL
        assert len(found.passages) == len(found.titles) == len(found.quoted) == 4
        assert HOLDER not in found.passages
        assert found.passages.count(MILL) == 1
        assert found.quoted[1:] == ((), (), ())
        assert [TITLES[text] for text in found.passages] == list(found.titles)
        assert (found.gold, found.answers, found.id) == (0, ITEM.answers, ITEM.id)
    assert RIVAL in miner.extended(ITEM, 40, random.Random(0)).passages


def test_without_annotated_answers_or_words_nothing_is_mined(miner: NegativeMiner) -> None:
    for item in (
        dataclasses.replace(ITEM, answers=()),
        dataclasses.replace(ITEM, question="when do bees dance"),
        dataclasses.replace(ITEM, question=""),
    ):
        assert miner.extended(item, 3, random.Random(0)) == item


def test_an_epoch_has_every_item_and_a_share_of_the_written_questions(miner: NegativeMiner) -> None:
    written = [Written(MILL, "Mill", (ITEM,))] * 200
    groups = list(epoch_groups([ITEM] * 50, written, miner, (2, 1), 0.25, random.Random(3)))
    with_rivals = [group for group in groups if len(group) == 3]
    assert len(with_rivals) == 50
    by_writing = [group for group in groups if len(group) == 2]
    assert 25 < len(by_writing) < 75
    blind = [group for group in groups if len(group) == 1]
    assert blind
    assert all(group[0].question is None for group in blind)


def test_passages_of_a_group_are_asked_alike_and_only_useful_ones_have_levels(
    miner: NegativeMiner,
) -> None:
    (group, *_) = epoch_groups([ITEM], [], miner, (3, 1), 0.0, random.Random(1))
    assert len({example.question for example in group}) == 1
    assert [example.has_levels for example in group] == [True, False, False, False]
    assert [bool(example.quoted) for example in group] == [True, False, False, False]
    assert len({example.passage_start > 0 for example in group}) == 1  # titles for all or for none


def test_groups_are_never_cut_in_two(tokenizer: Tokenizer) -> None:
    groups = [
        [
            Example(f"{n} {text}", "who?", has_levels=False)
            for text in [MILL, RIVAL, *OTHERS[: n % 4]]
        ]
        for n in range(12)
    ]
    batches = list(group_batches(tokenizer, groups, levels, 400, random.Random(0)))
    assert len(batches) > 2
    sizes: list[int] = []
    for batch in batches:
        assert batch.groups is not None
        assert batch.groups.shape == batch.token_ids.shape[:1]
        assert batch.token_ids.shape[1] <= MAX_ROW_TOKENS
        numbers = batch.groups.tolist()
        assert numbers == sorted(numbers)
        assert set(numbers) == set(range(max(numbers) + 1))
        sizes += [numbers.count(number) for number in range(max(numbers) + 1)]
        if len(set(numbers)) > 1:
            assert batch.token_ids.numel() <= 400
    assert sorted(sizes) == sorted(map(len, groups))


def test_what_has_no_levels_is_not_taught_any_and_costs_no_run_of_the_teacher(
    tokenizer: Tokenizer,
) -> None:
    asked: list[str] = []

    def teacher(text: str) -> np.ndarray:
        asked.append(text)
        return levels(text)

    group = [Example(MILL, "who?"), Example(RIVAL, "who?", has_levels=False)]
    (batch,) = group_batches(tokenizer, [group], teacher, 4096, random.Random(0))
    assert asked == [MILL]
    assert batch.weights[0, :, HALF].sum() > 0
    assert batch.weights[1, :, HALF].sum() == 0
    assert batch.weights[1, :, QUOTE].sum() > 0


def ranked(groups: list[int] | None, output: int) -> Batch:
    """Three rows of four sub-tokens; the third of the first row is right."""
    targets = torch.zeros(3, 4, N_OUTPUTS)
    targets[0, 2, output] = 1
    ids = torch.zeros(3, 4, dtype=torch.long)
    numbers = None if groups is None else torch.tensor(groups)
    return Batch(ids, ids, None, targets, torch.ones_like(targets), False, numbers)


def ranking(batch: Batch, output: int, row: int, column: int) -> float:
    """What the ranking adds to the loss where this sub-token scores best."""
    logits = torch.zeros(3, 4, N_OUTPUTS)
    logits[row, column, output] = 5
    both = [loss_of(logits, batch, None, FitOptions(ranking_weight=w)) for w in (1.0, 0.0)]
    return float(both[0] - both[1])


@pytest.mark.parametrize("output", [ANSWER, QUOTE])
def test_in_a_group_the_right_passage_has_to_outrank_the_others(output: int) -> None:
    batch = ranked([0, 0, 1], output)
    assert ranking(batch, output, 0, 2) < 0.2
    assert ranking(batch, output, 1, 0) > 4  # a rival's sub-token wins
    indifferent = float(np.log(8))  # one of the eight sub-tokens of the group
    assert ranking(batch, output, 2, 0) == pytest.approx(indifferent, abs=1e-3)


def test_rows_that_are_no_group_compete_within_themselves_for_answers_only() -> None:
    batch = ranked(None, ANSWER)
    assert ranking(batch, ANSWER, 1, 0) == pytest.approx(float(np.log(4)), abs=1e-3)
    assert ranking(ranked(None, QUOTE), QUOTE, 1, 0) == pytest.approx(0, abs=1e-5)


def test_groups_without_a_label_have_no_ranking_loss() -> None:
    batch = dataclasses.replace(ranked([0, 0, 1], ANSWER), targets=torch.zeros(3, 4, N_OUTPUTS))
    assert ranking(batch, ANSWER, 1, 0) == 0


def test_sub_tokens_without_a_known_label_do_not_compete() -> None:
    batch = ranked([0, 0, 1], ANSWER)
    batch.weights[1, :, ANSWER] = 0
    assert ranking(batch, ANSWER, 1, 0) == pytest.approx(float(np.log(4)), abs=1e-3)


def test_fitting_in_groups_lowers_the_loss_and_repeats_with_its_seed(tokenizer: Tokenizer) -> None:
    shape = EncoderShape(n_layers=1, n_heads=2, hidden_dim=16, inner_dim=32)
    written = [Written(RIVAL, "Ostrand", (dataclasses.replace(ITEM, passages=(RIVAL,)),))]

    def run() -> tuple[list[float], TokenClassifier]:
        losses: list[float] = []
        torch.manual_seed(1)
        model, teacher = TokenClassifier(shape).eval(), TokenClassifier(shape).eval()
        options = FitOptions(
            epochs=5, batch_tokens=512, ranking_weight=0.3, learning_rate=5e-3, negatives=(2, 1)
        )

        def report(line: str) -> None:
            losses.append(float(line.split("loss ")[1].split()[0]))

        fit(model, tokenizer, [], [ITEM] * 4, written, options, report, teacher)
        return losses, model

    losses, model = run()
    assert losses[-1] < losses[0]
    again = run()[1].state_dict()
    assert all(torch.equal(value, again[name]) for name, value in model.state_dict().items())
