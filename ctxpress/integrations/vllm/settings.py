"""What an operator writes into ``kv_connector_extra_config``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ctxpress.cache.key import Namespace, load_secret, state_dir
from ctxpress.errors import ConfigError
from ctxpress.nearest import did_you_mean

__all__ = ["ConnectorSettings", "read_settings"]

_PLACE = "kv_connector_extra_config"


class ConnectorSettings(BaseModel):
    """The connector's options. All replicas that shall share KV need the same first six.

    ``store``: its URL. ``codec``: its name; lossy ones are the operator's choice. ``calibration``:
    a file of ``ctxpress kv calibrate``, for codecs that need one. ``tenant`` and ``secret_file``:
    whose KV it is; without a file the variable CTXPRESS_SECRET, else this machine's own secret.
    ``chunk_tokens``: prefixes are stored in runs of that many tokens, rounded up to whole blocks.
    ``load``: ``faster`` loads only where that is expected to be sooner than computing.
    ``document_wait_ms``: how long a prompt waits for documents that may yet be stored.
    ``threads``: sections that are decoded, and chunks that are encoded, at a time.
    ``max_pending_saves``: chunks that may wait to be stored; more are dropped, and counted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    store: str = Field(min_length=1)
    codec: str = Field(min_length=1)
    calibration: str | None = None
    tenant: str = Field(default="vllm", min_length=1)
    secret_file: str | None = None
    chunk_tokens: int = Field(default=256, ge=1)
    load: Literal["faster", "always"] = "faster"
    ttl_s: float = Field(default=86_400.0, gt=0)
    timeout_ms: float = Field(default=1000.0, gt=0)
    lookup_timeout_ms: float = Field(default=250.0, gt=0)
    document_wait_ms: float = Field(default=300.0, ge=0)
    load_timeout_ms: float = Field(default=30_000.0, gt=0)
    threads: int = Field(default=2, ge=1)
    max_pending_saves: int = Field(default=32, ge=1)

    def namespace(self) -> Namespace:
        """Keys and seals of the tenant.

        :raises ConfigError: the secret cannot be read, or is too short.
        """
        if self.secret_file is None:
            secret = load_secret(os.environ.get("CTXPRESS_SECRET"), state_dir())
        else:
            try:
                text = Path(self.secret_file).read_text("utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"{_PLACE}.secret_file: {error}") from error
            secret = load_secret(text, state_dir())
        return Namespace.derive(secret, self.tenant)


def read_settings(extra: Mapping[str, Any]) -> ConnectorSettings:
    """The settings in a ``kv_connector_extra_config``.

    :raises ConfigError: an option is missing, unknown or wrong; the message names it.
    """
    for name in extra:
        if name not in ConnectorSettings.model_fields:
            known = ConnectorSettings.model_fields
            raise ConfigError(f"{_PLACE} has no option {name!r}{did_you_mean(str(name), known)}")
    # JSON has one kind of number.
    floats = {name for name, f in ConnectorSettings.model_fields.items() if f.annotation is float}
    values = {
        name: float(value) if name in floats and type(value) is int else value
        for name, value in extra.items()
    }
    try:
        return ConnectorSettings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        if first["type"] == "missing":
            why = "must be named: for example " + (
                "redis://127.0.0.1:6379/0" if name == "store" else "cachegen-3 (lossy) or raw"
            )
        else:
            why = first["msg"]
        raise ConfigError(f"{_PLACE}.{name}: {why}") from None
