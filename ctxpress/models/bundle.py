"""The files of the bundled classifier: verified by hash, loaded on demand, nothing at import."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctxpress.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from tokenizers import Tokenizer

    from ctxpress.models.scorer import OnnxTokenScorer

BUNDLE_FOLDER = Path(__file__).parent / "bundled"
_MAX_FILE_BYTES = 64 * 2**20
_DEFAULT_THREADS_LIMIT = 4


@dataclass(frozen=True, slots=True)
class Manifest:
    """What `manifest.json` says: identity, window, languages and the SHA-256 of each file.

    `relevance` are the weights by which what the model says of sentences becomes a chance.
    `words_offset`: the byte of `model.onnx` at which the rows of the word embedding begin, int8,
    without their scales. They are looked up there, since ONNX Runtime computes all of the graph or
    nothing.
    """

    name: str
    version: str
    window_tokens: int
    margin_tokens: int
    languages: frozenset[str]
    sha256: dict[str, str]
    relevance: dict[str, float]
    words_offset: int

    @property
    def identity(self) -> str:
        """Changes whenever scores could: name, version, hashes of weights and tokenizer, window."""
        hashes = "-".join(self.sha256[name][:12] for name in ("model.onnx", "tokenizer.json"))
        return f"{self.name}/{self.version}/{hashes}/{self.window_tokens}-{self.margin_tokens}"


def read_manifest(folder: Path = BUNDLE_FOLDER) -> Manifest:
    """Parse `manifest.json`; raises ModelError where it is missing or not of the expected shape."""
    try:
        fields: dict[str, Any] = json.loads((folder / "manifest.json").read_text("utf-8"))
        manifest = Manifest(
            name=str(fields["name"]),
            version=str(fields["version"]),
            window_tokens=int(fields["window_tokens"]),
            margin_tokens=int(fields["margin_tokens"]),
            languages=frozenset(str(code) for code in fields["languages"]),
            relevance={str(name): float(value) for name, value in fields["relevance"].items()},
            words_offset=int(fields["words_offset"]),
            sha256={str(name): str(digest) for name, digest in fields["sha256"].items()},
        )
        _ = manifest.identity
        if not all(map(math.isfinite, manifest.relevance.values())):
            raise ValueError("relevance: a weight is not a finite number")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{folder / 'manifest.json'}: missing or damaged ({error!r})") from error
    return manifest


def load_bundled_tokenizer(folder: Path = BUNDLE_FOLDER) -> Tokenizer:
    """The WordPiece tokenizer of the bundled model, set to read any text literally.

    Cheap: the ONNX model is not touched. Each call gives a new object. Names of special tokens in
    a text (`[SEP]`) are read as text.

    :raises ModelError: when the file is missing or damaged.
    """
    from tokenizers import Tokenizer

    content = _verified(folder, "tokenizer.json", read_manifest(folder))
    tokenizer = Tokenizer.from_buffer(content)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


def load_bundled_scorer(*, threads: int = 0, folder: Path = BUNDLE_FOLDER) -> OnnxTokenScorer:
    """Load the bundled classifier; takes a few hundred milliseconds and about 60 MB.

    `threads` windows are scored at a time; 0 means one a usable core, at most four. The number
    changes speed only, never a score.

    :raises ModelError: when a file is missing, damaged, or ONNX Runtime refuses it.
    :raises ValueError: when `threads` is negative.
    """
    import onnxruntime

    from ctxpress.models.scorer import OnnxTokenScorer, usable_cores

    if threads < 0:
        raise ValueError(f"threads must be 0 or more, not {threads}")
    manifest = read_manifest(folder)
    tokenizer = load_bundled_tokenizer(folder)
    model = _verified(folder, "model.onnx", manifest)
    try:
        session = onnxruntime.InferenceSession(
            model, _session_options(onnxruntime), providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime has no common base of its own errors
        raise ModelError(f"{folder / 'model.onnx'}: ONNX Runtime refuses it: {error}") from error
    return OnnxTokenScorer(
        run_session=session.run,
        tokenizer=tokenizer,
        identity=manifest.identity,
        languages=manifest.languages,
        window_tokens=manifest.window_tokens,
        margin_tokens=manifest.margin_tokens,
        n_threads=threads or usable_cores(_DEFAULT_THREADS_LIMIT),
        word_levels=_word_levels(folder, manifest.words_offset, tokenizer.get_vocab_size()),
    )


def _word_levels(folder: Path, offset: int, n_words: int) -> npt.NDArray[np.int8]:
    """The rows of the word embedding, (n_words, `VECTOR_SIZE`), mapped: few are ever looked up."""
    import numpy as np

    from ctxpress.models.scorer import VECTOR_SIZE

    path, shape = folder / "model.onnx", (n_words, VECTOR_SIZE)
    try:
        return np.memmap(path, np.int8, "r", offset=offset, shape=shape)
    except (OSError, ValueError, OverflowError) as error:
        raise ModelError(f"{path}: no word embedding at byte {offset}: {error}") from error


def _session_options(onnxruntime: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # windows run side by side instead
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # The exported graph is fused already; the fusions of higher levels made it slower.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.enable_cpu_mem_arena = False  # the arena never gives memory back
    options.log_severity_level = 3
    # Without VNNI, int8 products would saturate in 16 bits and give other scores: keep them exact.
    options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def _verified(folder: Path, name: str, manifest: Manifest) -> bytes:
    path = folder / name
    try:
        size_bytes = path.stat().st_size
        if size_bytes > _MAX_FILE_BYTES:
            raise ModelError(f"{path}: {size_bytes} bytes are more than a bundled file may have")
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error})") from error
    if hashlib.sha256(content).hexdigest() != manifest.sha256.get(name):
        raise ModelError(f"{path}: damaged, its SHA-256 is not the manifest's; reinstall ctxpress")
    return content
