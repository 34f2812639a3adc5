"""Plugins: what is enabled loads, clashes and misspellings are errors, options are checked."""

import pytest
from pydantic import BaseModel, ConfigDict

from ctxpress.errors import ConfigError, PluginError
from ctxpress.hookspecs import hookimpl
from ctxpress.manager import create_plugin_manager
from tests.core.stages import EveryOtherWord


class Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    keep_ratio: float = 0.5


class MyPlugin:
    @hookimpl
    def register_stages(self, register):
        register("every_other_word", lambda config, resources: EveryOtherWord(), Options)


def test_the_built_in_stages_are_registered():
    assert "token_classification" in create_plugin_manager().stages


def test_a_plugin_registers_a_stage_that_is_built_from_its_options():
    manager = create_plugin_manager((), plugins=[MyPlugin()])
    built = manager.build_stage("every_other_word", {"keep_ratio": 0.3})
    other = manager.build_stage("every_other_word", {"keep_ratio": 0.4})
    assert built.name == "every_other_word"
    assert built.fingerprint != other.fingerprint


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("every_other_wrod", {}, "did you mean 'every_other_word'"),
        ("every_other_word", {"keep_ration": 1}, "did you mean 'keep_ratio'"),
        ("every_other_word", {"keep_ratio": "much"}, "option 'keep_ratio'"),
    ],
)
def test_wrong_names_and_values_are_named_with_the_nearest_right_one(name, options, message):
    manager = create_plugin_manager((), plugins=[MyPlugin()])
    with pytest.raises(ConfigError, match=message):
        manager.build_stage(name, options)


def test_a_name_that_is_taken_names_both():
    class Rival(MyPlugin):
        pass

    with pytest.raises(PluginError, match="both MyPlugin and Rival|both Rival and MyPlugin"):
        create_plugin_manager((), plugins=[MyPlugin(), Rival()])


def test_a_misspelt_hook_is_an_error():
    class Misspelt:
        @hookimpl
        def register_stage(self, register):
            raise AssertionError

    with pytest.raises(PluginError, match="register_stage"):
        create_plugin_manager((), plugins=[Misspelt()])


def test_a_plugin_that_is_not_installed_is_an_error_with_the_command():
    with pytest.raises(PluginError, match="pip install no-such-plugin"):
        create_plugin_manager(["no-such-plugin"])


def test_a_distribution_without_an_entry_point_is_an_error():
    with pytest.raises(PluginError, match="no entry point"):
        create_plugin_manager(["pytest"])


def test_a_factory_that_fails_is_a_plugin_error():
    class Failing:
        @hookimpl
        def register_stages(self, register):
            register("failing", lambda config, resources: 1 / 0, Options)

    with pytest.raises(PluginError, match="ZeroDivisionError"):
        create_plugin_manager((), plugins=[Failing()]).build_stage("failing", {})


def test_what_follows_a_final_stage_is_named_with_its_place():
    class Last:
        @hookimpl
        def register_stages(self, register):
            register("last", lambda config, resources: EveryOtherWord(), Options, final=True)

    manager = create_plugin_manager((), plugins=[MyPlugin(), Last()])
    assert manager.build_stage("last", {}).final
    assert not manager.build_stage("every_other_word", {}).final
    assert manager.misplaced([]) == manager.misplaced(["every_other_word", "last"]) == []
    assert manager.misplaced(["last", "every_other_word", "last"]) == [
        (0, "stage 'last' must be the last, and 'every_other_word' follows it")
    ]
