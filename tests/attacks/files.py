"""Attacks on the file as a whole: what it is, its prefix, its end, its checksums."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Callable

import numpy as np

from ctxpress.errors import CodecError, LimitExceededError, UnsupportedVersionError
from tests.attacks.attack import Attack, changed, honest
from tests.attacks.forging import PREFIX, Forgery

FOREIGN = "not a container: the magic bytes are missing"
BAD_HEADER_CHECKSUM = "the header's checksum does not match"


class Exploit:
    """What a pickle would run where it is loaded."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("1 / 0",)


def archive() -> bytes:
    with zipfile.ZipFile(stored := io.BytesIO(), "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(Exploit()))
    return stored.getvalue()


def set_to(name: str, value: object) -> Callable[[], bytes]:
    return changed(lambda forgery: setattr(forgery, name, value))


def flipped(place: int) -> bytes:
    data = bytearray(honest())
    data[place] ^= 1
    return bytes(data)


def own_tail(forgery: Forgery) -> None:
    forgery.sections[-1] += honest()


def swapped(forgery: Forgery) -> None:
    forgery.rows = forgery.right_rows()
    forgery.sections.reverse()


HEADER_END = PREFIX.size + int(PREFIX.unpack(honest()[: PREFIX.size])[3])
LENGTH = len(honest())
SPEAKS = f"its header speaks of {LENGTH}"

ATTACKS = (
    Attack("nothing", lambda: b"", "0 bytes; a container has 20 or more"),
    Attack("half a prefix", lambda: honest()[:19], "19 bytes; a container has 20 or more"),
    Attack("a text", lambda: "x" * 64, "a container is bytes, not str", CodecError),
    Attack("None", lambda: None, "a container is bytes, not NoneType", CodecError),
    Attack("a list of bytes", lambda: list(honest()), "a container is bytes, not list", CodecError),
    Attack(
        "a view of every second byte",
        lambda: memoryview(honest())[::2],
        "a container is contiguous bytes, and this view is not",
        CodecError,
    ),
    Attack("a view of words of four bytes", lambda: memoryview(np.zeros(9, np.uint32)), FOREIGN),
    Attack(
        "a view of an empty table",
        lambda: memoryview(np.zeros((0, 3), np.uint32)),
        "0 bytes; a container has 20 or more",
    ),
    Attack("a pickle", lambda: pickle.dumps(Exploit()).ljust(64, b"."), FOREIGN),
    Attack("a zip archive with a pickle, as torch.save makes", archive, FOREIGN),
    Attack("a safetensors file", lambda: struct.pack("<Q", 2) + b"{}".ljust(64), FOREIGN),
    Attack("a transfer as text", lambda: honest().replace(b"\r\n", b"\n"), FOREIGN),
    Attack(
        "version 0",
        set_to("version", 0),
        "container version 0; this program reads 1",
        UnsupportedVersionError,
    ),
    Attack(
        "version 2",
        set_to("version", 2),
        "container version 2; this program reads 1",
        UnsupportedVersionError,
    ),
    Attack("a reserved flag", set_to("flags", 0x8000), "reserved flags are set: 0x8000"),
    Attack(
        "a header of 4 GiB",
        set_to("header_size", 2**32 - 1),
        "a header of 4294967295 bytes; 1048576 are allowed",
        LimitExceededError,
    ),
    Attack(
        "a header of one byte more than is allowed",
        set_to("header_size", 2**20 + 1),
        "a header of 1048577 bytes; 1048576 are allowed",
        LimitExceededError,
    ),
    Attack(
        "a header longer than the file",
        set_to("header_size", 2**20),
        "truncated within the header",
    ),
    Attack("a header of nothing", set_to("header_size", 0), BAD_HEADER_CHECKSUM),
    Attack(
        "a header that says it ends one byte early",
        set_to("header_size", HEADER_END - PREFIX.size - 1),
        BAD_HEADER_CHECKSUM,
    ),
    Attack("a header cut off", lambda: honest()[: HEADER_END - 1], "truncated within the header"),
    Attack("a damaged header", lambda: flipped(40), BAD_HEADER_CHECKSUM),
    Attack("a forged header checksum", set_to("header_crc32", 0), BAD_HEADER_CHECKSUM),
    Attack(
        "no sections",
        lambda: honest()[:HEADER_END],
        f"the container has {HEADER_END} bytes; {SPEAKS}",
    ),
    Attack(
        "the last byte missing",
        lambda: honest()[:-1],
        f"the container has {LENGTH - 1} bytes; {SPEAKS}",
    ),
    Attack(
        "a byte behind the end",
        set_to("tail", b"\0"),
        f"the container has {LENGTH + 1} bytes; {SPEAKS}",
    ),
    Attack(
        "two containers in one file",
        lambda: honest() * 2,
        f"the container has {2 * LENGTH} bytes; {SPEAKS}",
    ),
    Attack(
        "a container within its own last section",
        changed(own_tail),
        f"section 1 has {60 + LENGTH} bytes, not 60",
    ),
    Attack("a damaged section", lambda: flipped(-1), "the checksum of section 1 does not match"),
    Attack(
        "sections that changed places",
        changed(swapped),
        "the checksum of section 0 does not match",
    ),
)
