"""A worker from its options to its end: load, calibrate, serve, drain."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from ctxpress.engine.bfloat16_attention import warm_attention
from ctxpress.engine.kv_memory import KVMemory
from ctxpress.engine.kv_source import KVSource
from ctxpress.engine.loading import RotaryModel
from ctxpress.engine.mixing_calibration import MixingCalibration
from ctxpress.engine.parallel import Mixing
from ctxpress.engine.reference import load_named
from ctxpress.engine.scheduler import SchedulerLimits
from ctxpress.engine.server import WorkerApp
from ctxpress.engine.worker import Worker, WorkerOptions
from ctxpress.errors import ConfigError, MissingDependencyError

__all__ = ["ServingOptions", "create_source", "create_worker", "serve"]

logger = logging.getLogger("ctxpress.engine")

DRAIN_S = 30
_KEEP_ALIVE_S = 75


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingOptions:
    """What ``ctxpress worker`` was told.

    ``documents``: auto, parallel or sequential. ``load``: auto weighs loading KV against computing
    it, always loads what is stored. ``edits``: off, or pie.

    :raises ConfigError: ``documents``, ``load`` or ``edits`` is none of these.
    """

    model: str
    store: str | None = None
    codec: str | None = None
    calibration: Path | None = None
    load: str = "auto"
    edits: str = "off"
    host: str = "127.0.0.1"
    port: int = 9000
    device: Any = "auto"
    dtype: Any = "auto"
    documents: str = "auto"
    mixing: Mixing | None = None
    tenant: str = "default"
    secret: str | None = None
    max_rows: int = 16
    max_waiting: int = 64
    memory_bytes: int = 2**30

    def __post_init__(self) -> None:
        if self.documents not in ("auto", "parallel", "sequential"):
            raise ConfigError(f"--documents: auto, parallel or sequential, not {self.documents!r}")
        if self.load not in ("auto", "always"):
            raise ConfigError(f"--load: auto or always, not {self.load!r}")
        if self.edits not in ("off", "pie"):
            raise ConfigError(f"--edits: off or pie, not {self.edits!r}")


def serve(options: ServingOptions) -> None:
    """Serve until SIGTERM or SIGINT; answers under way get 30 s to end.

    :raises CtxpressError: the model, the store or an option is not to be had.
    """
    uvicorn = _uvicorn()
    model = load_named(options.model, device=options.device, dtype=options.dtype)
    worker, tier = create_worker(model, options)
    app = WorkerApp(worker)
    config = uvicorn.Config(
        app,
        host=options.host,
        port=options.port,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_S,
    )

    class Server(uvicorn.Server):  # type: ignore[name-defined, misc]
        """Tells the app when it begins to stop, and says where it listens."""

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            app.draining = True
            super().handle_exit(sig, frame)

        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets=sockets)
            if self.started:
                port = self.servers[0].sockets[0].getsockname()[1]
                logger.warning(
                    "worker of %s listens on http://%s:%d", model.name, options.host, port
                )

    try:
        Server(config).run()
    finally:
        worker.close(drain_s=DRAIN_S)
        if tier is not None:
            tier.close()


def create_worker(model: RotaryModel, options: ServingOptions) -> tuple[Worker, Any]:
    """The worker, and its KV tier where it has a store (to be closed after it)."""
    warm_attention(model.head_dim, model.dtype, model.device)
    mixing, calibration = mixing_for(model, options)
    source, tier = create_source(model, options)
    worker = Worker(
        model,
        WorkerOptions(
            limits=SchedulerLimits(max_rows=options.max_rows, max_waiting=options.max_waiting),
            mixing=mixing,
            calibration=calibration,
            memory_bytes=options.memory_bytes,
            edits=options.edits == "pie",
        ),
        source=source,
    )
    return worker, tier


def create_source(model: RotaryModel, options: ServingOptions) -> tuple[KVSource, Any]:
    """Memory, or memory with a store behind it; the second value is to be closed, or None.

    Returns when what the codec compiles is compiled.

    :raises ConfigError: a store without a codec, or a codec without a store.
    :raises CodecError: the codec does not take the model's KV.
    """
    memory = KVMemory(options.memory_bytes)
    if options.store is None:
        if options.codec is not None or options.calibration is not None:
            raise ConfigError("--codec and --calibration say how KV is stored; give --store too")
        return memory, None
    if options.codec is None:
        raise ConfigError(
            "--store needs --codec: raw and int8 lose nothing or little, cachegen-3 is smaller; "
            "docs/kv.md has the sizes and what they cost"
        )
    from ctxpress.cache.calibration import Calibration
    from ctxpress.cache.chunks import create_kv_store
    from ctxpress.cache.codec import create_codec
    from ctxpress.cache.codecs.warming import warm_up
    from ctxpress.cache.key import Namespace, load_secret, state_dir
    from ctxpress.engine.kv_tier import KVTier
    from ctxpress.engine.load_policy import LoadPolicy

    calibration = None if options.calibration is None else Calibration.load(options.calibration)
    codec = create_codec(options.codec, calibration)
    if options.codec != "raw":
        logger.warning("KV is stored as %s, which is lossy", options.codec)
    warm_up(
        codec,
        n_layers=model.n_layers,
        n_kv_heads=model.n_kv_heads,
        head_dim=model.head_dim,
        dtype=model.dtype,
        logger=logger,
    )
    namespace = Namespace.derive(load_secret(options.secret, state_dir()), options.tenant)
    tier = KVTier(
        memory,
        create_kv_store(options.store, namespace=namespace),
        codec,
        policy=LoadPolicy() if options.load == "auto" else None,
    )
    return tier, tier


def mixing_for(
    model: RotaryModel, options: ServingOptions
) -> tuple[Mixing | None, MixingCalibration | None]:
    """T and S to serve with, and the measurement that decided, where one did.

    T and S are None where documents are encoded one behind the other.
    """
    if options.documents == "sequential":
        return None, None
    if options.documents == "parallel":
        return options.mixing or Mixing(), None
    from ctxpress.engine.mixing_cache import calibrated

    found = calibrated(model)
    logger.warning(
        "documents in parallel: KL %.4f nats a token at T %.2f, S %.2f (bound %.2f): %s",
        found.kl,
        found.mixing.temperature,
        found.mixing.scale,
        found.bound,
        "used" if found.accepted else "not used",
    )
    return found.chosen, found


def _uvicorn() -> Any:
    try:
        import uvicorn
    except ImportError as error:
        raise MissingDependencyError(
            "a worker needs uvicorn: pip install 'ctxpress[proxy,torch]'"
        ) from error
    return uvicorn
