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
_SECOND = (*_TASKS, ("repeat", 0.04), ("text", 0.10))
_THIRD = (
    ("retrieval", 0.38),
    ("two_hop", 0.14),
    ("labelling", 0.12),
    ("copying", 0.08),
    ("counting", 0.06),
    ("repeat", 0.02),
    ("text", 0.20),
)
_LAST = (
    ("retrieval", 0.52),
    ("two_hop", 0.06),
    ("labelling", 0.11),
    ("copying", 0.08),
    ("counting", 0.05),
    ("repeat", 0.02),
    ("text", 0.16),
)

CURRICULUM = (
    Phase(0.05625, ((128, 1.0),), (2, 4), _FIRST),
    Phase(0.16875, ((128, 0.4), (256, 0.6)), (2, 6), _SECOND),
    Phase(0.36, ((256, 0.75), (512, 0.25)), (2, 16), _SECOND),
    Phase(0.56, ((256, 0.45), (512, 0.45), (1024, 0.1)), (3, 32), _THIRD),
    Phase(0.78, ((256, 0.35), (512, 0.55), (1024, 0.1)), (4, 32), _LAST),
    Phase(1.0, ((256, 0.25), (512, 0.55), (1024, 0.16), (2048, 0.04)), (4, 64), _LAST),
)
