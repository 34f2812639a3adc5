"""Repetition (JRT-Prompt): what is left of a context is sent twice to a recurrent model.

A model that reads with a memory of fixed size must decide what to remember before it knows what it
will be asked; on the second pass it knows (Arora et al., Just Read Twice, arXiv 2407.05483, section
3.1). Repeating costs tokens, so a block is only repeated where both copies together have fewer than
the block had to begin with.
"""

from __future__ import annotations

import fnmatch
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ctxpress.document import Block, ContextDocument, Kind, Role, Span, is_unicode
from ctxpress.hookspecs import RegisterStage, hookimpl
from ctxpress.stage import Skip, StageContext, StageSkip, StageTraits

__all__ = ["RECURRENT_MODELS", "RepeatConfig", "RepeatStage", "register_stages"]

RECURRENT_MODELS = (
    "*mamba*",
    "*rwkv*",
    "*recurrentgemma*",
    "*griffin*",
    "*hawk-*",
    "*hyena*",
    "*retnet*",
    "*xlstm*",
    "*hgrn*",
    "*deltanet*",
    "gla-*",
    "*/gla-*",
    "based-*",
    "*/based-*",
)
"""Names of models whose layers all read with a memory of fixed size, or with a short window beside.

Left out are hybrids with layers of full attention (Jamba, Zamba, Bamba, Falcon-H1, Qwen3-Next):
those layers can look back, and the paper measured none of them.
"""

_ALGORITHM = "repeat/1"
_BETWEEN = "\n"


class RepeatConfig(BaseModel):
    """Options.

    `models`: patterns (`*`, `?`, `[…]`) of the names of models that the context is repeated for;
    case does not matter. `form`: how it is repeated; `twice`: all of a block, a line break, and all
    of it again, so that a question in the block also stands twice.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        RECURRENT_MODELS, min_length=1, max_length=100
    )
    form: Literal["twice"] = "twice"


class RepeatStage:
    """Repeats a shortened block where that is still shorter than it came. Thread-safe."""

    def __init__(self, config: RepeatConfig) -> None:
        self._patterns = tuple(pattern.lower() for pattern in config.models)
        self._traits = StageTraits(extractive=False, may_grow=True)

    @property
    def traits(self) -> StageTraits:
        """It grows what it is given, and uses ranges of the original twice."""
        return self._traits

    @property
    def identity(self) -> str:
        """The version of the algorithm."""
        return _ALGORITHM

    async def apply(self, document: ContextDocument, context: StageContext) -> ContextDocument:
        """Repeat each block of the user and of tools that was shortened to less than half.

        :raises StageSkip: the model is not one of `models`, or no block is short enough.
        :raises DeadlineError: when the time budget ends first.
        """
        model = (document.model or "").lower()
        if not any(fnmatch.fnmatchcase(model, pattern) for pattern in self._patterns):
            raise StageSkip(Skip.OTHER_MODEL, _OTHER_MODEL_REASON)
        return await context.run(lambda: _repeat(document, context))


def _repeat(document: ContextDocument, context: StageContext) -> ContextDocument:
    count = context.counter.count
    blocks = list(document.blocks)
    left = context.target_tokens
    if left is not None:
        left -= sum(count(block.text) for block in blocks)
    for number, block in enumerate(blocks):
        context.checkpoint()
        if block.role not in (Role.USER, Role.TOOL) or not block.text.strip():
            continue
        if not is_unicode(block.text):
            continue  # a lone surrogate came so; written text may not have one
        once, original = count(block.text), count(block.original)
        if 2 * once >= original:
            continue
        again = _twice(block)
        added = count(again.text) - once
        if once + added >= original or (left is not None and added > left):
            continue
        left = None if left is None else left - added
        blocks[number] = again
    if blocks == list(document.blocks):
        raise StageSkip(Skip.NO_SAVING, _TOO_LONG_REASON)
    return document.with_blocks(tuple(blocks))


def _twice(block: Block) -> Block:
    """The block and its text once more; the source map stays that of the first copy."""
    copy = Span(text=_BETWEEN + block.text, kind=Kind.OPAQUE, protected=False, kept=())
    return block.with_spans((*block.spans, copy))


_OTHER_MODEL_REASON = (
    "the model is not one that the stage is for; name it in models if it is a recurrent one"
)
_TOO_LONG_REASON = (
    "sent twice, the text would have as many tokens as it came with, or more than target_tokens; "
    "lower keep_ratio in the stages before"
)


@hookimpl
def register_stages(register: RegisterStage) -> None:
    """Register `repeat`."""
    register("repeat", lambda config, resources: RepeatStage(config), RepeatConfig, final=True)
