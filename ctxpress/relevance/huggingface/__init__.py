"""Relevance by a model of the user's choice from Hugging Face. Needs torch, late.

`kinds` loads checkpoints; `cross_encoder` reads question and text together, `embedding` compares
their vectors. `pieces` cuts what a window cannot hold, `framing` says what stands around it,
`batches` runs the model, `results` puts the scores of windows together.
"""

from __future__ import annotations

__all__: list[str] = []
