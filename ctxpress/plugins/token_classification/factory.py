"""Builds the stages that score with a Hugging Face checkpoint."""

from __future__ import annotations

from collections.abc import Callable

from ctxpress.errors import ModelError
from ctxpress.models.checkpoint import INSTALL_COMMAND
from ctxpress.plugins.token_classification.checkpoint import load_checkpoint
from ctxpress.plugins.token_classification.config import TokenClassificationConfig
from ctxpress.plugins.token_classification.huggingface import HuggingFaceTokenScorer
from ctxpress.plugins.token_classification.llmlingua2 import ChunkEncoder, LLMLingua2Compressor
from ctxpress.plugins.token_classification.llmlingua2_stage import LLMLingua2Stage
from ctxpress.plugins.token_classification.native import TokenClassificationStage
from ctxpress.resources import Resources
from ctxpress.tokens import create_counter

__all__ = ["create_huggingface_stage"]

_COUNTED_LIKE = "gpt-3.5-turbo"
_ENCODING = "tiktoken:cl100k_base"


def create_huggingface_stage(
    config: TokenClassificationConfig, resources: Resources
) -> TokenClassificationStage | LLMLingua2Stage:
    """The stage that `config` describes; a checkpoint is loaded once, however many use it.

    :raises MissingDependencyError: torch or transformers is not installed.
    :raises ModelError: the checkpoint cannot be had, or cl100k_base is needed and not at hand.
    """
    model = config.model or ""
    key = (model, config.revision, config.device)
    if config.mode == "llmlingua2":

        def load_compressor() -> tuple[LLMLingua2Compressor, str]:
            from transformers import __version__

            count = _cl100k_count()
            checkpoint = load_checkpoint(
                model, revision=config.revision, device=config.device, exact=True
            )
            compressor = LLMLingua2Compressor(ChunkEncoder(checkpoint), count)
            return compressor, f"{checkpoint.identity}+transformers/{__version__}"

        compressor, identity = resources.get(
            ("token_classification/llmlingua2", *key), load_compressor
        )
        return LLMLingua2Stage(config, compressor, identity)

    checkpoint = resources.get(
        ("token_classification/checkpoint", *key),
        lambda: load_checkpoint(model, revision=config.revision, device=config.device),
    )
    languages = None if config.languages is None else frozenset(config.languages)
    scorer = resources.get(
        ("token_classification/scorer", *key, languages),
        lambda: HuggingFaceTokenScorer(checkpoint, languages=languages),
    )
    return TokenClassificationStage(config, scorer)


def _cl100k_count() -> Callable[[str], int]:
    """Counts cl100k_base tokens, which weigh the words of mode llmlingua2.

    :raises ModelError: tiktoken or its file is not at hand; an estimate would change the output.
    """
    counter = create_counter(_COUNTED_LIKE)
    if counter.identity != _ENCODING:
        raise ModelError(
            "mode llmlingua2 counts with tiktoken's cl100k_base, and it or its file is not here. "
            f"{INSTALL_COMMAND}, then fetch the file once where there is a network: "
            "python -c \"import tiktoken; tiktoken.get_encoding('cl100k_base')\" "
            "and set TIKTOKEN_CACHE_DIR to the folder that it lies in"
        )
    return counter.count
