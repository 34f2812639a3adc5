"""Protected things inside a line of prose: code, links, addresses, paths, tags, blobs."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ctxpress.document import Kind
from ctxpress.formats.marks import Mark

__all__ = ["inline_marks"]

# One look for the characters that may betray something, then a closer one around each: prose has
# few of them, and a search for a set of characters is the fastest thing a regular expression does.
_TRIGGER = re.compile(r"[`<@/\\]")
_TICKS = re.compile(r"`+")
_MAX_INLINE_CODE = 1_000

_TAG = re.compile(r"</?[A-Za-z][\w:.-]{0,100}(?:\s[^<>]{0,2000}|/)?>")
_MARKUP = re.compile(r"<!--|<!\[CDATA\[|<\?(?=[A-Za-z])|<!(?=[A-Za-z])")
_MARKUP_END = {"<!--": "-->", "<![CDATA[": "]]>", "<?": "?>", "<!": ">"}
_RAW_ELEMENT = re.compile(r"<(script|style|pre|code|svg|math)\b", re.IGNORECASE)
_RAW_END = {
    name: re.compile(rf"</{name}\s*>", re.IGNORECASE)
    for name in ("script", "style", "pre", "code", "svg", "math")
}

# Characters of web addresses; beyond ASCII only alphabets that write words apart, because in
# Chinese, Japanese or Thai an address is followed by prose without a space.
_LETTERS = r"A-Za-z0-9\u00c0-\u024f\u0370-\u06ff"
_URL = re.compile(rf"[{_LETTERS}._~:/?#\[\]@!$&'()*+,;=%-]+")
_WWW = re.compile(rf"www\.[{_LETTERS}-]+\.[{_LETTERS}._~:/?#\[\]@!$&'()*+,;=%-]+")
_SCHEME_BACK = re.compile(r":[A-Za-z0-9+.-]{0,29}[A-Za-z]")
_PATH_BACK = re.compile(rf"[{_LETTERS}._~%+@:=$#-]*")
_PATH = re.compile(rf"[{_LETTERS}._~%+@:=$#/\\*-]+")
_PATH_SHAPE = re.compile(
    r"""(?:~|\.{1,2}|\$[A-Z_]+|[A-Za-z]:)?[/\\][A-Za-z_.]  # /usr  ./x  ../x  ~/x  $HOME/x  C:\x
      | (?:[^/\\]+[/\\])+[^/\\]*[A-Za-z0-9]\.[A-Za-z]\w{0,7}(?::\d+)*$   # src/main.rs:12
      | (?:[^/\\]+[/\\]){3,}                            # a/b/c/
      | [\w.@-]*[_.@-][\w.@-]*/[\w.@-]+/                # my-app/src/
      | data:""",
    re.VERBOSE,
)
_BACKSLASH_PATH = re.compile(r"[A-Za-z]:\\[\w\\]|\\\\\w")
_EMAIL_BACK = re.compile(r"[A-Za-z0-9._%+-]{1,64}")
_EMAIL = re.compile(r"@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+")
_TRAILING = ".,;:!?'*_~#$@=-"
_MAX_TRAILING = 32
_OPENED_BY = {")": "(", "]": "["}

# Runs are taken whole (the look behind lets a match begin only where a run begins): linear.
_BLOB = re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{32,}+={0,2}")
_BLOB_SHAPE = re.compile(r"(?=[^0-9]*[0-9])(?=[^A-Za-z]*[A-Za-z])|[A-Za-z0-9+]{64}")
_MAX_BACK = 256


def inline_marks(text: str, start: int, end: int) -> Iterator[Mark]:
    """What is protected inside the prose of ``text[start:end]``; marks may overlap.

    Inline code, HTML and XML tags (the text between tags is prose, but for ``<script>``,
    ``<style>``, ``<pre>``, ``<code>``), web and e-mail addresses, file paths, base64 and hex.
    """
    yield from _Scan(text, start, end).marks()
    for www in _WWW.finditer(text, start, end):
        yield Mark(www.start(), _trimmed(text, www.start(), www.end()), Kind.OPAQUE)
    for blob in _BLOB.finditer(text, start, end):
        if _BLOB_SHAPE.match(text, blob.start(), min(blob.end(), blob.start() + 4096)):
            yield Mark(blob.start(), blob.end(), Kind.OPAQUE)


class _Scan:
    """One pass over a range; remembers which closings were looked for in vain."""

    def __init__(self, text: str, start: int, end: int) -> None:
        self.text = text
        self.start = start
        self.end = end
        self._missing: set[str] = set()
        self._closing_ticks: dict[int, int] | None = None

    def marks(self) -> Iterator[Mark]:
        text, end = self.text, self.end
        position = self.start
        while found := _TRIGGER.search(text, position, end):
            at = found.start()
            mark = self._mark(found[0], at, position)
            if mark is None:
                position = self._past(found[0], at)
            else:
                yield mark
                position = mark.end

    def _mark(self, trigger: str, at: int, floor: int) -> Mark | None:
        if trigger == "`":
            return self._code(at)
        if trigger == "<":
            return self._markup(at)
        if trigger == "@":
            return self._address(at, floor)
        return self._path(at, floor)

    def _past(self, trigger: str, at: int) -> int:
        """Where to go on after a trigger that led to nothing."""
        if trigger == "`":
            run = _TICKS.match(self.text, at, self.end)
            return run.end() if run else at + 1
        if trigger in "/\\":
            token = _PATH.match(self.text, at, self.end)
            return token.end() if token else at + 1
        return at + 1

    def _code(self, at: int) -> Mark | None:
        if self._closing_ticks is None:
            self._closing_ticks = _pair_ticks(self.text, at, self.end)
        closing = self._closing_ticks.get(at)
        if closing is None or closing - at > _MAX_INLINE_CODE:
            return None
        if self.text.find("\n\n", at, closing) >= 0:  # no code span crosses a paragraph
            return None
        return Mark(at, closing, Kind.CODE)

    def _markup(self, at: int) -> Mark | None:
        text, end = self.text, self.end
        tag = _TAG.match(text, at, end)
        if tag:
            raw = _RAW_ELEMENT.match(text, at, end)
            if raw and not tag[0].endswith("/>"):
                name = raw[1].lower()
                closing = None if name in self._missing else _RAW_END[name].search(text, at, end)
                if closing:
                    return Mark(at, closing.end(), Kind.CODE)
                self._missing.add(name)
            return Mark(at, tag.end(), Kind.OPAQUE)
        markup = _MARKUP.match(text, at, end)
        if markup:
            close = _MARKUP_END[markup[0]]
            position = -1 if close in self._missing else text.find(close, at, end)
            if position >= 0:
                return Mark(at, position + len(close), Kind.OPAQUE)
            self._missing.add(close)
        return None

    def _address(self, at: int, floor: int) -> Mark | None:
        before = self.text[max(floor, at - _MAX_BACK) : at][::-1]
        local = _EMAIL_BACK.match(before)
        domain = _EMAIL.match(self.text, at, self.end)
        if not (local and domain):
            return None
        return Mark(at - local.end(), domain.end(), Kind.OPAQUE)

    def _path(self, at: int, floor: int) -> Mark | None:
        text, end = self.text, self.end
        before = text[max(floor, at - _MAX_BACK) : at][::-1]
        if text.startswith("//", at) and (scheme := _SCHEME_BACK.match(before)):
            return self._url(at - scheme.end(), at, floor)
        head = _PATH_BACK.match(before)
        start = at - head.end() if head else at
        token = _PATH.match(text, start, end)
        if token is None:
            return None
        stop = _trimmed(text, start, token.end())
        if stop - at < 2:
            return None
        shape = _PATH_SHAPE if text[at] == "/" else _BACKSLASH_PATH
        if shape.match(text, start, min(stop, start + 1024)) or (
            text[stop - 1] == "/" and text[start].isalpha()
        ):
            return Mark(start, stop, Kind.OPAQUE)
        return None

    def _url(self, start: int, at: int, floor: int) -> Mark | None:
        text = self.text
        address = _URL.match(text, at, self.end)
        stop = _trimmed(text, start, address.end() if address else at)
        if stop - at < 3:
            return None
        # The link part of Markdown's [text](address) is of one piece.
        if start - 2 >= floor and text.startswith("](", start - 2) and text.startswith(")", stop):
            return Mark(start - 2, stop + 1, Kind.OPAQUE)
        return Mark(start, stop, Kind.OPAQUE)


def _pair_ticks(text: str, start: int, end: int) -> dict[int, int]:
    """For every run of backticks where the next run of the same length ends, if there is one."""
    closing: dict[int, int] = {}
    latest: dict[int, int] = {}
    for run in _TICKS.finditer(text, start, end):
        length = run.end() - run.start()
        if length in latest:
            closing[latest[length]] = run.end()
        latest[length] = run.start()
    return closing


def _trimmed(text: str, start: int, end: int) -> int:
    """``end`` without the punctuation of the sentence behind an address."""
    for _ in range(_MAX_TRAILING):
        last = text[end - 1] if end > start else ""
        if last in _OPENED_BY:
            token = text[max(start, end - 2048) : end]
            if token.count(_OPENED_BY[last]) >= token.count(last):
                break
        elif not last or last not in _TRAILING:
            break
        end -= 1
    return end
