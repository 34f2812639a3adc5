"""Threads beside the model's: each computes alone.

torch splits work among the threads of OpenMP, and every thread that calls it gets a team of its
own. The teams of decoders would take the cores from the model, and wait for each other in loops.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch
from threadpoolctl import threadpool_limits

__all__ = ["single_threaded_pool"]


def single_threaded_pool(n_threads: int, name: str) -> ThreadPoolExecutor:
    """A pool whose threads never share their work with others; ``name`` begins theirs."""
    return ThreadPoolExecutor(n_threads, thread_name_prefix=name, initializer=_alone)


def _alone() -> None:
    torch.get_num_threads()  # sets this thread's number once, and never again
    threadpool_limits(limits=1, user_api="openmp")  # of this thread only, as OpenMP has it
