"""The peak resident memory of this process alone."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

__all__ = ["peak_mib"]

_STATUS = Path("/proc/self/status")


def peak_mib() -> float:
    """The most memory that this process has had resident, in MiB.

    Linux counts into ``ru_maxrss`` the memory of the process that started this one, up to the
    ``exec``: a small child of a large parent looks large. ``VmHWM`` begins anew at the ``exec``.
    """
    if _STATUS.exists():
        for line in _STATUS.read_text("ascii", "replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
