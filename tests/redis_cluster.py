"""A real Redis cluster for tests: three primaries, each with a third of the slots."""

from __future__ import annotations

import random
import socket
import time
from pathlib import Path

from tests.redis_server import RedisServer

__all__ = ["RedisClusterServers"]

SLOTS = 16_384
_BUS_OFFSET = 10_000  # a node's cluster bus listens on its port and this


class RedisClusterServers:
    """Three server processes. A slot may be anywhere; the rest of a dead node's slots is served."""

    def __init__(self, binary: str, folder: Path) -> None:
        self._binary = binary
        self._folder = folder
        self.nodes: list[RedisServer] = []

    @property
    def url(self) -> str:
        """Of two of its nodes."""
        places = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:2])
        return f"redis+cluster://{places}"

    def start(self) -> None:
        """Start the nodes and wait until they agree; raises RuntimeError where they do not."""
        for number in range(3):
            folder = self._folder / str(number)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "nodes.conf").unlink(missing_ok=True)
            options = [
                "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf",
                "--cluster-node-timeout", "2000", "--cluster-require-full-coverage", "no",
            ]  # fmt: skip
            node = RedisServer(self._binary, folder, port=_free_port(), options=options)
            node.start()
            self.nodes.append(node)
            slots = range(number * SLOTS // 3, (number + 1) * SLOTS // 3)
            _accepted(node.command("CLUSTER", "ADDSLOTS", *map(str, slots)))
            _accepted(node.command("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1)))
        for node in self.nodes[1:]:
            _accepted(node.command("CLUSTER", "MEET", "127.0.0.1", str(self.nodes[0].port)))
        self._agree()

    def kill(self) -> None:
        """End all nodes."""
        for node in self.nodes:
            node.kill()
        self.nodes = []

    def mend(self) -> None:
        """An empty cluster with all its nodes, whatever happened to it."""
        try:
            for node in self.nodes:
                node.resume()
                _accepted(node.command("CONFIG", "SET", "maxmemory", "0"))
                _accepted(node.command("FLUSHALL"))
            self._agree(attempts=100)
        except (OSError, RuntimeError):
            self.kill()
            self.start()

    def node_of(self, slot: int) -> RedisServer:
        """The node that says that it holds ``slot``."""
        for node in self.nodes:
            reply = node.command("CLUSTER", "NODES").decode()
            (mine,) = (line for line in reply.splitlines() if "myself" in line)
            for word in mine.split()[8:]:
                first, _, last = word.partition("-")
                if first.isdecimal() and int(first) <= slot <= int(last or first):
                    return node
        raise RuntimeError(f"nobody holds slot {slot}")

    def begin_move(self, slot: int, to: RedisServer) -> None:
        """Move the keys of ``slot``, which both nodes then answer for: the old one with ASK."""
        source = self.node_of(slot)
        _accepted(to.command("CLUSTER", "SETSLOT", str(slot), "IMPORTING", _id_of(source)))
        _accepted(source.command("CLUSTER", "SETSLOT", str(slot), "MIGRATING", _id_of(to)))
        listed = source.command("CLUSTER", "GETKEYSINSLOT", str(slot), "1000").decode()
        for key in listed.split("\r\n")[2::2]:
            moved = source.command("MIGRATE", "127.0.0.1", str(to.port), key, "0", "5000")
            _accepted(moved)

    def end_move(self, slot: int, to: RedisServer) -> None:
        """Make ``to`` the owner: the old node answers with MOVED."""
        name = _id_of(to)
        for node in (to, *(node for node in self.nodes if node is not to)):
            _accepted(node.command("CLUSTER", "SETSLOT", str(slot), "NODE", name))

    def _agree(self, *, attempts: int = 500) -> None:
        for _ in range(attempts):
            states = [node.command("CLUSTER", "INFO") for node in self.nodes]
            if all(b"cluster_state:ok" in s and b"cluster_known_nodes:3" in s for s in states):
                if all(b"cluster_slots_ok:16384" in state for state in states):
                    return
            time.sleep(0.05)
        raise RuntimeError("the cluster does not agree")


def _free_port() -> int:
    """A port whose cluster bus port is free too."""
    for _ in range(1000):
        port = random.randrange(20_000, 30_000)
        try:
            for number in (port, port + _BUS_OFFSET):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", number))
        except OSError:
            continue
        return port
    raise RuntimeError("no free ports")


def _id_of(node: RedisServer) -> str:
    return node.command("CLUSTER", "MYID").decode().split("\r\n")[1]


def _accepted(reply: bytes) -> None:
    if not reply.startswith(b"+"):
        raise RuntimeError(f"the node refuses: {reply[:200]!r}")
