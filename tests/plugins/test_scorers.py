"""Scorers as stages take them: by name and options, documented, through a pipeline."""

from __future__ import annotations

import re
import types
from pathlib import Path

import pytest

from ctxpress.errors import ConfigError, MissingDependencyError, ModelError
from ctxpress.manager import create_plugin_manager, option_names
from ctxpress.relevance.scorer import RelevanceScorer, Titled
from ctxpress.sdk import Pipeline
from tests.plugins.token_classification.tiny_checkpoints import make_bert
from tests.relevance.huggingface.texts import LONG, QUESTION, TEXTS

CONFIGURATION = (Path(__file__).parents[2] / "docs/configuration.md").read_text("utf-8")
DOCUMENTS = [{"id": str(n), "text": one.text, "title": one.title} for n, one in enumerate(TEXTS)]
DOCUMENTS.append({"id": "long", "text": LONG, "title": "Minutes"})


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("scorers")
    return {
        "cross_encoder": make_bert(base / "a", head="ForSequenceClassification", num_labels=1),
        "embedding": make_bert(base / "b", head="Model"),
    }


def section_of(heading: str) -> str:
    found = re.search(rf"^#### {re.escape(heading)}\n(.*?)(?=^#|\Z)", CONFIGURATION, re.M | re.S)
    assert found is not None, f"docs/configuration.md has no section {heading!r}"
    return found[1]


def test_every_scorers_options_are_documented() -> None:
    table = CONFIGURATION.split("### Scorers\n")[1].split("\n#### ")[0]
    scorers = create_plugin_manager().scorers
    assert sorted(re.findall(r"^\| `(\w+)` \|", table, re.M)) == sorted(scorers)
    for name, scorer in scorers.items():
        if options := option_names(scorer.config_model):
            assert re.findall(r"^\| `(\w+)` \|", section_of(f"`{name}`"), re.M) == options, name


@pytest.mark.parametrize("name", ["cross_encoder", "embedding"])
async def test_restructure_keeps_what_the_users_model_finds_best(
    folders: dict[str, Path], name: str
) -> None:
    manager = create_plugin_manager()
    options = {"model": str(folders[name]), "device": "cpu"}
    stage = {"use": "restructure", "keep_ratio": 0.3, "scorer": {"use": name, **options}}
    async with Pipeline.from_stages(stage, strict=True, manager=manager) as pipeline:
        result = await pipeline.compress_documents(QUESTION, DOCUMENTS)
    scorer = manager.resources.create_scorer(name, options)
    assert isinstance(scorer, RelevanceScorer)
    found = scorer.score(QUESTION, [*TEXTS, Titled(LONG, "Minutes")])
    assert 0 < result.tokens_after <= 0.35 * result.tokens_before
    best = max(
        (float(score), document["id"], span)
        for document, one in zip(DOCUMENTS, found, strict=True)
        for span, score in zip(one.sentences, one.sentence_scores, strict=True)
    )
    kept = {one.id: one.kept for one in result.documents}
    assert any(start <= best[2].start and best[2].end <= end for start, end in kept[best[1]])
    for document in DOCUMENTS:
        for start, end in kept[document["id"]]:
            assert document["text"][start:end].strip() in result.text


def test_a_scorer_is_loaded_once_and_a_checkpoint_for_all_its_scorers(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ctxpress.relevance.huggingface import kinds

    loads = []
    real = kinds.load_checkpoint

    def counted(*args: object, **options: object) -> object:
        loads.append(args)
        return real(*args, **options)

    monkeypatch.setattr(kinds, "load_checkpoint", counted)
    create = create_plugin_manager().resources.create_scorer
    options = {"model": str(folders["cross_encoder"]), "device": "cpu"}
    first = create("cross_encoder", options)
    assert create("cross_encoder", options) is first
    other = create("cross_encoder", {**options, "sentences": False, "languages": ["en"]})
    assert other.identity != first.identity
    assert other.languages == {"en"}
    assert len(loads) == 1


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("cross_encoder", {}, ConfigError, "option 'model': Field required"),
        ("cross_encoder", {"model": "a/b", "pooling": "cls"}, ConfigError, "no option 'pooling'"),
        ("cross_encoder", {"model": "a/b", "max_token": 9}, ConfigError, "mean 'max_tokens'"),
        ("embedding", {"model": "a/b", "pooling": "max"}, ConfigError, "option 'pooling'"),
        ("embedding", {"model": "a/b", "languages": []}, ConfigError, "option 'languages'"),
        ("cross_encodr", {"model": "a/b"}, ConfigError, "did you mean 'cross_encoder'"),
        ("cross_encoder", {"model": "./nowhere"}, ModelError, "there is no such folder"),
        ("embedding", {"model": "./nowhere"}, ModelError, "there is no such folder"),
    ],
)
def test_a_wrong_option_is_named(
    name: str, options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        create_plugin_manager().resources.create_scorer(name, options)


def test_without_torch_the_pipeline_says_what_to_install(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torch", None)
    scorer = {"use": "embedding", "model": str(folders["embedding"])}
    with pytest.raises(MissingDependencyError, match=r"pip install 'ctxpress\[torch\]'"):
        Pipeline.from_stages(
            {"use": "restructure", "scorer": scorer}, manager=create_plugin_manager()
        )


async def test_the_documented_plugin_scores_documents() -> None:
    code = re.search(r"```python\n(.*?)```", section_of("A scorer of your own"), re.S)
    assert code is not None
    module = types.ModuleType("overlap_plugin")
    exec(compile(code[1], "docs/configuration.md", "exec"), module.__dict__)
    manager = create_plugin_manager(plugins=[module])
    stage = {
        "use": "restructure",
        "keep_ratio": 0.5,
        "scorer": {"use": "overlap", "min_letters": 5},
    }
    documents = [
        {"id": "a", "text": "The reef is warm. Its fish are small and they swim in the shallows."},
        {"id": "b", "text": "Next to the heating there was a lamp. Nobody was there to see it."},
    ]
    async with Pipeline.from_stages(stage, strict=True, manager=manager) as pipeline:
        result = await pipeline.compress_documents("Who paid for the heating today?", documents)
    assert result.text.startswith("Next to the heating there was a lamp.")
    assert "fish" not in result.text
