"""Whether compiled passes can be had."""

import functools
import logging
from types import ModuleType


@functools.cache
def fusion() -> ModuleType | None:
    """Returns `edge_exray.drift.fused`, or None where numba is not installed.

    It is imported on demand, because numba takes a second to.
    """
    try:
        from edge_exray.drift import fused
    except ImportError as e:
        logging.getLogger(__name__).info(
            "drift statistics run on NumPy alone, which takes several times as long: %s", e
        )
        return None
    return fused
