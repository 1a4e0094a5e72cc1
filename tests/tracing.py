"""Measuring, in a test, what stays in memory."""

from __future__ import annotations

import tracemalloc

import numpy as np


def bytes_of_arrays() -> int:
    """What NumPy's arrays hold that were made since `tracemalloc` was started."""
    arrays = tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)
    traces = tracemalloc.take_snapshot().filter_traces([arrays]).statistics("filename")
    return sum(trace.size for trace in traces)
