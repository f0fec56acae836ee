"""The TFX components: EdgeConverter, EdgeReplay, KernelProfiler, LayerValidator."""

import importlib
from typing import Any

_COMPONENTS = {
    "EdgeConverter": "edge_converter",
    "EdgeReplay": "edge_replay",
    "KernelProfiler": "kernel_profiler",
    "LayerValidator": "layer_validator",
}

__all__ = list(_COMPONENTS)


def __getattr__(name: str) -> Any:
    # TFX takes 20 s to import: each component's module is imported when it is asked for.
    if name not in _COMPONENTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_COMPONENTS[name]}.component"), name)
