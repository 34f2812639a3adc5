"""The plugin template works as its README says."""

import importlib.util
import sys
from pathlib import Path

import pytest

from ctxpress.manager import create_plugin_manager
from ctxpress.testing import check_stage

TEMPLATE = Path(__file__).parent.parent / "examples" / "plugin_template"


@pytest.fixture
def fillers():
    path = TEMPLATE / "src" / "ctxpress_fillers" / "__init__.py"
    spec = importlib.util.spec_from_file_location("ctxpress_fillers", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["ctxpress_fillers"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["ctxpress_fillers"]


def test_the_stage_obeys_the_laws(fillers):
    check_stage(fillers.FillersStage(fillers.FillersConfig()))


def test_the_plugin_registers_its_stage(fillers):
    manager = create_plugin_manager(plugins=[fillers])
    assert manager.build_stage("fillers", {"words": ["well"]}).name == "fillers"
