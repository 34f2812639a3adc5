"""What the connector does not take is refused at start, in words that say what to change."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ctxpress.errors import ConfigError
from ctxpress.integrations.vllm.deployment import served_model
from ctxpress.integrations.vllm.settings import read_settings
from ctxpress.integrations.vllm.versions import require_tested

GOOD = {"store": "memory://", "codec": "raw"}


def test_whole_numbers_do_for_times() -> None:
    assert read_settings({**GOOD, "ttl_s": 60}).ttl_s == 60.0


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"store": "memory://"}, "codec: must be named"),
        ({"codec": "raw"}, "store: must be named"),
        ({**GOOD, "codecs": "raw"}, "no option 'codecs'.*codec"),
        ({**GOOD, "chunk_tokens": 0}, "chunk_tokens"),
        ({**GOOD, "load": "sometimes"}, "load"),
        ({**GOOD, "threads": "two"}, "threads"),
    ],
)
def test_options_are_checked(extra: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_settings(extra)


@pytest.mark.parametrize("version", ["0.31.9", "0.33.0", "1.0.0", "0.33.0rc1+cu130"])
def test_other_releases_stop_with_the_range(version: str) -> None:
    with pytest.raises(ConfigError, match=r">=0\.32,<0\.33"):
        require_tested(version)


@pytest.mark.parametrize("version", ["0.32.0", "0.32.5+cpu"])
def test_tested_releases_go_on(version: str) -> None:
    require_tested(version)


def configs(**change: Any) -> tuple[Any, Any]:
    """What vLLM hands over, of a plain Llama; ``change`` sets one part."""
    from transformers import LlamaConfig

    parts: dict[str, Any] = {
        "policy": "recompute", "role": "kv_both", "pipeline": 1, "mla": False,
        "cache_dtype": "auto", "groups": 1, "window": None,
        "config": LlamaConfig(num_hidden_layers=1, hidden_size=64, head_dim=32),
    }  # fmt: skip
    parts.update(change)
    spec = SimpleNamespace(num_kv_heads=2, sliding_window=parts["window"])
    vllm_config = SimpleNamespace(
        kv_transfer_config=SimpleNamespace(
            kv_load_failure_policy=parts["policy"], kv_role=parts["role"]
        ),
        parallel_config=SimpleNamespace(
            pipeline_parallel_size=parts["pipeline"], tensor_parallel_size=1
        ),
        model_config=SimpleNamespace(
            use_mla=parts["mla"], hf_text_config=parts["config"], get_head_size=lambda: 32
        ),
        cache_config=SimpleNamespace(cache_dtype=parts["cache_dtype"], block_size=16),
    )
    group = SimpleNamespace(kv_cache_spec=spec)
    return vllm_config, SimpleNamespace(kv_cache_groups=[group] * parts["groups"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"policy": "fail"}, "kv_load_failure_policy"),
        ({"role": "kv_consumer"}, "kv_both"),
        ({"pipeline": 2}, "pipeline_parallel_size"),
        ({"mla": True}, "MLA"),
        ({"cache_dtype": "fp8"}, "kv-cache-dtype auto"),
        ({"groups": 2}, "one kind of attention"),
    ],
)
def test_other_set_ups_are_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        served_model(*configs(**change))


def test_angles_that_change_with_the_text_leave_prefixes_alone() -> None:
    from transformers import LlamaConfig

    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    config = LlamaConfig(num_hidden_layers=1, hidden_size=64, head_dim=32, rope_parameters=rope)
    served = served_model(*configs(config=config))
    assert served.rope is None
    assert "dynamic" in served.parallel_refused


def test_sliding_windows_have_no_documents_in_parallel() -> None:
    assert "sliding" in served_model(*configs(window=512)).parallel_refused


def test_layers_without_rotation_have_no_documents_in_parallel() -> None:
    from transformers import SmolLM3Config

    config = SmolLM3Config(
        num_hidden_layers=4, hidden_size=64, num_attention_heads=2, num_key_value_heads=1,
        pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    assert "do not rotate" in served_model(*configs(config=config)).parallel_refused
