"""A worker small enough for tests: a random Llama and a tokenizer of characters."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ctxpress.engine.contexts import KVSource
from ctxpress.engine.loading import RotaryModel, wrap_model
from ctxpress.engine.server import WorkerApp
from ctxpress.engine.worker import Worker, WorkerOptions
from tests.engine.models import random_model

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
# Bytes 3 and up are characters; an answer can hold any of them, halves of characters included.
VOCABULARY = 259


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Every byte is a token; the first three ids are special."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<pad>", "<s>", "</s>"]
    vocabulary = {token: index for index, token in enumerate([*special, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    fast.chat_template = TEMPLATE
    return fast


def byte_model(**changes: Any) -> RotaryModel:
    """A random model over bytes, with room for 2,048 positions."""
    model = random_model(
        vocab_size=VOCABULARY,
        **{"max_position_embeddings": 2048, "initializer_range": 0.4, **changes},
    )
    return wrap_model(model, byte_tokenizer(), name="small")


@contextmanager
def serving(
    options: WorkerOptions | None = None,
    *,
    model: RotaryModel | None = None,
    source: KVSource | None = None,
    max_body_bytes: int = 2**20,
) -> Iterator[tuple[str, Worker]]:
    """A worker behind a socket: its URL and itself."""
    worker = Worker(model or byte_model(), options or WorkerOptions(), source=source)
    app = WorkerApp(worker, max_body_bytes=max_body_bytes)
    config = uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise RuntimeError("the server did not start")
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}", worker
    finally:
        server.should_exit = True
        thread.join()
        worker.close()
