"""The curriculum: from few documents in short rows to many in long ones."""

from __future__ import annotations

from training.reference_model.rows import Phase

_TASKS = (
    ("retrieval", 0.48),
    ("two_hop", 0.12),
    ("labelling", 0.08),
    ("copying", 0.08),
    ("counting", 0.05),
)
_FIRST = (*_TASKS, ("repeat", 0.60), ("text", 0.10))
_REST = (*_TASKS, ("repeat", 0.04), ("text", 0.10))

CURRICULUM = (
    Phase(0.05, ((128, 1.0),), (2, 4), _FIRST),
    Phase(0.15, ((128, 0.4), (256, 0.6)), (2, 6), _REST),
    Phase(0.35, ((256, 0.75), (512, 0.25)), (2, 16), _REST),
    Phase(0.65, ((256, 0.45), (512, 0.45), (1024, 0.1)), (3, 32), _REST),
    Phase(1.0, ((256, 0.25), (512, 0.5), (1024, 0.2), (2048, 0.05)), (4, 64), _REST),
)
