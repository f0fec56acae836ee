"""edge-exray: stops a model whose edge version does not do what the cloud version does.

`edge_exray.validate(cloud, edge, examples)` is the whole job; `edge_exray.components` holds the TFX components.
Everything is imported on first use, so that `import edge_exray` stays cheap on a device.
"""

import importlib
from typing import Any

from edge_exray.version import __version__

# Name -> module that defines it. TFX on Kubeflow imports the artifact types by these names.
_LAZY = {
    "validate": "edge_exray.api",
    "profile": "edge_exray.api",
    "lint": "edge_exray.conversion.linter",
    "convert": "edge_exray.conversion.converter",
    "convert_many": "edge_exray.conversion.converter",
    "lineage": "edge_exray.provenance.lineage",
    "Lineage": "edge_exray.provenance.records",
    "read_contract": "edge_exray.models.metadata",
    "Report": "edge_exray.diagnosis.report",
    "CheckResult": "edge_exray.diagnosis.report",
    "Suspect": "edge_exray.diagnosis.report",
    "Verdict": "edge_exray.diagnosis.report",
    "check": "edge_exray.diagnosis.check",
    "Evidence": "edge_exray.diagnosis.evidence",
    "finding": "edge_exray.diagnosis.checks.finding",
    "place_of": "edge_exray.diagnosis.checks.finding",
    "suspected": "edge_exray.diagnosis.checks.finding",
    "ValidationSpec": "edge_exray.diagnosis.spec",
    "Profile": "edge_exray.profiling.profile",
    "ProfileSpec": "edge_exray.profiling.spec",
    "EdgeMonitor": "edge_exray.monitor.monitor",
    "EdgeLog": "edge_exray.monitor.log",
    "InputContract": "edge_exray.contract",
    "InputFormat": "edge_exray.contract",
    "ConversionReport": "edge_exray.components.types",
    "EdgeLogs": "edge_exray.components.types",
    "EdgeReplayResult": "edge_exray.components.types",
    "LayerReport": "edge_exray.components.types",
    "KernelProfile": "edge_exray.components.types",
}

__all__ = ["__version__", *_LAZY]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return __all__
