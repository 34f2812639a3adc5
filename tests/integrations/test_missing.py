"""Without its framework, an adapter says what to install; the others do not care."""

from __future__ import annotations

import importlib
import sys

import pytest

from ctxpress.errors import MissingDependencyError

NEEDS = {
    "langchain": ("langchain_core.documents", "langchain"),
    "llama_index": ("llama_index.core.schema", "llama-index"),
    "haystack": ("haystack", "haystack"),
}


@pytest.mark.parametrize("name", NEEDS)
def test_the_install_command_is_in_the_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, extra = NEEDS[name]
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, f"ctxpress.integrations.{name}", raising=False)
    with pytest.raises(MissingDependencyError, match=rf"pip install 'ctxpress\[{extra}\]'"):
        importlib.import_module(f"ctxpress.integrations.{name}")


def test_the_package_needs_no_framework(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, _ in NEEDS.values():
        monkeypatch.setitem(sys.modules, module, None)
    for name in ("", ".options", ".retrieved"):
        monkeypatch.delitem(sys.modules, f"ctxpress.integrations{name}", raising=False)
        importlib.import_module(f"ctxpress.integrations{name}")
