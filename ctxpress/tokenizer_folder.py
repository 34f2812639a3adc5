"""A model's tokenizer and chat template from its folder, without torch or transformers.

The files are those of the Hugging Face kind: ``tokenizer.json``, ``tokenizer_config.json`` and
``chat_template.jinja``. Templates are programs: they run in Jinja's immutable sandbox, with what
transformers gives them and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ctxpress.errors import MissingDependencyError, ModelError
from ctxpress.prompt_pieces import PromptError

if TYPE_CHECKING:
    from jinja2 import Environment, Template
    from tokenizers import Tokenizer

__all__ = ["TokenizerFolder"]

_MAX_FILE_BYTES = 256 * 2**20
_SPECIAL_TOKENS = (
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
)  # fmt: skip


class TokenizerFolder:
    """What a folder says about turning messages into token ids. Safe to use from many threads.

    ``pad_id``: the id of its padding token, else of its last token of a text, else 0.
    """

    def __init__(self, folder: Path) -> None:
        """Read the folder.

        :raises ModelError: a file is missing, damaged, or no tokenizer.
        :raises MissingDependencyError: there is a chat template, and Jinja is not installed.
        """
        self.folder = folder
        self._tokenizer = _tokenizer(folder / "tokenizer.json")
        path = folder / "tokenizer_config.json"
        config = _json(path) if path.exists() else {}
        if not isinstance(config, dict):
            raise ModelError(f"{path}: not a JSON object")
        self._special = _special_tokens(config)
        source = _template_source(folder, config)
        self._template = None if source is None else _compiled(source, folder)
        named = (self._tokenizer.token_to_id(self._special.get(n, "")) for n in _PADS)
        self.pad_id: int = next((i for i in named if i is not None), 0)
        framed, bare = self._tokenizer.encode("a").ids, self.token_ids("a")
        self.leading_ids: Sequence[int] = framed[: framed.index(bare[0])] if bare else []

    @property
    def name(self) -> str:
        """The folder's."""
        return self.folder.name

    def token_ids(self, text: str) -> list[int]:
        """The tokens of a piece of text, without any that frame whole texts."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def token_text(self, token_id: int) -> str:
        """One token as text; an incomplete character is U+FFFD."""
        text: str = self._tokenizer.decode([token_id], skip_special_tokens=False)
        return text

    def chat_text(
        self,
        messages: Sequence[Mapping[str, str]],
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """The messages as one text, with the answer begun. ``variables`` are the template's own.

        :raises PromptError: there is no template, or it refuses the messages.
        """
        if self._template is None:
            raise PromptError(f"{self.folder} has no chat template", param="messages")
        values = {**self._special, **(variables or {})}
        values |= {"messages": [dict(m) for m in messages], "add_generation_prompt": True}
        values |= {"tools": None, "documents": None}
        try:
            return self._template.render(**values)
        except Exception as error:  # templates are programs; they raise what they like
            raise PromptError(
                f"the model's chat template refuses: {error}", param="messages"
            ) from None


_PADS = ("pad_token", "eos_token")


def _tokenizer(path: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_buffer(_content(path))
    except ModelError:
        raise
    except Exception as error:  # tokenizers raises bare Exception
        raise ModelError(f"{path}: not a tokenizer: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(content) > _MAX_FILE_BYTES:
        raise ModelError(f"{path}: larger than {_MAX_FILE_BYTES} bytes")
    return content


def _json(path: Path) -> Any:
    try:
        return json.loads(_content(path))
    except ValueError as error:
        raise ModelError(f"{path}: not JSON: {error}") from error


def _special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for name in _SPECIAL_TOKENS:
        value = config.get(name)
        text = value.get("content") if isinstance(value, dict) else value
        if isinstance(text, str):
            found[name] = text
    return found


def _template_source(folder: Path, config: Mapping[str, Any]) -> str | None:
    """The default template; a file of its own comes before the one in the configuration."""
    path = folder / "chat_template.jinja"
    if path.exists():
        try:
            return _content(path).decode()
        except UnicodeDecodeError as error:
            raise ModelError(f"{path}: not UTF-8: {error}") from error
    given = config.get("chat_template")
    if isinstance(given, list):
        given = next(
            (
                t.get("template")
                for t in given
                if isinstance(t, dict) and t.get("name") == "default"
            ),
            None,
        )
    return given if isinstance(given, str) else None


def _compiled(source: str, folder: Path) -> Template:
    try:
        from jinja2 import TemplateError
    except ImportError as error:
        raise MissingDependencyError(
            "chat templates need Jinja: pip install 'ctxpress[proxy]'"
        ) from error
    try:
        return _environment().from_string(source)
    except TemplateError as error:
        raise ModelError(f"{folder}: its chat template is no template: {error}") from error


def _environment() -> Environment:
    """As transformers sets it up (``utils/chat_template_utils.py``), since templates rely on it."""
    import jinja2
    from jinja2.ext import Extension, loopcontrols
    from jinja2.nodes import CallBlock, Node
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class GenerationBlocks(Extension):
        """``{% generation %}`` marks what an assistant said, for training; here it is nothing."""

        tags = {"generation"}

        def parse(self, parser: Parser) -> Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            call = self.call_method("_said")
            return CallBlock(call, [], [], body).set_lineno(line)

        def _said(self, caller: Any) -> str:
            return str(caller())

    def raise_exception(message: str) -> NoReturn:
        raise jinja2.TemplateError(message)

    def tojson(
        value: Any,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        return json.dumps(
            value,
            ensure_ascii=ensure_ascii,
            indent=indent,
            separators=separators,
            sort_keys=sort_keys,
        )

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationBlocks, loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment
