"""Puts a request's report together, with the sentence that says what would change it (law 5)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set

from ctxpress.document import Block, ContextDocument, Role
from ctxpress.fates import document_reports
from ctxpress.outcomes import Outcome
from ctxpress.report import Report
from ctxpress.stage import Skip, StageReport, TokenCounter
from ctxpress.work import Work

__all__ = ["summarise"]


def summarise(
    *,
    pipeline: str,
    counter: TokenCounter,
    before: ContextDocument,
    after: ContextDocument,
    tokens_before: Sequence[int],
    tokens_after: Sequence[int],
    work: Sequence[Work],
    stages: tuple[StageReport, ...],
    remembered: Mapping[int, Outcome],
    settled: Mapping[int, Outcome],
    cache_risk: int,
    elapsed_ms: float,
    min_tokens: int,
    applied: bool,
    growing: Set[str] = frozenset(),
) -> Report:
    """The report of one request. Token sequences run parallel to the document's blocks.

    ``remembered`` and ``settled`` are the outcomes of earlier calls and of this one, by the index
    of the block. Stages that are ``growing`` save nothing, so they do not explain why nothing was
    saved.
    """
    compressed = sum(item.block.text != item.before.text and item.skipped is None for item in work)
    fates = {index: one.fates for index, one in [*remembered.items(), *settled.items()]}
    skipped, reason = None, None
    if sum(tokens_after) >= sum(tokens_before):
        saving = [report for report in stages if report.stage not in growing]
        skipped = _why(work, saving, before, tuple(remembered.values()))
        if skipped in _SMALL_NEWS and _mostly_earlier(before, tokens_before):
            skipped = Skip.EARLIER_TURN
        reason = f"0 % saved: {_sentence(skipped, before, tokens_before, min_tokens, saving)}"
    return Report(
        pipeline=pipeline,
        tokens_before=sum(tokens_before),
        tokens_after=sum(tokens_after),
        estimated=counter.estimated,
        counter=counter.identity,
        applied=applied,
        elapsed_ms=elapsed_ms,
        stages=stages,
        skipped=skipped,
        reason=reason,
        blocks=sum(not block.opaque for block in before.blocks),
        blocks_compressed=compressed,
        blocks_remembered=sum(one.skipped is None for one in remembered.values()),
        cache_risk_blocks=cache_risk,
        protected_tokens=_protected_tokens(before.blocks, tokens_before, counter),
        documents=tuple(document_reports(before, after, fates)),
    )


def _why(
    work: Sequence[Work],
    stages: Sequence[StageReport],
    document: ContextDocument,
    remembered: Sequence[Outcome],
) -> Skip:
    """The skip that explains most of an unsaved request."""
    if not any(not block.opaque for block in document.blocks):
        return Skip.NOTHING_TO_COMPRESS
    codes = Counter(item.skipped for item in work if item.skipped is not None)
    for code in (Skip.STORE_FAILED, Skip.BELOW_MIN_TOKENS):
        if codes[code]:
            return code
    stage_codes = Counter(report.skipped for report in stages if report.skipped is not None)
    codes.update(outcome.skipped for outcome in remembered if outcome.skipped is not None)
    for counted in (stage_codes, codes):
        if counted:
            return counted.most_common(1)[0][0]
    return Skip.NO_SAVING if work else Skip.EARLIER_TURN


def _mostly_earlier(document: ContextDocument, tokens: Sequence[int]) -> bool:
    """Whether most of what might have been compressed stands in earlier turns."""
    earlier = sum(
        count
        for block, count in zip(document.blocks, tokens, strict=True)
        if block.turn < document.last_turn and block.role in (Role.USER, Role.TOOL)
    )
    return 2 * earlier > sum(tokens)


def _sentence(
    code: Skip,
    document: ContextDocument,
    tokens: Sequence[int],
    min_tokens: int,
    stages: Sequence[StageReport],
) -> str:
    if code is Skip.PROTECTED:
        return _protected_sentence(document, tokens)
    if code is Skip.BELOW_MIN_TOKENS:
        return f"no message has {min_tokens} compressible tokens; lower min_tokens"
    for report in stages:
        if report.skipped is code and report.reason is not None:
            return f"stage {report.stage}: {report.reason}"
    return SENTENCES.get(code, str(code))


def _protected_sentence(document: ContextDocument, tokens: Sequence[int]) -> str:
    """Names where most of the protected text is."""
    by_role: Counter[Role] = Counter()
    for block, count in zip(document.blocks, tokens, strict=True):
        by_role[block.role] += count
    role = by_role.most_common(1)[0][0] if by_role else Role.USER
    return {
        Role.SYSTEM: "most text is in the system prompt, which is protected; set system: compress",
        Role.ASSISTANT: "most text is the assistant's own, which is protected; "
        "set assistant: compress",
        Role.TOOL: "the tool results are code, JSON, logs or file contents, which are protected; "
        "the stage compact writes JSON, logs and tables shorter without loss",
        Role.USER: "the newest message is the question itself, code or other protected text; "
        "long context beside a question is compressed",
    }[role]


def _protected_tokens(blocks: Sequence[Block], tokens: Sequence[int], counter: TokenCounter) -> int:
    """Tokens of protected text, from shares of characters: a figure for people, not for bills."""
    total = 0.0
    for block, count in zip(blocks, tokens, strict=True):
        length = len(block.original)
        if length:
            total += count * sum(len(s.text) for s in block.spans if s.protected) / length
    return round(total)


# Skips of the newest turn that explain little where most of the text is older.
_SMALL_NEWS = frozenset({Skip.PROTECTED, Skip.BELOW_MIN_TOKENS, Skip.NOTHING_TO_COMPRESS})

SENTENCES = {
    Skip.NOTHING_TO_COMPRESS: "there is no text that the stages work on",
    Skip.NO_QUESTION: "a stage needs the question of the turn, and none was found",
    Skip.NO_SCORES: "a stage goes by scores of the documents, and they have none that are finite",
    Skip.TOO_FEW_DOCUMENTS: "there are fewer documents than a stage for documents works on",
    Skip.BYPASS: "the newest blocks were first sent with x-ctxpress-bypass and go as they went",
    Skip.DEADLINE: "the time budget ran out when the newest blocks were first sent",
    Skip.OBSERVE: "the newest blocks were first sent untouched, in mode observe",
    Skip.EARLIER_TURN: "most text stands in earlier turns and goes as it went then, or untouched "
    "where it never went through here; long context belongs into the newest message",
    Skip.STORE_FAILED: "the store could not be reached, so nothing may be rewritten; see readyz",
    Skip.LANGUAGE: "the newest blocks are in a language on which the model was not measured",
    Skip.SHARED_PREFIX: "many conversations share the newest blocks as a cached prefix; use stages "
    "that do not depend on the question",
    Skip.STAGE_FAILED: "a stage failed when the newest blocks were first sent; the log names it",
    Skip.LAW_BROKEN: "a stage broke a law when the newest blocks were first sent; the log names it",
    Skip.INFLATED: "the stages' results had more tokens than the newest blocks",
    Skip.OVER_BUDGET: "what must stay has more tokens than the budget by itself; raise "
    "target_tokens or protect less",
    Skip.NOTHING_RELEVANT: "nothing in the newest documents is of use for the question",
    Skip.OTHER_MODEL: "the stages are for other models than the newest blocks were first sent to",
    Skip.NO_SAVING: "the stages kept everything; lower keep_ratio",
}
