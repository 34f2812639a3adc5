"""Token classification (LLMLingua-2): keep the words that a small encoder finds important.

`config` are the options, `native` the stage on the original string. A block is taken apart into
`parts` and `units` (from `characters`, `structure`, `scripts`, `satellites` and `pairs`), which get
`priorities` (with the `question` and by `sentences`); `selection` finds those that fit the
`budget`, `remaining` what the text is then; `sharing` spreads a budget over blocks.

`checkpoint` loads what Hugging Face has, `huggingface` scores with it. `llmlingua2` is the
library's algorithm, `llmlingua2_stage` its stage, `factory` builds both. Only these need torch,
and late.
"""

from __future__ import annotations

from ctxpress.hookspecs import RegisterStage, hookimpl
from ctxpress.models import load_bundled_scorer
from ctxpress.plugins.token_classification.config import TokenClassificationConfig
from ctxpress.plugins.token_classification.native import TokenClassificationStage
from ctxpress.resources import Resources
from ctxpress.stage import Stage

__all__ = ["TokenClassificationConfig", "TokenClassificationStage", "register_stages"]


def _create_stage(config: TokenClassificationConfig, resources: Resources) -> Stage:
    if config.backend == "huggingface":
        from ctxpress.plugins.token_classification.factory import create_huggingface_stage

        return create_huggingface_stage(config, resources)
    scorer = resources.get("models/bundled", load_bundled_scorer)
    return TokenClassificationStage(config, scorer)


@hookimpl
def register_stages(register: RegisterStage) -> None:
    """Register `token_classification`."""
    register("token_classification", _create_stage, TokenClassificationConfig)
