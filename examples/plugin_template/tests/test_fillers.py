"""A plugin author's whole test is one line."""

from ctxpress_fillers import FillersConfig, FillersStage

from ctxpress.testing import check_stage


def test_the_stage_obeys_the_laws():
    check_stage(FillersStage(FillersConfig()))
