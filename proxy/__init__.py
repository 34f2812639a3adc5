"""ctxpress as a proxy: an ASGI app between LLM clients and their providers.

The folder is called ``proxy``; it is imported as ``ctxpress_proxy``.
"""

from __future__ import annotations

from .app import ProxyApp, create_app

__all__ = ["ProxyApp", "create_app"]
