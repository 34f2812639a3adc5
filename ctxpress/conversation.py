"""Where a block stands in its conversation: the keys under which outcomes are remembered.

Law 3: what goes forward for a block is a function of the conversation up to and including its
own turn. The conversation's hash is a chain over the digests of all blocks, text and opaque. A
block's key is the chain at the end of its own *message* and its place in that message: the
question of a message may stand after its documents, so the whole message decides; nothing after
the message does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from ctxpress.document import Block, ContextDocument

__all__ = ["Place", "places"]


@dataclass(frozen=True, slots=True)
class Place:
    """A text block's place: ``index`` in the document, its key, and the hash of its prefix.

    ``key`` covers everything up to the end of the block's message and the block's ordinal in it;
    ``prefix`` everything up to and including the block itself, the same for all conversations
    that begin this way; ``message`` the chain at the end of the message.
    """

    index: int
    key: bytes
    prefix: bytes
    message: bytes


def places(document: ContextDocument) -> tuple[Place, ...]:
    """The places of all text blocks, in body order."""
    chain = hashlib.sha256(b"ctxpress conversation 1\0" + document.seed).digest()
    found: list[Place] = []
    pending: list[tuple[int, bytes, int]] = []
    blocks = document.blocks
    ordinal = 0
    for index, block in enumerate(blocks):
        chain = hashlib.sha256(chain + block.digest).digest()
        if not block.opaque:
            pending.append((index, chain, ordinal))
        ordinal += 1
        if _ends_message(blocks, index):
            for waiting, prefix, place in pending:
                key = hashlib.sha256(chain + place.to_bytes(8, "big")).digest()
                found.append(Place(waiting, key, prefix, chain))
            pending.clear()
            ordinal = 0
    return tuple(found)


def _ends_message(blocks: Sequence[Block], index: int) -> bool:
    return index + 1 == len(blocks) or blocks[index + 1].message != blocks[index].message
