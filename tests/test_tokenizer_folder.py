"""A model's tokenizer and chat template without transformers say what transformers says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from ctxpress.engine.reference import reference_model_dir
from ctxpress.errors import ModelError
from ctxpress.prompt_pieces import PromptError, chat_pieces, completion_pieces
from ctxpress.tokenizer_folder import TokenizerFolder
from tests.engine.small_worker import TEMPLATE, byte_tokenizer

# Written for these tests, after the kinds of templates that models come with.
TEMPLATES = {
    "plain": TEMPLATE,
    "headers": (
        "{{- bos_token }}\n{%- for message in messages %}\n"
        "    {{- '<|start|>' + message['role'] + '<|end|>\\n\\n' + message['content'] | trim }}\n"
        "{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<|start|>assistant<|end|>' }}\n"
        "{%- endif %}\n"
    ),
    "alternating": (
        "{% for m in messages %}{% if m.role not in ['system', 'user', 'assistant'] %}"
        "{{ raise_exception('no role ' + m.role) }}{% endif %}"
        "{% if m.role == 'system' %}{% continue %}{% endif %}"
        "{% if loop.index0 > 9 %}{% break %}{% endif %}"
        "{{ '[' ~ m.role ~ ']' ~ m.content ~ eos_token }}{% endfor %}"
    ),
    "json": "{% for m in messages %}{{ m | tojson(indent=1) }}{% endfor %}{{ '<' | tojson }}",
    "generation": (
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}"
    ),
    "variables": "{{ 'thinks' if enable_thinking else 'not' }}{{ messages[-1].content }}",
    "tools": "{% if tools is defined and tools %}tools{% endif %}{{ messages[0].content }}",
}
MESSAGES = [
    {"role": "system", "content": " Be brief, <b>please</b>. "},
    {"role": "user", "content": "Where is Zoë's „Käse“?\n"},
]


def saved(folder: Path, template: str | None = None) -> PreTrainedTokenizerFast:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return tokenizer


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("place", ["file", "configuration", "list"])
def test_templates_render_as_transformers_renders_them(
    tmp_path: Path, name: str, place: str
) -> None:
    theirs = saved(tmp_path, TEMPLATES[name])
    if place != "file":
        (tmp_path / "chat_template.jinja").unlink()
        path = tmp_path / "tokenizer_config.json"
        config = json.loads(path.read_text("utf-8"))
        named = [{"name": "tool_use", "template": "no"}]
        named.append({"name": "default", "template": TEMPLATES[name]})
        config["chat_template"] = TEMPLATES[name] if place == "configuration" else named
        path.write_text(json.dumps(config), "utf-8")
    variables: dict[str, Any] = {"enable_thinking": False} if name == "variables" else {}
    ours = TokenizerFolder(tmp_path).chat_text(MESSAGES, variables)
    assert ours == theirs.apply_chat_template(
        MESSAGES, tokenize=False, add_generation_prompt=True, **variables
    )


@given(text=st.text(max_size=60))
@settings(deadline=None, max_examples=60)
def test_tokens_are_those_of_transformers(text: str) -> None:
    ours = TOKENIZERS[0]
    theirs = TOKENIZERS[1]
    assert ours.token_ids(text) == theirs(text, add_special_tokens=False)["input_ids"]
    assert [*ours.leading_ids, *ours.token_ids("a")] == theirs("a")["input_ids"][:2]


TOKENIZERS = (
    TokenizerFolder(reference_model_dir()),
    AutoTokenizer.from_pretrained(str(reference_model_dir())),
)


def test_a_template_cannot_reach_out_of_its_sandbox(tmp_path: Path) -> None:
    for bad in ("{{ messages.append(1) }}", "{{ ''.__class__.__mro__[1].__subclasses__() }}"):
        saved(tmp_path, bad)
        with pytest.raises(PromptError, match="chat template refuses"):
            TokenizerFolder(tmp_path).chat_text(MESSAGES)


def test_what_is_no_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"tokenizer\.json: cannot be read: No such file"):
        TokenizerFolder(tmp_path)
    saved(tmp_path, "{% if %}")
    with pytest.raises(ModelError, match="its chat template is no template"):
        TokenizerFolder(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("[]", "utf-8")
    with pytest.raises(ModelError, match=r"tokenizer_config\.json: not a JSON object"):
        TokenizerFolder(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}", "utf-8")
    with pytest.raises(ModelError, match=r"tokenizer\.json: not a tokenizer"):
        TokenizerFolder(tmp_path)


def test_prompts_that_cannot_be_cut_up_say_so(tmp_path: Path) -> None:
    saved(tmp_path, "{{ messages[0].content }}")
    folder = TokenizerFolder(tmp_path)
    documents = [Passage("Text.")]
    with pytest.raises(PromptError, match="leaves 0 places for the documents"):
        chat_pieces(folder, MESSAGES, documents)
    with pytest.raises(PromptError, match="need a user message"):
        chat_pieces(folder, MESSAGES[:1], documents)
    with pytest.raises(PromptError, match="no tokens behind the documents"):
        completion_pieces(folder, "{{ctxpress.documents}}", documents)
    with pytest.raises(PromptError, match="stands in the prompt twice"):
        completion_pieces(folder, "{{ctxpress.documents}}" * 2, documents)
    pieces = completion_pieces(folder, "Read {{ctxpress.documents}} now.", documents)
    assert len(pieces.documents) == 1
    assert pieces.n_tokens == len("Read Text. now.")


class Passage:
    title = ""

    def __init__(self, text: str) -> None:
        self.text = text


def test_it_needs_neither_torch_nor_transformers(tmp_path: Path) -> None:
    saved(tmp_path, TEMPLATE)
    code = (
        "import sys, pathlib; from ctxpress.tokenizer_folder import TokenizerFolder;"
        "folder = TokenizerFolder(pathlib.Path(sys.argv[1]));"
        "folder.chat_text([{'role': 'user', 'content': 'x'}]);"
        "assert not {'torch', 'transformers'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=60)
