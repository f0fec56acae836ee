"""The TFX components EdgeConverter, EdgeLogExampleGen, EdgeReplay, KernelProfiler, LayerValidator and Pusher, and what
finds their baseline."""

import importlib
from typing import Any

_MODULES = {
    "EdgeConverter": "edge_converter.component",
    "EdgeLogExampleGen": "edge_log_example_gen.component",
    "EdgeReplay": "edge_replay.component",
    "KernelProfiler": "kernel_profiler.component",
    "fingerprint": "fingerprints",
    "LatestBlessedStrategy": "resolvers",
    "LayerValidator": "layer_validator.component",
    "Pusher": "pusher.component",
}

__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    # TFX takes 20 s to import: each module is imported when it is asked for.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
