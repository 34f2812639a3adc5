"""The stage `dedupe`: whole documents first, then sentences."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping

from ctxpress.arrangement import Passage, arrange, passages_of
from ctxpress.document import ContextDocument, Source
from ctxpress.plugins.dedupe.config import DedupeConfig
from ctxpress.plugins.dedupe.cutting import cut_sentences
from ctxpress.plugins.dedupe.documents import find_repeated_documents
from ctxpress.plugins.dedupe.sentences import find_repeated_sentences
from ctxpress.plugins.dedupe.text_runs import text_runs
from ctxpress.plugins.dedupe.words import Lexicon
from ctxpress.stage import StageContext, StageTraits

__all__ = ["DedupeStage"]

_ALGORITHM = "dedupe/2"
_IN_REQUEST = "another text of this request says the same"
_SENT_BEFORE = "it was sent earlier in this conversation"

_Reasons = tuple[tuple[str, Source, str], ...]


class DedupeStage:
    """Drops documents and sentences that say again what stands before them. Thread-safe."""

    def __init__(self, config: DedupeConfig) -> None:
        self._config = config
        self._traits = StageTraits(scope="turn", arranges=True, drop_reason=_IN_REQUEST)

    @property
    def traits(self) -> StageTraits:
        """It only deletes, whole documents too, blind to the question, over a whole turn."""
        return self._traits

    @property
    def identity(self) -> str:
        """The version of the algorithm."""
        return _ALGORITHM

    async def apply(self, document: ContextDocument, context: StageContext) -> ContextDocument:
        """Drop what is repeated; a document without repetitions comes back as it is.

        :raises DeadlineError: when the time budget ends first.
        """
        return await context.run(lambda: self._dedupe(document, context.checkpoint))

    def _dedupe(self, document: ContextDocument, checkpoint: Callable[[], None]) -> ContextDocument:
        config = self._config
        earlier = document.earlier if config.across_turns else ()
        lexicon = Lexicon()
        passages = passages_of(document)
        repeats = find_repeated_documents(
            document,
            passages,
            lexicon,
            threshold=config.threshold,
            min_words=config.min_words,
            earlier=earlier if passages else (),
            checkpoint=checkpoint,
        )
        reasons = tuple(_reasons(document, passages, repeats.dropped))
        document = _without(document, passages, repeats.dropped)
        if not config.sentences:
            return _with_reasons(document, reasons)
        left = passages_of(document)
        whole = {(i, passages[n].source) for n in repeats.whole for i in passages[n].blocks}
        blocks = enumerate(document.blocks)
        runs = [run for n, b in blocks for run in text_runs(n, b, lexicon, config.min_words)]
        found = find_repeated_sentences(
            runs,
            lexicon,
            threshold=config.threshold,
            min_words=config.min_words,
            earlier=earlier,
            checkpoint=checkpoint,
        )
        found = [
            {} if (run.block, run.source) in whole else one
            for run, one in zip(runs, found, strict=True)
        ]
        cut, gone = cut_sentences(document, left, runs, found)
        reasons += tuple(_reasons(document, left, gone))
        return _with_reasons(_without(cut, passages_of(cut), gone), reasons)


def _without(
    document: ContextDocument, passages: tuple[Passage, ...], dropped: Mapping[int, bool]
) -> ContextDocument:
    if not dropped:
        return document
    return arrange(document, passages, [p.number for p in passages if p.number not in dropped])


def _reasons(
    document: ContextDocument, passages: tuple[Passage, ...], dropped: Mapping[int, bool]
) -> Iterator[tuple[str, Source, str]]:
    """Why passages left that were sent before; the others' reason is the stage's own."""
    for number, sent in dropped.items():
        if sent:
            passage = passages[number]
            for index in passage.blocks:
                yield document.blocks[index].pointer, passage.source, _SENT_BEFORE


def _with_reasons(document: ContextDocument, reasons: _Reasons) -> ContextDocument:
    return dataclasses.replace(document, drop_reasons=reasons) if reasons else document
