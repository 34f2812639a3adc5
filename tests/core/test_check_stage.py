"""check_stage accepts a lawful stage and finds every kind of unlawful one."""

import dataclasses
import itertools

import pytest

from ctxpress.errors import LawError
from ctxpress.stage import Skip, StageSkip
from ctxpress.testing import check_stage
from tests.core.stages import Broken, EveryOtherWord, Rogue


def test_a_lawful_stage_passes():
    check_stage(EveryOtherWord())


@pytest.mark.parametrize("how", ["grow", "blank", "touch protected"])
def test_an_unlawful_stage_is_found(how):
    with pytest.raises(LawError, match="sample"):
        check_stage(Broken(how))


@pytest.mark.parametrize("how", ["return nothing", "change the input"])
def test_a_stage_that_keeps_no_contract_is_found(how):
    for _ in range(2):  # the samples survive it
        with pytest.raises(LawError, match="sample 'prose'"):
            check_stage(Rogue(how))


def test_what_the_stage_raises_is_passed_on():
    with pytest.raises(RuntimeError):
        check_stage(Broken("raise"))


def test_a_stage_with_a_whim_is_found():
    class Whimsical(EveryOtherWord):
        whims = itertools.count()

        def cut(self, block, span, question):
            return super().cut(block, span, question) if next(self.whims) % 2 else span

    with pytest.raises(LawError, match="two results"):
        check_stage(Whimsical())


def test_an_object_that_is_no_stage_is_named():
    with pytest.raises(LawError, match="object lacks"):
        check_stage(object())


def test_what_arranges_documents_may_not_make_all_of_them_longer_together():
    class Shifting(EveryOtherWord):
        """Moves words from the second block to the first."""

        def __init__(self, added):
            super().__init__(extractive=False, scope="turn", arranges=True)
            self.added = added

        async def apply(self, document, context):
            if len(document.blocks) < 2:
                raise StageSkip(Skip.NO_SAVING, "one block")
            first, second, *rest = document.blocks
            longer = dataclasses.replace(first.spans[0], text=first.text + " more" * self.added)
            shorter = dataclasses.replace(second.spans[0], text="Less.")
            return document.with_blocks(
                (first.with_spans((longer,)), second.with_spans((shorter,)), *rest)
            )

    check_stage(Shifting(2))
    with pytest.raises(LawError, match="tokens grew to"):
        check_stage(Shifting(500))
