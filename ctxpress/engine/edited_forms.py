"""One context before and after an edit: re-encoded by its edits, beside computed anew."""

from __future__ import annotations

from collections.abc import Sequence

from ctxpress.cache.kv import KVBlock
from ctxpress.engine.edits import plan_edit, reencode
from ctxpress.engine.forms import AskedForm, answer_logits, compare
from ctxpress.engine.loading import RotaryModel
from ctxpress.engine.parallel import Mixing, encode_behind, parallel_row
from ctxpress.engine.prompts import PromptPieces

__all__ = ["EDIT_FORMS", "EditedForms"]

EDIT_FORMS = ("computed", "edited", "as it was")


class EditedForms:
    """Documents in parallel behind a prefix, of which some changed.

    ``computed`` encodes the changed ones anew, ``edited`` by ``reencode``, and ``as it was`` leaves
    them unchanged: what an edit is worth. ``reused_tokens`` of the ``changed_tokens`` of edited
    documents were not computed.

    :raises ValueError: ``before`` and ``after`` differ in more than documents.
    """

    def __init__(
        self, model: RotaryModel, before: PromptPieces, after: PromptPieces, mixing: Mixing
    ) -> None:
        if before.prefix != after.prefix or len(before.documents) != len(after.documents):
            raise ValueError("only documents may differ, not the prefix nor how many there are")
        self._model = model
        self.reused_tokens = self.changed_tokens = 0
        prefix = encode_behind(model, None, (), before.prefix) if before.prefix else None
        forms: dict[str, list[KVBlock]] = {name: [] for name in EDIT_FORMS}
        for old, new in zip(before.documents, after.documents, strict=True):
            was = encode_behind(model, prefix, before.prefix, old)
            computed = edited = was
            if old != new:
                computed = encode_behind(model, prefix, before.prefix, new)
                edited = self._edited(prefix, was, old, new)
            for name, block in zip(EDIT_FORMS, (computed, edited, was), strict=True):
                forms[name].append(block)
        self._placed = {
            name: parallel_row(model, prefix, blocks, mixing) for name, blocks in forms.items()
        }

    def ask(self, question: Sequence[int], answer: Sequence[int]) -> dict[str, AskedForm]:
        """Whether each form gives ``answer``, and its divergence from ``computed``."""
        logits = {
            name: answer_logits(self._model, placed, question, answer)
            for name, placed in self._placed.items()
        }
        return {name: compare(logits["computed"], one, answer) for name, one in logits.items()}

    def _edited(
        self, prefix: KVBlock | None, was: KVBlock, old: Sequence[int], new: Sequence[int]
    ) -> KVBlock:
        plan = plan_edit(old, new)
        self.reused_tokens += plan.reused_tokens
        self.changed_tokens += len(new)
        work = reencode(self._model, prefix, was, new, plan)
        while True:
            try:
                next(work)
            except StopIteration as done:
                block: KVBlock = done.value
                return block
