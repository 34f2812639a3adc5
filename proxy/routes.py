"""What a path means to the proxy: its format, its metric label, its provider's way of saying no."""

from __future__ import annotations

from dataclasses import dataclass

from ctxpress.formats import format_of_path

from .errors import Shape

__all__ = ["OWN_PATHS", "Route", "RouteTable"]

OWN_PATHS = frozenset({"/livez", "/readyz", "/metrics", "/v1/compress"})

_LABELS = {
    "openai_chat": "chat_completions",
    "openai_completions": "completions",
    "openai_responses": "responses",
    "anthropic_messages": "messages",
}
_PLAIN_LABELS = frozenset(
    {"audio", "batches", "embeddings", "files", "images", "models", "moderations", "uploads"}
)
_MAX_CACHED = 1024  # paths come from clients


@dataclass(frozen=True, slots=True)
class Route:
    """``format`` is ``None`` where bodies pass untouched; ``label`` is one of a fixed few."""

    format: str | None
    label: str
    shape: Shape


class RouteTable:
    """Paths to routes, remembered for those seen before."""

    def __init__(self) -> None:
        self._routes: dict[str, Route] = {}

    def of(self, path: str) -> Route:
        """The route of a request path, without its query."""
        route = self._routes.get(path)
        if route is None:
            if len(self._routes) >= _MAX_CACHED:
                self._routes.clear()
            route = self._routes[path] = _classify(path)
        return route


def _classify(path: str) -> Route:
    name = format_of_path(path)
    if name is not None:
        return Route(name, _LABELS[name], "anthropic" if name.startswith("anthropic") else "openai")
    segments = path.strip("/").split("/")
    if segments[-1] == "count_tokens" or segments[-2:] == ["messages", "batches"]:
        return Route(None, segments[-1], "anthropic")
    for segment in segments[:4]:
        if segment in _PLAIN_LABELS:
            return Route(None, segment, "openai")
    return Route(None, "other", "openai")
