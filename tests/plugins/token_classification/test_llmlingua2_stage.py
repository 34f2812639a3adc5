from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ctxpress.document import Block, ContextDocument, Kind
from ctxpress.errors import ConfigError, DeadlineError, ModelError
from ctxpress.manager import create_plugin_manager
from ctxpress.plugins.token_classification import TokenClassificationConfig
from ctxpress.plugins.token_classification import factory as factory_module
from ctxpress.plugins.token_classification.llmlingua2 import (
    LLMLingua2Compressor,
    LLMLingua2Options,
)
from ctxpress.plugins.token_classification.llmlingua2_stage import LLMLingua2Stage
from ctxpress.stage import Skip, Stage, StageContext, StageSkip
from ctxpress.testing import WordCounter, check_stage, make_block, make_document

BASE: dict[str, Any] = {"mode": "llmlingua2", "backend": "huggingface", "model": "tiny"}
PROSE = "The committee met on Tuesday to go over the budget for the coming year, didn't it? " * 3
NOTES = "Hello world, this is an important meeting about heating and projects with many words. " * 2


def stage_of(compressor: LLMLingua2Compressor, **options: Any) -> LLMLingua2Stage:
    return LLMLingua2Stage(TokenClassificationConfig(**BASE, **options), compressor, "tiny")


def run(stage: Stage, document: ContextDocument, **context: Any) -> ContextDocument:
    async def direct(work: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(None, work)

    async def main() -> ContextDocument:
        return await stage.apply(
            document, StageContext(counter=WordCounter(), executor=direct, **context)
        )

    return asyncio.run(main())


def rewrite(stage: Stage, *parts: str | tuple[str, Kind, bool], **context: Any) -> Block:
    return run(stage, make_document(make_block(*parts)), **context).blocks[0]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"target_token": 40},
        {"force_tokens": ("\n", "."), "drop_consecutive": True, "force_reserve_digit": True},
        {"context_filter": True, "context_level_rate": 0.5},
    ],
)
@pytest.mark.timeout(300)  # two seconds of work, but many threads' worth on a shared machine
def test_it_obeys_the_laws(compressor: LLMLingua2Compressor, options: dict[str, Any]) -> None:
    check_stage(stage_of(compressor, **options))


def test_it_declares_that_it_writes(compressor: LLMLingua2Compressor) -> None:
    traits = stage_of(compressor, rate=0.3, languages=["en"]).traits
    assert not traits.extractive
    assert traits.keep_ratio == 0.3
    assert traits.languages == {"en"}
    assert stage_of(compressor).traits.languages is None


def test_a_span_is_what_the_library_makes_of_it(compressor: LLMLingua2Compressor) -> None:
    block = rewrite(stage_of(compressor, rate=0.4), PROSE)
    result = compressor.compress([PROSE.strip()], LLMLingua2Options(rate=0.4))
    assert block.text.strip() == result.prompt.strip()


def test_protected_text_and_outer_blanks_stay(compressor: LLMLingua2Compressor) -> None:
    code = ("`x = 1`", Kind.CODE, True)
    block = rewrite(stage_of(compressor), f"\n{PROSE}\n\n", code, f" {NOTES}")
    first, middle, last = block.spans
    assert middle.text == code[0]
    assert first.text.startswith("\n")
    assert first.text.endswith("\n\n")
    assert last.text.startswith(" ")
    assert len(block.text) < len(PROSE + NOTES)


@pytest.mark.parametrize("kind", [Kind.CODE, Kind.JSON, Kind.QUESTION])
def test_other_kinds_stay(compressor: LLMLingua2Compressor, kind: Kind) -> None:
    block = rewrite(stage_of(compressor), PROSE, (NOTES, kind, False))
    assert block.spans[1].text == NOTES
    with pytest.raises(StageSkip) as caught:
        rewrite(stage_of(compressor), (NOTES, kind, False))
    assert caught.value.code is Skip.NOTHING_TO_COMPRESS


def documents(*texts: str) -> list[str | tuple[str, Kind, bool]]:
    parts: list[str | tuple[str, Kind, bool]] = []
    for number, text in enumerate(texts):
        parts += [(f"<doc {number}>", Kind.OPAQUE, True), (text, Kind.DOCUMENT, False)]
    return parts


def test_the_context_filter_drops_whole_documents(compressor: LLMLingua2Compressor) -> None:
    parts = [PROSE, *documents(PROSE, NOTES, PROSE + NOTES)]
    stage = stage_of(compressor, context_filter=True, target_context=1, rate=0.9)
    block = rewrite(stage, *parts)
    left = [bool(span.text.strip()) for span in block.spans if span.kind is Kind.DOCUMENT]
    assert left.count(True) == 1
    assert all(not span.kept for span in block.spans if not span.text)
    assert block.spans[0].text.strip()
    kept = rewrite(stage_of(compressor, rate=0.9), *parts)
    assert all(span.text.strip() for span in kept.spans)


def test_a_forced_document_stays(compressor: LLMLingua2Compressor) -> None:
    for number in range(3):
        stage = stage_of(
            compressor,
            context_filter=True,
            target_context=1,
            force_context_ids=[number],
            use_token_level_filter=False,
        )
        block = rewrite(stage, *documents(PROSE, NOTES, PROSE + NOTES))
        found = [span.text for span in block.spans if span.kind is Kind.DOCUMENT]
        assert found[number].strip()


def test_a_requests_ratio_and_target_go_before_the_configuration(
    compressor: LLMLingua2Compressor,
) -> None:
    stage = stage_of(compressor, target_token=100_000)
    count = WordCounter().count
    assert count(rewrite(stage, PROSE * 5).text) > count(PROSE * 5) * 0.9
    assert count(rewrite(stage, PROSE * 5, keep_ratio=0.3).text) < count(PROSE * 5) * 0.5
    question = ("What is it?", Kind.QUESTION, True)
    block = rewrite(stage, PROSE * 5, question, target_tokens=40)
    assert block.spans[1].text == question[0]
    assert count(block.text) < 80


def test_a_block_that_would_become_blank_or_grow_stays(compressor: LLMLingua2Compressor) -> None:
    assert rewrite(stage_of(compressor), PROSE, keep_ratio=1e-6).text == PROSE
    emoji = "word \N{ROCKET} " * 20
    assert WordCounter().count(rewrite(stage_of(compressor, rate=1.0), emoji).text) <= 40


@pytest.mark.parametrize(
    "text", ["", "   ", "\n\t", "\N{ROCKET}", "2024", "a <|endoftext|> b", "[NEW5]", "a\ud800b"]
)
@pytest.mark.parametrize("options", [{}, {"force_tokens": ("\n",)}, {"context_filter": True}])
def test_odd_text_ends_in_a_result_or_a_skip(
    compressor: LLMLingua2Compressor, text: str, options: dict[str, Any]
) -> None:
    with contextlib.suppress(StageSkip):
        rewrite(stage_of(compressor, **options), text)


def test_a_block_that_the_library_refuses_stays_and_the_others_do_not(
    compressor: LLMLingua2Compressor,
) -> None:
    refused = make_block(f"{PROSE} <|endoftext|>", pointer="/messages/0/content")
    good = make_block(PROSE, pointer="/messages/1/content")
    after = run(stage_of(compressor), make_document(refused, good)).blocks
    assert after[0] == refused
    assert len(after[1].text) < len(PROSE)
    with pytest.raises(StageSkip, match="endoftext"):
        run(stage_of(compressor), make_document(refused))


def test_the_deadline_ends_the_work(compressor: LLMLingua2Compressor) -> None:
    with pytest.raises(DeadlineError):
        rewrite(stage_of(compressor), PROSE, deadline_s=0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "llmlingua2"}, "needs backend: huggingface"),
        ({"backend": "huggingface"}, "needs model"),
        ({"model": "x"}, "model is an option of backend: huggingface"),
        ({"languages": ["en"]}, "languages is an option of backend: huggingface"),
        ({"rate": 0.5}, "rate is an option of mode: llmlingua2"),
        ({**BASE, "keep_ratio": 0.5}, "keep_ratio is an option of mode: native"),
        ({**BASE, "target_context": 1}, "target_context has no effect without context_filter"),
        ({**BASE, "rate": 0}, "rate"),
        ({**BASE, "rate": 1.5}, "rate"),
        ({**BASE, "rate": float("nan")}, "rate"),
        ({**BASE, "token_to_word": "last"}, "token_to_word"),
        ({**BASE, "languages": ["English"]}, "languages"),
        ({**BASE, "device": "tpu"}, "device"),
    ],
)
def test_options_that_do_not_belong_are_refused_by_name(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        TokenClassificationConfig(**options)


def test_without_the_counters_file_it_says_how_to_get_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    options = {**BASE, "model": str(folder), "device": "cpu"}
    with pytest.raises(ModelError, match=r"cl100k_base.*TIKTOKEN_CACHE_DIR"):
        create_plugin_manager().build_stage("token_classification", options)


def test_stages_are_built_from_the_configuration(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(factory_module, "_cl100k_count", lambda: len)
    manager = create_plugin_manager()
    options: dict[str, Any] = {"backend": "huggingface", "model": str(folder), "device": "cpu"}
    native = manager.build_stage("token_classification", {**options, "languages": ["en", "de"]})
    assert native.traits.extractive
    assert native.traits.languages == {"en", "de"}
    library = manager.build_stage("token_classification", {**options, "mode": "llmlingua2"})
    assert not library.traits.extractive
    assert "transformers/" in library.stage.identity
    again = manager.build_stage("token_classification", {**options, "mode": "llmlingua2"})
    assert again.fingerprint == library.fingerprint
    assert again.stage._compressor is library.stage._compressor  # type: ignore[attr-defined]
    for stage in (native.stage, library.stage):
        after = run(stage, make_document(make_block(PROSE)))
        assert 0 < len(after.blocks[0].text) < len(PROSE)


def test_a_wrong_option_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="rate is an option of mode: llmlingua2"):
        create_plugin_manager().build_stage("token_classification", {"rate": 0.5})
