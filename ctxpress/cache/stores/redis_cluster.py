"""A Redis cluster seen from one event loop: who holds which slot, and one pool for each node.

Commands of many keys go to their nodes side by side. A node that is gone or too slow costs what
it holds and nothing else: its replies are exceptions, those of the others are what they said.
https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import replace

from ctxpress.cache.stores.deadline import Deadline
from ctxpress.cache.stores.limits import StoreLimits
from ctxpress.cache.stores.redis_address import RedisAddress
from ctxpress.cache.stores.redis_pool import Announce, RedisPool
from ctxpress.cache.stores.resp import Command, ProtocolError, Reply, ServerError, size_of
from ctxpress.errors import StoreError

__all__ = ["RedisCluster"]

_SLOTS = 16_384
_MAX_NODES = 1024
_MAX_REDIRECTS = 4
_ASKED_AT_ONCE = 3
_REFRESH_EVERY_S = 1.0
_NODE_SHARE = 0.8  # of an operation's time: what a node may take, so that the others' replies count

Node = tuple[str, int]


class RedisCluster:
    """The same operations as :class:`RedisPool`, over a cluster's primaries."""

    def __init__(self, address: RedisAddress, *, limits: StoreLimits, max_connections: int) -> None:
        self._address = address
        self._limits = limits
        self._node_limits = replace(
            limits,
            timeout_s=limits.timeout_s * _NODE_SHARE,
            min_bytes_per_s=limits.min_bytes_per_s / _NODE_SHARE,
        )
        self._max_connections = max_connections
        self._pools: dict[Node, RedisPool] = {}
        self._slots: list[Node | None] = [None] * _SLOTS
        self._refreshing: asyncio.Task[None] | None = None
        self._refreshed_s = float("-inf")
        self._stale = True
        self._closed = False

    async def exchange(
        self, commands: Sequence[Command], *, announce: Announce | None = None
    ) -> list[Reply]:
        """See :meth:`RedisPool.exchange`; replies may be exceptions of a node.

        The first argument of a command is its key. One without arguments goes to every node, and
        is answered by one reply, an exception where there was any.
        """
        await self._known(commands)
        replies: list[Reply] = [None] * len(commands)
        waiting = list(range(len(commands)))
        for _ in range(_MAX_REDIRECTS):
            await self._round(commands, waiting, replies, announce)
            waiting = [number for number in waiting if self._goes_elsewhere(replies[number])]
            if not waiting:
                break
        return replies

    async def stream(
        self, commands: Sequence[Command], *, sizes_bytes: Sequence[int], ahead_bytes: int
    ) -> AsyncGenerator[Reply]:
        """See :meth:`RedisPool.stream`; all commands are about one key."""
        async with Deadline(self._limits):
            await self._known(commands)
        done = 0
        while done < len(commands):
            replies = self._pool_of(commands[done]).stream(
                commands[done:], sizes_bytes=sizes_bytes[done:], ahead_bytes=ahead_bytes
            )
            try:
                async for reply in replies:
                    if not self._goes_elsewhere(reply):
                        done += 1
                        yield reply
                        continue
                    # The slot has moved, or is about to: this one by itself, the rest afresh.
                    async with Deadline(self._limits) as deadline:
                        (again,) = await self.exchange(
                            commands[done : done + 1], announce=deadline.announce
                        )
                    done += 1
                    yield again
                    break
            except OSError:
                self._forget_map()
                raise
            finally:
                await replies.aclose()

    async def aclose(self) -> None:
        """Close all pools."""
        self._closed = True
        if self._refreshing is not None:
            self._refreshing.cancel()
        for pool in self._pools.values():
            await pool.aclose()

    async def _round(
        self,
        commands: Sequence[Command],
        waiting: Iterable[int],
        replies: list[Reply],
        announce: Announce | None,
    ) -> None:
        """Ask every node for what it holds of ``waiting``; fills in ``replies``."""
        shares: dict[Node, list[int]] = {}
        asked: dict[Node, list[int]] = {}
        for number in waiting:
            asking = _redirect(replies[number], "ASK")
            replies[number] = None
            if asking is not None:
                asked.setdefault(asking, []).append(number)
                continue
            for node in (nodes := self._nodes_of(commands[number])):
                shares.setdefault(node, []).append(number)
            if not nodes:
                replies[number] = ConnectionError("no node holds this slot")
        work = [self._ask(node, commands, share, announce) for node, share in shares.items()]
        work += [
            self._ask(node, commands, share, announce, asking=True) for node, share in asked.items()
        ]
        for share, answers in zip(
            [*shares.values(), *asked.values()], await asyncio.gather(*work), strict=True
        ):
            for number, answer in zip(share, answers, strict=True):
                if not isinstance(replies[number], Exception):
                    replies[number] = answer

    async def _ask(
        self,
        node: Node,
        commands: Sequence[Command],
        share: Sequence[int],
        announce: Announce | None,
        *,
        asking: bool = False,
    ) -> Sequence[Reply]:
        mine = [commands[number] for number in share]
        sent = [word for command in mine for word in (("ASKING",), command)] if asking else mine
        deadline = Deadline(self._node_limits, size_of(mine))

        def announced(size_bytes: int) -> None:
            deadline.announce(size_bytes)
            if announce is not None:
                announce(size_bytes)

        try:
            async with deadline:
                answers = await self._pool_at(node).exchange(sent, announce=announced)
        except Exception as error:  # the node is away, too slow, or speaks nonsense
            self._forget_map()
            return [error] * len(share)
        return answers[1::2] if asking else answers

    def _goes_elsewhere(self, reply: Reply) -> bool:
        """Whether a reply says where to ask instead; a slot that has moved is noted."""
        moved = _redirect(reply, "MOVED")
        if moved is not None and isinstance(reply, ServerError):
            slot = reply.text.split()[1]
            if slot.isascii() and slot.isdecimal() and len(slot) < 6 and int(slot) < _SLOTS:
                self._slots[int(slot)] = moved
                return True
        if isinstance(reply, ServerError) and reply.code in ("CLUSTERDOWN", "MOVED"):
            self._forget_map()  # a MOVED that does not say where to
        return _redirect(reply, "ASK") is not None

    def _nodes_of(self, command: Command) -> list[Node]:
        if len(command) == 1:
            return sorted({node for node in self._slots if node is not None})
        node = self._slots[_slot(command)]
        return [] if node is None else [node]

    def _pool_of(self, command: Command) -> RedisPool:
        node = self._slots[_slot(command)]
        if node is None:
            raise ConnectionError("no node holds this slot")
        return self._pool_at(node)

    def _pool_at(self, node: Node) -> RedisPool:
        if self._closed:
            raise ConnectionError("closed")
        pool = self._pools.get(node)
        if pool is None:
            if len(self._pools) >= _MAX_NODES:
                raise ProtocolError(f"a cluster of more than {_MAX_NODES} nodes")
            pool = self._pools[node] = RedisPool(
                self._address.at(*node), limits=self._limits, max_connections=self._max_connections
            )
        return pool

    def _forget_map(self) -> None:
        """The next operation asks anew who holds what, unless that was asked just now."""
        self._stale = True

    async def _known(self, commands: Sequence[Command]) -> None:
        """Return when it is known who holds the keys of ``commands``, as far as anybody knows."""
        age_s = asyncio.get_running_loop().time() - self._refreshed_s
        if age_s < _REFRESH_EVERY_S or not (
            self._stale or any(not self._nodes_of(command) for command in commands)
        ):
            return
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refresh())
            # Whoever waits for it gets its failure; where nobody waits any more, nobody needs it.
            self._refreshing.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.shield(self._refreshing)

    async def _refresh(self) -> None:
        """Ask some nodes at once who holds what; the first good answer counts."""
        known = list({node for node in self._slots if node is not None} | set(self._address.nodes))
        random.shuffle(known)
        failure: Exception = ConnectionError("no node of the cluster answers")
        while known:
            asked, known = known[:_ASKED_AT_ONCE], known[_ASKED_AT_ONCE:]
            tasks = [asyncio.create_task(self._slots_as_told_by(node)) for node in asked]
            try:
                for done in asyncio.as_completed(tasks):
                    try:
                        slots = await done
                    except Exception as error:
                        failure = error
                        continue
                    self._slots, self._stale = slots, False
                    self._refreshed_s = asyncio.get_running_loop().time()
                    await self._close_gone()
                    return
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        raise failure

    async def _close_gone(self) -> None:
        """Close the pools of nodes that hold nothing any more."""
        for node in set(self._pools) - set(self._slots) - set(self._address.nodes):
            await self._pools.pop(node).aclose()

    async def _slots_as_told_by(self, node: Node) -> list[Node | None]:
        async with Deadline(self._node_limits):
            (reply,) = await self._pool_at(node).exchange([("CLUSTER", "SLOTS")])
        if isinstance(reply, ServerError) and reply.code == "ERR":
            raise StoreError(f"{self._address.label}: no cluster; a single server is redis://")
        if isinstance(reply, Exception):
            raise reply
        slots: list[Node | None] = [None] * _SLOTS
        for row in reply if isinstance(reply, list) else ():
            match row:
                case [int(first), int(last), [host, int(port), *_], *_] if (
                    0 <= first <= last < _SLOTS and 0 < port < 65_536
                ):
                    # An empty host is the one that was asked.
                    name = host.decode("ascii", "replace") if isinstance(host, bytes) else ""
                    slots[first : last + 1] = [(name or node[0], port)] * (last - first + 1)
                case _:
                    raise ProtocolError("not a map of slots")
        if not any(slots):
            raise ConnectionError("the cluster holds no slots")
        return slots


def _redirect(reply: Reply, code: str) -> Node | None:
    """The node that ``MOVED slot host:port`` or ``ASK slot host:port`` names."""
    if not isinstance(reply, ServerError) or reply.code != code:
        return None
    words = reply.text.split()
    host, _, port = words[2].rpartition(":") if len(words) == 3 else ("", "", "")
    if not (host and port.isascii() and port.isdecimal() and 0 < int(port[:6]) < 65_536):
        return None
    return host, int(port)


def _slot(command: Command) -> int:
    from redis.crc import key_slot

    key = command[1]
    if not isinstance(key, str):
        raise TypeError("the first argument of a cluster's command is its key")
    return key_slot(key.encode("utf-8", "surrogatepass"))
