"""Budgets over many blocks."""

from concurrent.futures import ThreadPoolExecutor

from ctxpress.conversation import Place
from ctxpress.counting import CountCache, Counting
from ctxpress.stage import StageContext
from ctxpress.testing import WordCounter, make_block
from ctxpress.work import Budget, BuiltStage, Work
from tests.core.stages import EveryOtherWord


class Tallied(Counting):
    texts = 0

    async def count(self, texts):
        self.texts += len(texts)
        return await super().count(texts)


async def test_a_token_budget_is_shared_out_in_linear_time():
    stage = BuiltStage(name="half", stage=EveryOtherWord(), fingerprint="")
    blocks = [make_block(f"{i} " + "word " * 9, pointer=f"/{i}") for i in range(300)]
    work = [
        Work(place=Place(i, b"", b"", b""), before=block, block=block)
        for i, block in enumerate(blocks)
    ]
    with ThreadPoolExecutor(max_workers=1) as executor:
        counting = Tallied(WordCounter(), CountCache(), executor)
        context = StageContext(counter=WordCounter(), executor=None, target_tokens=600)
        budget = Budget([stage], 0, context, blocks, counting)
        shares = [(await budget.context_of([item])).target_tokens for item in work]
    assert shares == [2] * 300
    assert counting.texts < 5 * len(blocks)


async def test_a_final_stage_is_told_the_budget_of_a_request():
    half = BuiltStage(name="half", stage=EveryOtherWord(), fingerprint="")
    plain = BuiltStage(name="plain", stage=EveryOtherWord(keep_ratio=None), fingerprint="")
    last = BuiltStage(
        name="last", stage=EveryOtherWord(keep_ratio=None), fingerprint="", final=True
    )
    block = make_block("word " * 9)
    work = Work(place=Place(0, b"", b"", b""), before=block, block=block)
    targets = []
    with ThreadPoolExecutor(max_workers=1) as executor:
        counting = Counting(WordCounter(), CountCache(), executor)
        context = StageContext(counter=WordCounter(), executor=None, target_tokens=6)
        for number in range(3):
            budget = Budget([half, plain, last], number, context, [block], counting)
            targets.append((await budget.context_of([work])).target_tokens)
    assert targets == [6, None, 6]
