"""What a single line looks like: code, log, listing, record, table, or none of these.

Every pattern is matched at the line's beginning and against its first ``MAX_SHAPE`` characters
only, so a line costs the same whatever its length.
"""

from __future__ import annotations

import re
from enum import IntEnum

__all__ = ["MAX_SHAPE", "Shape", "is_prose", "shape_of"]

MAX_SHAPE = 300


class Shape(IntEnum):
    """How sure a line's look is."""

    NONE = 0  # nothing speaks against prose
    HINT = 1  # code only beside code: a comment, an indented line
    RECORD = 2  # `key: value`; a dump where several follow each other
    COLUMNS = 3  # separated values; a dump where several follow each other
    WEAK = 4  # code where several follow each other
    STRONG = 5  # code or a listing even alone
    LOG = 6  # an entry of a log even alone
    TABLE = 7  # a row of a Markdown or text table


_LEVEL = r"(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|FATAL|CRITICAL|SEVERE)"

_STRONG = re.compile(
    rf"""
    # tracebacks
      Traceback[ ]\(most[ ]recent | File[ ]"[^"]+",[ ]line[ ]\d
    | at[ ][\w.$<>/]+[ ]?(?:\[as[ ]\w+\][ ]?)?\([^()]*\)$ | Caused[ ]by:[ ]
    | Exception[ ]in[ ]thread[ ]
    | [A-Za-z_][\w.]*(?:Error|Exception|Warning|Interrupt)(?::[ ]|:?$)
    | goroutine[ ]\d+[ ]\[ | thread[ ]'[^']*'[ ]panicked
    # diffs, version control
    | diff[ ]--git[ ] | index[ ][0-9a-f]{{7,40}}\.\. | ---[ ](?:a/|/dev/null)
    | \+\+\+[ ](?:b/|/dev/null) | @@[ ]-\d | (?:new|deleted)[ ]file[ ]mode[ ]\d
    | (?:rename|copy)[ ](?:from|to)[ ]\S+$ | similarity[ ]index[ ]\d
    | commit[ ][0-9a-f]{{7,40}}\b | Author:[ ].*<.*> | On[ ]branch[ ]\S+$
    | (?:modified|deleted|renamed|new[ ]file):[ ]+\S+
    # shells and interpreters
    | \$[ ][a-z./~] | [\w.-]+@[\w.-]+:[^\s$\#]*[$\#](?:[ ]|$) | >>>[ ] | (?:In|Out)[ ]?\[\d+\]:
    | PS[ ][A-Z]:\\ | [A-Z]:\\[^>]*> | \#!/
    | (?:sudo[ ])?(?:pip3?|npm|pnpm|yarn|apt(?:-get)?|brew|cargo|conda|uv)
      [ ](?:install|add|run)[ ]\S
    | git[ ](?:clone|commit|push|pull|checkout|add|rebase|merge|log|diff|status)\b[^.]*$
    | [-dlbcps][-rwxsStT]{{9}}[+@.]?[ ] | total[ ]\d+$
    | [A-Z_][A-Z0-9_]{{2,}}=\S* | export[ ]\w+=
    # logs
    | (?P<log>\[?\d{{4}}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d(?::\d\d)?(?:[.,]\d+|Z|[+-]\d\d:?\d\d)
    | \[?\d{{4}}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d(?::\d\d)?\]?[ ]*[|:-]?[ ]*
      [\[(]?(?:{_LEVEL}\b|\[|\w+\[\d+\]|\w+=)
    | [A-Z][a-z]{{2}}[ ][ \d]\d[ ]\d\d:\d\d:\d\d[ ] | \d{{1,3}}(?:\.\d{{1,3}}){{3}}[ ]\S+[ ]\S+[ ]\[
    | \[{_LEVEL}\] | {_LEVEL}(?:[ ]{{2,}}|[ ]\[|[ ]-[ ]) | (?:INFO|DEBUG|TRACE|ERROR):[ ]
    | \[?\d\d:\d\d:\d\d[.,]\d{{3}} | npm[ ](?:ERR!|WARN))
    # test runners, compilers, search tools
    | ={{5,}} | _{{5,}} | (?:PASSED|FAILED|ERROR|SKIPPED|XFAIL)[ ][\w./-]+
    | [\w./-]+\.\w+(?:::\S+)*[ ]+(?:[.FEsxX]+(?:[ ]|$)|PASSED|FAILED|ERROR|SKIPPED)
    | E[ ]{{2,}}\S | >[ ]{{3,}}\S | collected[ ]\d+[ ]item | platform[ ]\w+[ ]--[ ] | rootdir:[ ]
    | \d+[ ](?:passed|failed)\b.*[ ]in[ ][\d.]+s | ok[ ]\d+\b | not[ ]ok[ ]\d+\b
    | [\w./~-]*[./][\w./-]*:\d+(?::\d+)?(?:[:\s]|$) | \d+(?:→|\t|[ ]*\|[ ])
    # source code
    | (?:async[ ])?def[ ]\w+\s*[(\[] | class[ ]\w+\s*(?:[:({{<].*)?[:{{]$
    | class[ ]\w+[ ](?:extends|implements)[ ]
    | from[ ][\w.]+[ ]import[ ] | import[ ].*[ ]from[ ]['"] | import[ ]['"]
    | (?:export[ ])?(?:default[ ])?(?:async[ ])?function\b\s*\*?\s*\w*\(
    | (?:export[ ])?(?:const|let|var)[ ][\w{{\[][^=]*=
    | (?:public|private|protected|static|final|abstract|override|internal)[ ][^.]*[{{;]$
    | (?:pub(?:\(crate\))?[ ])?(?:fn|struct|enum|impl|trait|mod)\b[^.]*[{{;]$
    | func[ ](?:\([^)]*\)[ ]?)?\w+\( | package[ ][\w.]+;?$ | (?:using|use|namespace)[ ][\w.:\\]+;
    | \#[ ]*(?:include|define|undef|ifdef|ifndef|endif|pragma)\b | \#[ ]*(?:el)?if[ ]\S*[(_!]
    | (?:extern|typedef)\b.*[_*{{;"]
    | (?:self|this)\.\w+\s*[=(.\[] | "[^"\\]{{1,100}}"\s*:(?:\s|$)
    | CREATE[ ](?:OR[ ]REPLACE[ ])?(?:TABLE|INDEX|VIEW|FUNCTION)\b | INSERT[ ]INTO\b
    | SELECT\b.*(?:\bFROM\b|,$|\*|$) | DELETE[ ]FROM\b | UPDATE[ ]\w+[ ]SET\b | ALTER[ ]TABLE\b
    | -----(?:BEGIN|END)[ ] | \\(?:begin|end|documentclass|usepackage)\{{ | <\?php
    | (?:else|try|do|finally|loop|unsafe)\s*\{{$
    | \}}\s*(?:else|catch|finally)\b
    """,
    re.VERBOSE,
)

_WEAK = re.compile(
    r"""
      [A-Za-z_$][\w.$\[\]'"]*\s*(?::\s*[\w\[\], |]+)?\s*(?:[-+*/|&%]|//|:|\?\?)?=(?!=)\s*\S
    | [A-Za-z_$][\w.$]*\(.*[),(:;{]$ | [A-Za-z_$][\w.$]*(?:\.\w+)+\(.*\).*[;{]$
    | (?:if|elif|for|while|with|except|switch|case|match)\b.*[:{]$ | (?:else|try|finally):$
    | (?:return|yield|await|throw|raise|assert|del|global)\b[^.,]*[;)\]}\w]$
    | (?:break|continue|pass|end|fi|done|esac|then|do)[;)]?$ | import[ ][\w.]+(?:[ ]as[ ]\w+)?;?$
    | @\w[\w.]*(?:\(.*\)?)?$ | [\[{(}\])]+[,;.]*$ | [\])}]+[.)]?[\w.]*\(? .*[;,{]$
    | '[\w $.@/-]{1,100}'\s*:\s | (?:FROM|WHERE|JOIN|(?:LEFT|INNER)[ ]JOIN|GROUP[ ]BY|ORDER[ ]BY
      |LIMIT|VALUES|HAVING|SET|AND|ON|WITH)\b.*[\w)';,(]$
    | [0-9a-f]{7,12}[ ]\S | (?:\?\?|[MADRCU]{1,2})[ ]+\S+$ | //[ ]?\S | /\*
    | (?:WARNING|WARN|NOTICE):[ ] | \.\.\.[ ]{4,}
    | (?:docker|kubectl|curl|wget|cd|mkdir|chmod|python3?|make|go|ssh|export|echo|rm|cp|mv)[ ]
      (?:[-./~$"'\w]+[ ])*-{1,2}\w
    | \[\[?[\w."-]+\]\]?$ | -[ ]\{.*\}$ | drw|[├└│]
    """,
    re.VERBOSE,
)
_HINT = re.compile(r"#\s|\*\s|\*/|--\s|;|%\s|\.\.\.|\"\"\"|'''")

# Patterns that are about a line's end, tried only where its last character makes sense of them.
_BRACKETED_END = ";,{}()[]"
_STRONG_END = re.compile(r".*[^\s\w\"'.]\s*\{$")
_WEAK_END = re.compile(
    r".*(?:=>|->|::|\|\||&&|!=|==|\+=|</).*$|.*(?:\w\(\)|[=\])])\s*;$"
    r"|.*(?:\w_\w|\*\w|\w\*|\w\[).*[;,]$"
)

_TABLE = re.compile(r"\|.*\||\+(?:[-=]{2,}\+)+|:?-{2,}:?\s*\|[\s:|-]*$")
_RECORD = re.compile(
    r"(?:-[ ])?(?:[a-z_][\w./-]{0,60}|[A-Za-z][\w]*[_-][\w-]{1,60})[ ]?:(?:[ ]+(?P<value>\S.*))?$"
)
_FIELD = re.compile(r"[A-Z][\w/-]{0,40}(?:[ ][\w/-]{1,40}){0,2}:[ ]+(?P<value>\S.*)$")
_ALIGNED = re.compile(
    r"\S.*?[^.?!:\s][ ]{2,}\S.*?[^.?!:\s][ ]{2,}\S|[^\s|]+(?:[ ]\S+){0,3}[ ]{3,}\S"
)
_SENTENCE_END = (".", "?", "!", "…", '."', "。")
_MAX_RECORD_WORDS = 12
_MAX_FIELD_WORDS = 8

_DENSE = frozenset("{}()[];=<>|&$\\")
# Plain text has about 2 % of these characters, minified code 12 % and more.
_DENSE_SHARE = 0.1
_DENSE_FROM = 200

# What most lines of prose look like, tested first because it is true so often: some plain words,
# spaces and commas up to the first sixty characters or so.
_PLAIN = re.compile(r"(?:[A-Z]?[a-z’']+,?[ ]){4}")
_LABELLED = re.compile(r"(?:[A-Z][\w.'’-]*[ ]?){1,4}:[ ]+[A-Z\"“']?[\w’']+.*[.?!…\"”]$")


def shape_of(line: str) -> Shape:
    """The shape of a line, given without its indentation and its line break."""
    head = line[:MAX_SHAPE].rstrip()
    if not head:
        return Shape.NONE
    if _PLAIN.match(head) and head[-1] not in ";{}(" and not _BLOCK_WORD.match(head):
        if "  " not in head and "\t" not in head:
            return _dense(line)
    if ("|" in head or head[0] == "+") and _TABLE.match(head):
        return Shape.TABLE
    bracketed = head[-1] in _BRACKETED_END
    strong = _STRONG.match(head)
    if strong:
        return Shape.LOG if strong["log"] else Shape.STRONG
    if bracketed and _STRONG_END.match(head):
        return Shape.STRONG
    if _WEAK.match(head) or (bracketed and _WEAK_END.match(head)):
        return Shape.WEAK
    record = _record(head)
    if record:
        return record
    if "  " in head and _ALIGNED.match(head) and not is_prose(head):
        return Shape.WEAK
    if _separated(head) and not is_prose(head):
        return Shape.COLUMNS
    if _HINT.match(head):
        return Shape.HINT
    return _dense(line)


_BLOCK_WORD = re.compile(r"at |if |for |while |with |return |import |from |git |total |class ")


def _separated(head: str) -> bool:
    """Whether a line is a row of values, separated by tabs or without spaces."""
    for separator in ",;":
        together = head.count(separator)
        if together > 1 and head.count(separator + " ") == 0:
            return True
    return head.count("\t") > 1


def _record(head: str) -> Shape:
    found = _RECORD.match(head)
    limit = _MAX_RECORD_WORDS
    if not found:
        found = _FIELD.match(head)
        limit = _MAX_FIELD_WORDS
    if not found:
        return Shape.NONE
    value = found["value"] or ""
    if value.endswith(_SENTENCE_END) or value.count(" ") >= limit:
        return Shape.NONE
    return Shape.RECORD


def _dense(line: str) -> Shape:
    """Whether a long line is full of the marks of code: minified source, a dump on one line."""
    if len(line) < _DENSE_FROM:
        return Shape.NONE
    sample = line[:2000]
    marks = sum(map(sample.count, _DENSE))
    return Shape.STRONG if marks > _DENSE_SHARE * len(sample) else Shape.NONE


_WORD = re.compile(r"[\"“'‘(\[*_]*[^\W\d_]+(?:[-'’][^\W\d_]+)*[.,;:!?\"”'’)\]*_…]*$")


def is_prose(line: str) -> bool:
    """Whether a line is made of words: at least five, and most of them nothing but letters."""
    words = line[:MAX_SHAPE].split()
    if len(words) < 5:
        return False
    plain = sum(1 for word in words if _WORD.match(word))
    return plain >= 0.7 * len(words)
