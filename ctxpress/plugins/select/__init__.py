"""The combination of documents that is best for the question within a budget (stage `select`).

CORAG, later called CARROT (Wang et al. 2024, arXiv 2411.00744): documents are chosen together, not
one by one, by Monte-Carlo tree search over combinations. More is not always better: what repeats
or distracts costs reward, so fewer documents than fit may win.

`config` are the options, `search` the tree, `rewards` what a combination is worth (by the
`evidence` of its sentences, or by a model that reads it whole), `stage` the stage.
"""

from __future__ import annotations

from ctxpress.hookspecs import RegisterStage, hookimpl
from ctxpress.plugins.scoring import create_scorer
from ctxpress.plugins.select.config import SelectConfig
from ctxpress.plugins.select.stage import SelectStage
from ctxpress.resources import Resources

__all__ = ["SelectConfig", "SelectStage", "register_stages"]


def _create_stage(config: SelectConfig, resources: Resources) -> SelectStage:
    return SelectStage(config, create_scorer(config.scorer, resources))


@hookimpl
def register_stages(register: RegisterStage) -> None:
    """Register `select`."""
    register("select", _create_stage, SelectConfig)
