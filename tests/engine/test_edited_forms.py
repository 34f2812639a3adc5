"""The error of edits, measured."""

from __future__ import annotations

import random

import pytest

from ctxpress.engine.edited_forms import EditedForms
from ctxpress.engine.parallel import Mixing
from ctxpress.engine.prompts import PromptPieces
from ctxpress.evaluation.kv_edits import insert_sentence
from tests.engine.models import rotary_model
from tests.engine.test_edits import PREFIX, TEXT, ids


def pieces(*documents: list[int]) -> PromptPieces:
    return PromptPieces(prefix=tuple(PREFIX), documents=tuple(map(tuple, documents)), suffix=())


def test_an_edit_is_nearer_to_the_new_text_than_the_old_one_is() -> None:
    changed = [*TEXT[:15], *ids(5, 3), *TEXT[15:]]
    other = ids(20, 4)
    forms = EditedForms(rotary_model(), pieces(TEXT, other), pieces(changed, other), Mixing())
    assert (forms.reused_tokens, forms.changed_tokens) == (40, 45)
    found = forms.ask(ids(4, 5), ids(3, 6))
    assert found["computed"].kl < 1e-6
    assert 0 < found["edited"].kl < found["as it was"].kl


def test_documents_that_did_not_change_are_the_same_in_all_forms() -> None:
    found = EditedForms(rotary_model(), pieces(TEXT), pieces(TEXT), Mixing()).ask(ids(4, 5), [7])
    assert max(form.kl for form in found.values()) < 1e-6


def test_another_prefix_is_refused() -> None:
    other = PromptPieces(prefix=(5,), documents=(tuple(TEXT),), suffix=())
    with pytest.raises(ValueError, match="only documents may differ"):
        EditedForms(rotary_model(), pieces(TEXT), other, Mixing())


def test_a_sentence_goes_between_sentences() -> None:
    text = "Document: A\nOne is here. Two is there. Three is gone.\n"
    edited = insert_sentence(text, random.Random(0))
    assert len(edited) > len(text)
    before = next(n for n in range(len(text)) if text[n] != edited[n])
    assert edited.startswith(text[:before])
    assert edited.endswith(text[-5:])
    assert insert_sentence("Document: A\nOne", random.Random(0)).startswith("Document: A\n")
