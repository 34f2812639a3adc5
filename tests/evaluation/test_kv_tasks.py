from __future__ import annotations

import random
import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxpress.evaluation import kv_words
from ctxpress.evaluation.kv_tasks import (
    KINDS,
    MAX_QUESTIONS,
    ContextTask,
    TaskKind,
    generate_tasks,
    is_held_out,
)

FACT = re.compile(r"The (\w+) of (\w+) is ([\w ]+)\.")
QUESTION = re.compile(r"Question: What is the (\w+) of (\w+)\?\nAnswer: The \1 of \2 is")


def facts_of(task: ContextTask) -> dict[tuple[str, str], str]:
    """(attribute, entity) -> value, read back from the documents."""
    return {(a, e): value for a, e, value in FACT.findall("".join(task.documents))}


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(KINDS), st.integers(2, 64), st.integers(1, 60), st.integers(0, 2**40))
def test_every_piece_is_whole_lines_and_each_question_stops_before_its_answer(
    kind: TaskKind, n_documents: int, document_tokens: int, seed: int
) -> None:
    (task,) = generate_tasks(
        kind, n_documents=n_documents, n_tasks=1, seed=seed, document_tokens=document_tokens
    )
    assert task.kind == kind
    assert len(task.documents) == n_documents
    assert task.prefix.endswith("\n")
    titles = [re.match(r"Document: (\w+)\n", document) for document in task.documents]
    assert len({title[1] for title in titles if title}) == n_documents
    assert all(document.endswith("\n") for document in task.documents)
    assert 1 <= len(task.questions) == len(task.answers) <= MAX_QUESTIONS
    assert len(set(task.questions)) == len(task.questions)
    assert all(re.search(r"\n(Answer|Label):[\w ]*$", question) for question in task.questions)
    assert all(question == question.rstrip() for question in task.questions)
    assert all(a == a.strip() and a and "\n" not in a for a in task.answers)


@pytest.mark.parametrize("kind", ["retrieval", "copying"])
def test_the_answer_is_what_the_documents_say(kind: TaskKind) -> None:
    for task in generate_tasks(kind, n_documents=9, n_tasks=40, seed=1):
        facts = facts_of(task)
        for question, answer in zip(task.questions, task.answers, strict=True):
            asked = QUESTION.fullmatch(question)
            assert asked is not None
            assert facts[asked[1], asked[2]] == answer


def test_neither_entity_nor_attribute_alone_gives_the_answer() -> None:
    shared = several = 0
    for task in generate_tasks("retrieval", n_documents=16, n_tasks=40, seed=1, document_tokens=40):
        facts = facts_of(task)
        for question in task.questions:
            asked = QUESTION.fullmatch(question)
            assert asked is not None
            shared += sum(attribute == asked[1] for attribute, _ in facts) > 1
            several += sum(entity == asked[2] for _, entity in facts) > 1
    assert shared > 300
    assert several > 150


def test_two_hops_lead_over_the_friend() -> None:
    for task in generate_tasks("two_hop", n_documents=6, n_tasks=40, seed=1):
        facts = facts_of(task)
        for question, answer in zip(task.questions, task.answers, strict=True):
            asked = re.search(r"What is the (\w+) of the friend of (\w+)\?", question)
            assert asked is not None
            assert facts[asked[1], facts["friend", asked[2]]] == answer


def test_counts_count_the_documents() -> None:
    seen = set()
    for task in generate_tasks("counting", n_documents=12, n_tasks=60, seed=1):
        values = list(facts_of(task).values())
        for question, answer in zip(task.questions, task.answers, strict=True):
            value = question.split("?")[0].split()[-1]
            assert values.count(value) == int(answer) <= 9
            seen.add(answer)
    assert len(seen) > 6


def test_labels_follow_the_category_and_are_made_anew_in_each_context() -> None:
    category = {word: name for name, words in kv_words.VALUES.items() for word in words}
    meanings = set()
    for task in generate_tasks("labelling", n_documents=8, n_tasks=40, seed=1):
        shots = re.findall(r"Input: (\w+)\nLabel: (\w+)\n", "".join(task.documents))
        label_of = {category[word]: label for word, label in shots}
        assert all(label_of[category[word]] == label for word, label in shots)
        for question, answer in zip(task.questions, task.answers, strict=True):
            word = question.split()[1]
            assert word not in dict(shots)
            assert label_of[category[word]] == answer
            meanings.add((category[word], answer))
    assert len(meanings) > 60


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_tasks_and_another_one_others(kind: TaskKind) -> None:
    first = generate_tasks(kind, n_documents=5, n_tasks=4, seed=3)
    assert first == generate_tasks(kind, n_documents=5, n_tasks=4, seed=3)
    assert first[:2] == generate_tasks(kind, n_documents=5, n_tasks=2, seed=3)
    assert not set(first) & set(generate_tasks(kind, n_documents=5, n_tasks=4, seed=4))
    assert not set(first) & set(
        generate_tasks(kind, n_documents=5, n_tasks=4, seed=3, split="train")
    )


def test_facts_asked_for_in_evaluation_are_never_trained_on() -> None:
    for split, expected in (("train", False), ("evaluation", True)):
        for task in generate_tasks(
            "retrieval",
            n_documents=8,
            n_tasks=50,
            seed=2,
            split=split,  # type: ignore[arg-type]
        ):
            for (attribute, entity), value in facts_of(task).items():
                assert is_held_out(entity, attribute, value) == expected


def test_documents_have_about_the_tokens_asked_for() -> None:
    for wanted in (24, 60, 120):
        tasks = generate_tasks(
            "retrieval", n_documents=16, n_tasks=20, seed=1, document_tokens=wanted
        )
        sizes = [len(re.findall(r" ?[A-Za-z]+| ?\d|[.:\n]", d)) for t in tasks for d in t.documents]
        assert wanted - 8 <= sum(sizes) / len(sizes) <= wanted + 1


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"kind": "riddle"}, "riddle"),
        ({"n_documents": 0}, "n_documents"),
        ({"n_documents": 129}, "n_documents"),
        ({"kind": "two_hop", "n_documents": 1}, "n_documents"),
        ({"document_tokens": 0}, "document_tokens"),
        ({"n_questions": 0}, "n_questions"),
        ({"split": "test"}, "test"),
    ],
)
def test_what_cannot_be_made_is_refused_by_name(changes: dict[str, object], named: str) -> None:
    wanted = {"kind": "retrieval", "n_documents": 2, "n_tasks": 1, "seed": 0} | changes
    with pytest.raises(ValueError, match=named):
        generate_tasks(wanted.pop("kind"), **wanted)  # type: ignore[arg-type]


def test_no_word_stands_for_two_things() -> None:
    words = [*kv_words.NAMES, *kv_words.LABELS, *kv_words.NOUNS, *kv_words.ADJECTIVES]
    words += [word for values in kv_words.VALUES.values() for word in values]
    assert len(words) == len(set(words))


def test_global_random_state_is_left_alone() -> None:
    random.seed(5)
    before = random.getstate()
    generate_tasks("retrieval", n_documents=3, n_tasks=3, seed=0)
    assert random.getstate() == before


def test_tasks_come_without_torch() -> None:
    code = "import sys, ctxpress.evaluation.kv_tasks; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
