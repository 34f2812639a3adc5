"""Documents as references, for upstreams that hold their KV (a worker, vLLM).

The stage changes no text. It says that the documents of this pipeline's requests may go as
references, and stands last, so that they are what all other stages made of them. A stage before it
must make the same of a document whatever is asked: else no KV would ever be found again.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from ctxpress.document import ContextDocument
from ctxpress.hookspecs import RegisterStage, hookimpl
from ctxpress.stage import Skip, StageContext, StageSkip, StageTraits

__all__ = ["KvReuseConfig", "KvReuseStage", "register_stages"]

_ALGORITHM = "kv_reuse/1"


class KvReuseConfig(BaseModel):
    """No options: the codec of stored KV is the upstream's (`ctxpress worker --codec …`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class KvReuseStage:
    """Counts the documents that may go as references."""

    @property
    def traits(self) -> StageTraits:
        """It changes nothing, and its documents are sent by reference."""
        return StageTraits(references=True)

    @property
    def identity(self) -> str:
        """The version of the algorithm."""
        return _ALGORITHM

    async def apply(self, document: ContextDocument, context: StageContext) -> ContextDocument:
        """The document as it is.

        :raises StageSkip: it holds no documents.
        """
        found = {
            (block.pointer, span.source.id, span.source.row, span.source.start)
            for block in document.blocks
            for span in block.spans
            if span.source is not None
        }
        if not found:
            raise StageSkip(
                Skip.TOO_FEW_DOCUMENTS,
                "no documents were recognised; send them in the field `ctxpress` or in tags",
            )
        context.notes.append(f"{len(found)} documents may go as references")
        return document


@hookimpl
def register_stages(register: RegisterStage) -> None:
    """Register `kv_reuse`."""
    register("kv_reuse", lambda config, resources: KvReuseStage(), KvReuseConfig, final=True)
