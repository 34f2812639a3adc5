"""Where a block stands in its conversation: the keys under which outcomes are remembered.

Law 3: what goes forward for a block is a function of the conversation up to and including its
own turn. The conversation's hash is a chain over the digests of all blocks, text and opaque. A
block's key is the chain at the end of its own *message* and its place in that message: the
question of a message may stand after its documents, so the whole message decides; nothing after
the message does.

Outcomes are remembered under that key. A request that asks for a pipeline or a ratio of its own
gets a *variant* beside it, and what a bypassed or observed request sent untouched is noted apart:
sending one request again in another way shows the other way, until an answer to it comes back in
the conversation. From then on what was sent is repeated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from ctxpress.cache.key import Namespace
from ctxpress.document import Block, ContextDocument, Role

__all__ = ["Lookup", "Place", "lookups", "places", "untouched_keys"]


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


@dataclass(frozen=True, slots=True)
class Lookup:
    """Where a block's outcome is kept: under ``key``, else under the first hit of ``others``.

    ``base`` is the key without the request's own wishes; it equals ``key`` where it has none.
    """

    place: Place
    key: str
    base: str
    others: tuple[str, ...] = ()


def lookups(
    document: ContextDocument, namespace: Namespace, *, observed: bool, variant: str
) -> tuple[Lookup, ...]:
    """The lookups of all text blocks, in body order.

    What would have been sent (``observed``) is remembered apart from what was sent. ``variant``
    names the request's own wishes, empty where it has none.
    """
    purpose = "observed" if observed else "outcome"
    answered = max(
        (i for i, b in enumerate(document.blocks) if b.role is Role.ASSISTANT), default=0
    )
    found = []
    for place in places(document):
        base = namespace.key(purpose, place.key)
        key = namespace.key(purpose, place.key, variant) if variant else base
        others: tuple[str, ...] = ()
        if place.index < answered:
            others = (base,) if variant else ()
            if not observed:
                others += (namespace.key("untouched", place.key),)
        found.append(Lookup(place, key, base, others))
    return tuple(found)


def untouched_keys(document: ContextDocument, namespace: Namespace) -> list[tuple[int, str]]:
    """Index and key of every text block of the newest turn, to note that it went untouched."""
    newest = document.last_turn
    return [
        (place.index, namespace.key("untouched", place.key))
        for place in places(document)
        if document.blocks[place.index].turn == newest
    ]


def _ends_message(blocks: Sequence[Block], index: int) -> bool:
    return index + 1 == len(blocks) or blocks[index + 1].message != blocks[index].message
