"""Attacks on the header: its JSON, its fields, and what they claim."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ctxpress.errors import (
    CalibrationMissingError,
    LimitExceededError,
    UnsupportedVersionError,
)
from tests.attacks.attack import Attack, changed
from tests.attacks.forging import Forgery, canonical, set_field

NOT_JSON = "header: not JSON in ASCII"
OTHER_FORM = "header: not in canonical form"


def written(spell: Callable[[bytes], bytes]) -> Callable[[], bytes]:
    """The honest header in another spelling."""

    def change(forgery: Forgery) -> None:
        text = canonical({**forgery.header, "sections": forgery.right_rows()})
        forgery.text = spell(text)

    return changed(change)


def text(header: bytes) -> Callable[[], bytes]:
    """A container whose whole header is ``header``."""
    return changed(lambda forgery: setattr(forgery, "text", header))


def spelt(old: bytes, new: bytes) -> Callable[[], bytes]:
    """One place of the honest header in another spelling."""
    return written(lambda whole: whole.replace(old, new, 1))


def field(path: str, value: object) -> Callable[[], bytes]:
    return changed(set_field(path.split("."), value))


def without(path: Sequence[str]) -> Callable[[], bytes]:
    def change(forgery: Forgery) -> None:
        place = forgery.header
        for name in path[:-1]:
            place = place[name]
        del place[path[-1]]

    return changed(change)


def two_gigabytes(forgery: Forgery) -> None:
    """As much as readers allow."""
    forgery.header["layout"].update(n_tokens=2**18, n_kv_heads=32, head_dim=32)


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


SPELLINGS = (
    Attack("no JSON", text(b"\x00" * 40), NOT_JSON),
    Attack("an empty header", text(b""), NOT_JSON),
    Attack("UTF-16", written(lambda whole: whole.decode().encode("utf-16")), NOT_JSON),
    Attack("a byte order mark", written(lambda whole: b"\xef\xbb\xbf" + whole), NOT_JSON),
    Attack("a letter beyond ASCII", spelt(b'"m"', b'"\xc3\xa9"'), NOT_JSON),
    Attack("half of a JSON object", written(lambda whole: whole[:-1]), NOT_JSON),
    Attack("a text behind the object", written(lambda whole: whole + b"{}"), NOT_JSON),
    Attack("a control character in a text", spelt(b'"m"', b'"\n"'), NOT_JSON),
    Attack("a list instead of an object", text(b"[]"), OTHER_FORM),
    Attack("a number instead of an object", text(b"1"), OTHER_FORM),
    Attack("null instead of an object", text(b"null"), OTHER_FORM),
    Attack("a name twice", spelt(b'"codec":', b'"codec":"int8","codec":'), OTHER_FORM),
    Attack("a blank", spelt(b'"codec":', b'"codec": '), OTHER_FORM),
    Attack("a line feed at the end", written(lambda whole: whole + b"\n"), OTHER_FORM),
    Attack("an escape for a letter", spelt(b'"codec":', b'"\\u0063odec":'), OTHER_FORM),
    Attack(
        "names in another order",
        spelt(b'"keys_rotated":false,', b'"a":0,"keys_rotated":false,'),
        OTHER_FORM,
    ),
    Attack("minus zero", spelt(b'start":0', b'start":-0'), OTHER_FORM),
    Attack("a leading zero", spelt(b'start":0', b'start":00'), NOT_JSON),
    Attack(
        "a number with a fraction",
        spelt(b'start":0', b'start":0.0'),
        "header: 0.0 is not an integer",
    ),
    Attack("an exponent", spelt(b'start":0', b'start":1e999'), "header: 1e999 is not an integer"),
    Attack("NaN", field("position_start", float("nan")), "header: NaN is not an integer"),
    Attack("infinity", field("position_start", float("inf")), "header: Infinity is not an integer"),
    Attack(
        "a number of more digits than Python converts",
        spelt(b'start":0', b'start":' + b"9" * 5000),
        "header: an integer of 5000 characters",
    ),
    Attack(
        "a number of a million digits",
        spelt(b'start":0', b'start":' + b"9" * 1_000_000),
        "header: an integer of 1000000 characters",
    ),
    Attack(
        "half a million nested lists",
        text(b"[" * 2**19 + b"]" * 2**19),
        "header: nested too deeply",
    ),
    Attack("half a million open lists", text(b"[" * 2**20), "header: nested too deeply"),
    Attack("a hundred thousand open objects", text(b'{"a":' * 10**5), "header: nested too deeply"),
    Attack("a million quotes, the last of them escaped", text(b'"' + b'\\"' * 500_000), NOT_JSON),
)

LAYOUT = ("dtype", "head_dim", "n_kv_heads", "n_layers", "n_tokens")
OF_HEADER = (
    "header: header does not have exactly the fields calibration, codec, codec_version, identity, "
    "keys_rotated, layout, parameters, position_start, sections"
)
OF_LAYOUT = f"header: layout does not have exactly the fields {', '.join(LAYOUT)}"
OF_IDENTITY = (
    "header: identity does not have exactly the fields dtype, model, revision, rope, shard, "
    "tokenizer, tokens"
)
CODEC_NAME = "header: codec must be 1 to 64 of a-z, 0-9, '.', '_' and '-'"
POSITION = "header: position_start must be an integer of 0 to 2147483647"
ITEM = f"header: an item of parameters must be an integer of {-(2**63)} to {2**63 - 1}"
PARAMETER_TEXT = "header: a text in parameters is not printable ASCII"
DTYPE = "header: layout.dtype must be one of float32, float16, bfloat16"
SHA256 = "header: calibration must be empty or a SHA-256 in hexadecimal"
ASCII = "header: identity.model must be printable ASCII"

FIELDS = (
    Attack("an empty object", text(b"{}"), OF_HEADER),
    Attack("a field too many", field("comment", ""), OF_HEADER),
    *(
        Attack(f"no {name}", without([name]), OF_HEADER)
        for name in (
            "calibration",
            "codec",
            "codec_version",
            "identity",
            "keys_rotated",
            "layout",
            "parameters",
            "position_start",
        )
    ),
    Attack("layout without dtype", without(["layout", "dtype"]), OF_LAYOUT),
    Attack("layout with strides", field("layout.strides", 1), OF_LAYOUT),
    Attack("identity without model", without(["identity", "model"]), OF_IDENTITY),
    Attack("identity with another field", field("identity.user", "root"), OF_IDENTITY),
    Attack("a path as codec", field("codec", "../../etc/passwd"), CODEC_NAME),
    Attack("a module as codec", field("codec", "os:system"), CODEC_NAME),
    Attack("a codec that ends in a zero byte", field("codec", "raw\0"), CODEC_NAME),
    Attack("a codec that ends in a line feed", field("codec", "raw\n"), CODEC_NAME),
    Attack("a codec without a name", field("codec", ""), CODEC_NAME),
    Attack("a codec of 65 letters", field("codec", "r" * 65), CODEC_NAME),
    Attack("a codec in capitals", field("codec", "RAW"), CODEC_NAME),
    Attack(
        "a codec that does not exist",
        field("codec", "ctxpress.cache.codecs.raw"),
        "no codec is called 'ctxpress.cache.codecs.raw' here",
        UnsupportedVersionError,
    ),
    Attack(
        "a codec of the future",
        field("codec_version", 2),
        "codec 'raw' version 2; this program reads 1",
        UnsupportedVersionError,
    ),
    Attack(
        "a codec version of 17 bits",
        field("codec_version", 65536),
        "header: codec_version must be an integer of 0 to 65535",
    ),
    Attack("a position before the first", field("position_start", -1), POSITION),
    Attack("a position past all models", field("position_start", 2**31), POSITION),
    Attack("a calibration that is a path", field("calibration", "/etc/passwd"), SHA256),
    Attack("a calibration in capitals", field("calibration", "A" * 64), SHA256),
    Attack(
        "a calibration that is not at hand",
        field("calibration", "ab" * 32),
        "the calibration abababababab… is not at hand",
        CalibrationMissingError,
    ),
    Attack(
        "a codec that needs a calibration, and none is named",
        field("codec", "cachegen-auto"),
        "codec 'cachegen-auto' needs a calibration; `ctxpress kv calibrate` measures one",
        CalibrationMissingError,
    ),
    Attack("an identity beyond ASCII", field("identity.model", "\u00e9"), ASCII),
    Attack("half a surrogate in the identity", field("identity.model", "\ud800"), ASCII),
    Attack("a line feed in the identity", field("identity.model", "m\nERROR forged line"), ASCII),
    Attack("an escape sequence in the identity", field("identity.model", "\x1b[2J"), ASCII),
    Attack(
        "an identity of 513 letters",
        field("identity.model", "m" * 513),
        "header: identity.model must be a text of at most 512 characters",
    ),
    Attack(
        "an identity of another dtype than the tensors",
        field("identity.dtype", "float32"),
        "header: identity.dtype is not layout.dtype, which is float16",
    ),
    Attack("a dtype of eight bytes", field("layout.dtype", "float64"), DTYPE),
    Attack("a dtype of objects", field("layout.dtype", "object"), DTYPE),
    Attack(
        "a text of control characters in parameters", field("parameters.x", "\x1b"), PARAMETER_TEXT
    ),
    Attack("a name beyond ASCII in parameters", field("parameters.\u00e9", 1), PARAMETER_TEXT),
    Attack("null in parameters", field("parameters.x", None), ITEM),
    Attack("true in parameters", field("parameters.x", [True]), ITEM),
    Attack("an integer of 65 bits in parameters", field("parameters.x", 2**63), ITEM),
    Attack(
        "parameters nested six deep",
        field("parameters.x", nested(5)),
        "header: parameters are nested deeper than 5",
    ),
)

WRONG_TYPES = tuple(
    Attack(
        f"{path} is {value!r}",
        field(path, value),
        f"header: {path if '.' in path else 'header.' + path} is not of type {kind.__name__}",
    )
    for path, kind in (
        ("calibration", str),
        ("codec", str),
        ("codec_version", int),
        ("keys_rotated", bool),
        ("parameters", dict),
        ("position_start", int),
        ("layout", dict),
        ("identity", dict),
        ("identity.model", str),
        ("identity.shard", str),
        ("layout.n_layers", int),
        ("layout.n_kv_heads", int),
        ("layout.n_tokens", int),
        ("layout.head_dim", int),
        ("layout.dtype", str),
    )
    for value in (None, True, 1, "1", [], {})
    if type(value) is not kind
)

CLAIMS = (
    Attack(
        "tensors of 2 to the 63 bytes from 60",
        changed(
            lambda forgery: forgery.header["layout"].update(
                n_tokens=2**20, n_layers=2, n_kv_heads=1024, head_dim=4096
            )
        ),
        f"the tensors would take {2 * 2 * 2**20 * 2**10 * 2**12 * 2} bytes; {2**31} are allowed",
        LimitExceededError,
    ),
    Attack(
        "two gigabytes from sixty bytes",
        changed(
            lambda one: one.header["layout"].update(n_tokens=2**18, n_kv_heads=32, head_dim=32)
        ),
        f"section 0 has 60 bytes, not {2**30}",
    ),
    Attack(
        "two gigabytes from sixty bytes of integers",
        changed(two_gigabytes, "int4"),
        f"section 0 has 28 bytes for 1 layers, not {4 * 2**23 + 2**28} for one",
    ),
    *(
        Attack(
            f"{name} is {value}",
            field(f"layout.{name}", value),
            f"header: layout.{name} must be an integer of {least} to {most}",
        )
        for name, least, most in (
            ("n_layers", 1, 1024),
            ("n_kv_heads", 1, 1024),
            ("n_tokens", 0, 2**20),
            ("head_dim", 1, 4096),
        )
        for value in (least - 1, most + 1, 2**64)
    ),
)

ATTACKS = (*SPELLINGS, *FIELDS, *WRONG_TYPES, *CLAIMS)
