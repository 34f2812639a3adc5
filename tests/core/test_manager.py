"""Plugins: what is enabled loads, clashes and misspellings are errors, options are checked."""

import types
from pathlib import Path

import pytest
import torch
from pydantic import BaseModel, ConfigDict

from ctxpress.assembly import create_compressor
from ctxpress.cache import KVBlock, create_codec, create_store, decode_container
from ctxpress.cache.chunks import create_kv_store
from ctxpress.cache.codec import BUILTIN_CODECS
from ctxpress.cache.key import Namespace
from ctxpress.cache.store_kinds import BUILTIN_STORES, StoreKind
from ctxpress.cache.stores.memory import MemoryStore
from ctxpress.config import Config
from ctxpress.errors import ConfigError, PluginError, StoreError, UnsupportedVersionError
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


class ScorerOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: float = 1.0


class FixedScorer:
    languages = None

    def __init__(self, config):
        self.identity = f"fixed/{config.weight}"

    def score(self, question, texts, *, keep_ratio=None, checkpoint=None):
        raise AssertionError


class ScorerPlugin:
    def __init__(self):
        self.built = []

    @hookimpl
    def register_scorers(self, register):
        def create(config, resources):
            self.built.append(config.weight)
            return FixedScorer(config)

        register("fixed", create, ScorerOptions)


def test_a_plugin_registers_a_scorer_that_is_loaded_once_per_name_and_options():
    plugin = ScorerPlugin()
    create = create_plugin_manager((), plugins=[plugin]).resources.create_scorer
    assert create("fixed", {}) is create("fixed", {"weight": 1.0})
    assert create("fixed", {"weight": 2.0}).identity == "fixed/2.0"
    assert plugin.built == [1.0, 2.0]


def test_the_scorer_bm25_comes_with_ctxpress():
    manager = create_plugin_manager()
    assert manager.scorers["bm25"].distribution == "ctxpress"
    assert manager.resources.create_scorer("bm25", {"k1": 2.0}).identity.startswith("bm25/")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("fixt", {}, "no scorer is called 'fixt'; did you mean 'fixed'"),
        ("fixed", {"wieght": 1}, "scorer 'fixed' has no option 'wieght'; did you mean 'weight'"),
        ("fixed", {"weight": "much"}, "scorer 'fixed', option 'weight'"),
    ],
)
def test_wrong_names_and_options_of_scorers_are_named_with_the_nearest_right_one(
    name, options, message
):
    manager = create_plugin_manager((), plugins=[ScorerPlugin()])
    with pytest.raises(ConfigError, match=message):
        manager.resources.create_scorer(name, options)


def test_a_scorers_name_that_is_taken_names_both():
    class Rival(ScorerPlugin):
        pass

    with pytest.raises(PluginError, match="scorer 'fixed' .*both"):
        create_plugin_manager((), plugins=[ScorerPlugin(), Rival()])


class Nested:
    """A scorer `outer` that is made of another one."""

    def __init__(self, inner):
        self.inner = inner

    @hookimpl
    def register_scorers(self, register):
        register("outer", self.create, ScorerOptions)

    def create(self, config, resources):
        resources.create_scorer(self.inner, {})
        return FixedScorer(config)


def test_a_scorer_may_be_made_of_another():
    manager = create_plugin_manager((), plugins=[ScorerPlugin(), Nested("fixed")])
    assert manager.resources.create_scorer("outer", {}).identity == "fixed/1.0"


def test_a_scorer_that_is_made_of_itself_is_an_error():
    manager = create_plugin_manager((), plugins=[Nested("outer")])
    for _ in range(2):
        with pytest.raises(ConfigError, match="needs itself"):
            manager.resources.create_scorer("outer", {})


def test_a_scorer_that_cannot_be_built_is_a_plugin_error_and_is_tried_again():
    class Failing:
        @hookimpl
        def register_scorers(self, register):
            register("failing", lambda config, resources: 1 / 0, ScorerOptions)

    manager = create_plugin_manager((), plugins=[Failing()])
    for _ in range(2):
        with pytest.raises(PluginError, match="scorer 'failing' of Failing .*ZeroDivisionError"):
            manager.resources.create_scorer("failing", {})


def test_a_stages_unknown_scorer_is_an_error_when_the_stage_is_built():
    manager = create_plugin_manager()
    for stage in ("select", "reorder"):
        manager.build_stage(stage, {"scorer": "bm25"})
        manager.build_stage(stage, {"scorer": {"use": "bm25", "k1": 2.0}})
        with pytest.raises(ConfigError, match="no scorer is called 'bm52'; did you mean 'bm25'"):
            manager.build_stage(stage, {"scorer": "bm52"})
        with pytest.raises(ConfigError, match="scorer 'bm25' has no option 'k'"):
            manager.build_stage(stage, {"scorer": {"use": "bm25", "k": 2.0}})
        with pytest.raises(ConfigError, match="option 'scorer.use'"):
            manager.build_stage(stage, {"scorer": {"k1": 2.0}})


def test_a_stage_that_asks_no_scorer_needs_none():
    manager = create_plugin_manager()
    manager.build_stage("reorder", {"scores": "given", "scorer": "nowhere"})


def test_a_scorers_options_are_part_of_a_stages_fingerprint():
    build = create_plugin_manager().build_stage
    one = build("select", {"scorer": "bm25"})
    other = build("select", {"scorer": {"use": "bm25", "k1": 2.0}})
    assert one.fingerprint != other.fingerprint
    assert one.fingerprint == build("select", {"scorer": {"use": "bm25"}}).fingerprint


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


class CodecPlugin:
    """A codec of its own name, made of what comes with ctxpress."""

    @hookimpl
    def register_codecs(self, register):
        register("mine-1", "ctxpress.cache.codecs.raw:create")


def test_a_plugin_registers_a_codec_that_is_created_and_found_by_name():
    manager = create_plugin_manager(plugins=[CodecPlugin()])
    codecs = manager.codec_factories()
    tensor = torch.ones(1, 1, 2, 3)
    data = create_codec("mine-1", codecs=codecs).encode(KVBlock(keys=tensor, values=tensor))
    assert torch.equal(decode_container(data, codecs=codecs).keys, tensor)
    assert manager.codecs["mine-1"].distribution == "CodecPlugin"
    with pytest.raises(UnsupportedVersionError, match="no codec is called 'mine-1' here"):
        decode_container(data)
    with pytest.raises(ConfigError, match="did you mean 'mine-1'"):
        create_codec("mine1", codecs=codecs)


def test_the_codecs_that_come_with_ctxpress_are_registered():
    manager = create_plugin_manager()
    assert manager.codec_factories() == dict(sorted(BUILTIN_CODECS.items()))
    assert {codec.distribution for codec in manager.codecs.values()} == {"ctxpress"}
    assert create_plugin_manager(()).codecs == {}


def test_a_codecs_name_that_is_taken_names_both():
    class Rival(CodecPlugin):
        pass

    with pytest.raises(PluginError, match="codec 'mine-1' is registered by both"):
        create_plugin_manager((), plugins=[CodecPlugin(), Rival()])

    class Usurper:
        @hookimpl
        def register_codecs(self, register):
            register("raw", "usurper:create")

    with pytest.raises(PluginError, match="codec 'raw' is registered by both"):
        create_plugin_manager(plugins=[Usurper()])


@pytest.mark.parametrize("name", ["", "Raw", "a/b", "../raw", "x" * 65, "a b", "raw\n"])
def test_a_codecs_name_must_fit_into_a_header(name):
    class Odd:
        @hookimpl
        def register_codecs(self, register):
            register(name, "ctxpress.cache.codecs.raw:create")

    with pytest.raises(PluginError, match="Odd registers the codec .*; names are 1 to 64 of"):
        create_plugin_manager((), plugins=[Odd()])


class Closet:
    """A store that a plugin brings: a memory store under another name."""

    @hookimpl
    def register_stores(self, register):
        def create(url, limits):
            return MemoryStore(max_bytes=url.option("shelves", int, 1) * 2**20, limits=limits)

        register("closet", StoreKind(create=create, options=("shelves",), about="a cupboard"))


async def test_a_plugins_store_is_used_by_its_scheme():
    kinds = create_plugin_manager(plugins=[Closet()]).store_kinds()
    assert isinstance(create_store("closet://?shelves=2", kinds=kinds), MemoryStore)
    store = create_store("closet://?timeout_ms=50&max_value_bytes=9", kinds=kinds)
    assert store.max_value_bytes == 9
    await store.put("k", b"1", ttl_s=60)
    assert await store.get("k") == b"1"
    kv = create_kv_store("closet://", namespace=Namespace.derive(b"secret", "t"), kinds=kinds)
    assert kv.report.found == 0
    with pytest.raises(ConfigError, match="no option 'shelf'; did you mean 'shelves'"):
        create_store("closet://?shelf=2", kinds=kinds)
    with pytest.raises(ConfigError, match="did you mean 'closet'"):
        create_store("closett://", kinds=kinds)
    with pytest.raises(ConfigError, match="unknown kind of store"):
        create_store("closet://")


async def test_the_store_in_the_documentation_works():
    page = (Path(__file__).parents[2] / "docs/configuration.md").read_text("utf-8")
    code = page.split("### A store of your own\n")[1].split("```python\n")[1].split("```")[0]
    module = types.ModuleType("closet_plugin")
    exec(compile(code, "docs/configuration.md", "exec"), module.__dict__)
    kinds = create_plugin_manager(plugins=[module]).store_kinds()
    store = create_store("closet://?max_mb=1&max_value_bytes=4mb", kinds=kinds)
    await store.put("k", b"x" * 2**19, ttl_s=60)
    with pytest.raises(StoreError, match="larger than the whole store"):
        await store.put("k", b"x" * 2**20, ttl_s=60)


def test_a_configuration_may_name_a_plugins_store():
    config = Config(version=1, store="closet://")
    with pytest.raises(ConfigError, match="unknown kind of store"):
        create_compressor(config)
    manager = create_plugin_manager(plugins=[Closet()])
    assert create_compressor(config, manager=manager) is not None


def test_the_stores_that_come_with_ctxpress_are_registered():
    stores = create_plugin_manager().stores
    assert sorted(stores) == sorted(BUILTIN_STORES)
    assert {store.distribution for store in stores.values()} == {"ctxpress"}
    assert create_plugin_manager(()).stores == {}


def test_a_scheme_that_is_taken_names_both():
    class Other(Closet):
        pass

    with pytest.raises(PluginError, match="store 'closet' is registered by both Closet and Other"):
        create_plugin_manager(plugins=[Closet(), Other()])


@pytest.mark.parametrize("scheme", ["", "Closet", "a b", "a://", "a+", "1a", "a\n"])
def test_a_scheme_must_be_one(scheme):
    class Wrong:
        @hookimpl
        def register_stores(self, register):
            register(scheme, StoreKind(create=lambda url, limits: None))

    with pytest.raises(PluginError, match="a scheme is words"):
        create_plugin_manager(plugins=[Wrong()])


def test_a_store_without_ranges_holds_no_kv():
    class Plain:
        @hookimpl
        def register_stores(self, register):
            register("plain", StoreKind(create=lambda url, limits: object()))

    kinds = create_plugin_manager(plugins=[Plain()]).store_kinds()
    with pytest.raises(ConfigError, match="must read ranges"):
        create_kv_store("plain://", namespace=Namespace.derive(b"secret", "t"), kinds=kinds)
