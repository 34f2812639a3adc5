"""Where in a text of the user the question is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ctxpress.document import Range

__all__ = ["END_WORDS", "WHOLE_WORDS", "question_ends", "question_in"]

# A text of up to this many words is a question as a whole.
WHOLE_WORDS = 120
# At each end of a longer one, this many words may belong to the question.
END_WORDS = 60
# A question with a label, or a paragraph that ends with a question mark, may be this long.
_LONG_WORDS = 200

# Scripts that do not part words: two characters count as a word. A token without an end counts as
# one word every forty characters.
_UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{_UNSPACED}]{{1,2}}|[^\s{_UNSPACED}]{{1,40}}")
_MAX_WORD = 48  # of characters, its white space included; bounds how much of a text is looked at

_SENTENCE_END = re.compile(r"[.!?…]+[\"'”’»)\]]*(?=\s)|[。！？]+[”』」）]*|\n+")
_PARAGRAPH = re.compile(r"\n[ \t\r]*\n")
_LABEL = re.compile(
    r"^[ \t>*#_]*(?:(?:the[ ])?(?:original|user|final|current)[ ]?(?:'s[ ])?)?"
    r"(?:question|query|task|q)(?:[ ]is[ ]as[ ]follows)?[ ]?[*_]*[:：][*_]*[ \t]*"
    r"|\banswer[ ]the[ ](?:following[ ])?(?:question|query):[ \t]*",
    re.IGNORECASE | re.MULTILINE,
)
# In front of a sentence: `</documents> What …?`
_TAGS = re.compile(r"(?:\s|</?[A-Za-z][^<>\s]{0,100}>)*")
_RULES = re.compile(r"(?:\s|[-=*_#]{3,}(?=\s))*")
_ANSWER = re.compile(
    r"^[ \t>*#_]*(?:(?:helpful|final|original|concise|new|refined|existing|your|short)[ ])?"
    r"(?:answer|a|summary|context|documents?|response|we have provided an existing answer)"
    r"[*_]*[:：]"
    r"|^[-=*_#]{3,}[ \t]*$",
    re.IGNORECASE | re.MULTILINE,
)


def question_ends(text: str) -> tuple[Range, ...]:
    """The parts of a text without documents that count as its question, in order.

    The whole text where it has up to ``WHOLE_WORDS`` words; else up to ``END_WORDS`` at each end,
    cut between sentences (inside of one only where that one is longer), extended over a labelled
    question (``Question: …``) and over a paragraph at the very end that ends with a question mark.
    """
    first, last = _content(text)
    if last <= first:
        return ()
    head = _head(text, first, last, WHOLE_WORDS)
    if head == last:
        return (Range(0, len(text)),)
    head = _asking_head(text, first, last, _sentences_head(text, first, last))
    tail = _asking_tail(text, first, last, _sentences_tail(text, first, last))
    ranges = [Range(0, head), Range(tail, len(text)), *_labelled(text, first, last)]
    return _union(ranges)


def question_in(text: str, scaffolding: Sequence[Range]) -> Range | None:
    """The question among the parts of a prompt that are no documents.

    The last labelled one, else the last sentence with a question mark (parts behind the documents
    before those in front), else the last paragraph (likewise), else ``None``.
    """
    for start, end in reversed(scaffolding):
        labels = list(_LABEL.finditer(text, start, end))
        for label in reversed(labels):
            found = _labelled_text(text, label.end(), end)
            if found:
                return found
    for start, end in reversed(scaffolding):
        mark = max(text.rfind(sign, start, end) for sign in "?？؟")
        if mark >= 0:
            return Range(_sentence_start(text, start, mark), mark + 1)
    for start, end in reversed(scaffolding):
        found = _last_paragraph(text, start, end)
        if found:
            return found
    return None


def _last_paragraph(text: str, start: int, end: int) -> Range | None:
    """The last paragraph with words in it, without rules and the label of an answer."""
    rule = _RULES.match(text, start, end)
    start = rule.end() if rule else start
    answer = _ANSWER.search(text, start, end)
    stop = _rstrip(text, start, answer.start() if answer else end)
    blank = text.rfind("\n\n", start, stop)
    begin = _lstrip(text, blank if blank >= 0 else start, stop)
    if any(character.isalnum() for character in text[begin:stop]):
        return Range(begin, stop)
    return None


def _labelled_text(text: str, start: int, end: int) -> Range | None:
    """What stands behind a label: to the blank line, the next label or ``end``."""
    start = _lstrip(text, start, end)
    paragraph = _PARAGRAPH.search(text, start, end)
    stop = paragraph.start() if paragraph else end
    answer = _ANSWER.search(text, start, stop)
    stop = _rstrip(text, start, answer.start() if answer else stop)
    return Range(start, stop) if stop > start else None


def _labelled(text: str, first: int, last: int) -> list[Range]:
    """Labelled questions near the ends, label included."""
    near_head = _head(text, first, last, END_WORDS)
    near_tail = _tail(text, first, last, _LONG_WORDS)
    found: list[Range] = []
    for start, end in ((first, near_head), (near_tail, last)):
        for label in _LABEL.finditer(text, start, end):
            value = _labelled_text(text, label.end(), last)
            if value:
                limit = _head(text, value.start, value.end, _LONG_WORDS)
                found.append(Range(label.start(), limit))
    return found


def _asking_head(text: str, first: int, last: int, head: int) -> int:
    """``head``, moved to the end of the first paragraph if that one asks something."""
    paragraph = _PARAGRAPH.search(text, first, min(last, first + _LONG_WORDS * _MAX_WORD))
    if paragraph and text[paragraph.start() - 1] in "?？؟":
        limit = _head(text, first, last, WHOLE_WORDS)
        return max(head, paragraph.start()) if paragraph.start() <= limit else head
    return head


def _asking_tail(text: str, first: int, last: int, tail: int) -> int:
    """``tail``, moved to the beginning of the last paragraph if that one asks something."""
    if text[last - 1] not in "?？؟":
        return tail
    limit = _tail(text, first, last, WHOLE_WORDS)
    paragraph = text.rfind("\n\n", limit, last)
    return min(tail, paragraph + 2) if paragraph >= 0 else tail


def _sentences_head(text: str, first: int, last: int) -> int:
    """Where the whole sentences among the first ``END_WORDS`` words end."""
    limit = _head(text, first, last, END_WORDS)
    cut = first
    for sentence in _SENTENCE_END.finditer(text, first, min(limit + 4, last)):
        if sentence.start() >= limit:
            break
        cut = min(sentence.end(), limit)
    return cut if cut > first else limit


def _sentences_tail(text: str, first: int, last: int) -> int:
    """Where the whole sentences among the last ``END_WORDS`` words begin."""
    limit = _tail(text, first, last, END_WORDS)
    before = max(first, limit - 4)
    for sentence in _SENTENCE_END.finditer(text, before, last):
        begin = _lstrip(text, sentence.end(), last)
        if limit <= begin < last:
            return begin
    return limit


def _sentence_start(text: str, start: int, mark: int) -> int:
    """Where the sentence begins that the question mark at ``mark`` ends."""
    begin = start = max(start, mark - _LONG_WORDS * _MAX_WORD)
    for sentence in _SENTENCE_END.finditer(text, start, mark):
        begin = sentence.end()
    tags = _TAGS.match(text, begin, mark)
    return _lstrip(text, tags.end() if tags else begin, mark)


def _head(text: str, first: int, last: int, words: int) -> int:
    """Where the ``words``-th word of ``text[first:last]`` ends; ``last`` if there are no more."""
    count = 0
    for word in _WORD.finditer(text, first, last):
        count += 1
        if count == words:
            return last if not _WORD.search(text, word.end(), last) else word.end()
    return last


def _tail(text: str, first: int, last: int, words: int) -> int:
    """Where the last ``words`` words of ``text[first:last]`` begin."""
    begin = max(first, last - words * _MAX_WORD)
    starts = [word.start() for word in _WORD.finditer(text, begin, last)]
    if begin > first and len(starts) > 1 and not text[begin - 1].isspace():
        starts = starts[1:]  # the first one may be half a word
    return starts[-words] if len(starts) >= words else (starts[0] if starts else last)


def _content(text: str) -> Range:
    """The range of ``text`` without the white space around it."""
    return Range(_lstrip(text, 0, len(text)), _rstrip(text, 0, len(text)))


_SPACE = re.compile(r"\s*")


def _lstrip(text: str, start: int, end: int) -> int:
    found = _SPACE.match(text, start, end)
    return found.end() if found else start


def _rstrip(text: str, start: int, end: int) -> int:
    while end > start and text[end - 1].isspace():
        end -= 1
    return end


def _union(ranges: Iterable[Range]) -> tuple[Range, ...]:
    joined: list[Range] = []
    for start, end in sorted(ranges):
        if joined and start <= joined[-1].end:
            joined[-1] = Range(joined[-1].start, max(joined[-1].end, end))
        elif end > start:
            joined.append(Range(start, end))
    return tuple(joined)
