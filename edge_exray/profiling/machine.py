"""The machine that is measured on: what it is, and how quiet it is meanwhile."""

import dataclasses
import os
import pathlib
import platform
from typing import Any

import psutil

_CPUINFO = pathlib.Path("/proc/cpuinfo")
_GOVERNOR = pathlib.Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
# Names of a processor in /proc/cpuinfo: on x86, and on the boards of ARM that have one.
_MODEL_KEYS = ("model name", "Model", "Hardware")
# What must be equal for the latency of two machines to be comparable.
_IDENTITY = ("cpu", "architecture", "logical_cores", "affinity")

BUSY_SHARE = 0.1
"""Share of a processor from which on it counts as taken away."""


@dataclasses.dataclass(frozen=True)
class Noise:
    """How quiet the machine was while a model was timed.

    Attributes:
        spread: Robust standard deviation of the runs relative to their median.
        drift: The same of the medians of the blocks of runs.
        stolen_share: Share of the time during which the thread had no processor; None with several threads, which
            also wait for each other.
        others_share: Share of all processors that other processes, and other guests of the host, took.
        settled: Whether the warm-up came to rest.
        noisy: Whether the asked precision was not reached, or the processor was taken away.
    """

    spread: float
    drift: float
    stolen_share: float | None
    others_share: float | None
    settled: bool
    noisy: bool


class LoadMeter:
    """Measures what other processes take of the machine from its making on."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._start = self._now()

    def others_share(self) -> float | None:
        """Returns the share of all processors, in [0, 1]; None when the system's clock has not ticked since."""
        busy, idle, own = (now - then for now, then in zip(self._now(), self._start, strict=True))
        return min(max((busy - own) / (busy + idle), 0.0), 1.0) if busy + idle > 0 else None

    def _now(self) -> tuple[float, float, float]:
        system, own = psutil.cpu_times(), self._process.cpu_times()
        idle = system.idle + getattr(system, "iowait", 0.0)
        # Time of guests is part of that of users already.
        busy = sum(getattr(system, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal"))
        return busy, idle, own.user + own.system


def describe() -> dict[str, Any]:
    """Returns what the latency depends on: `cpu` (name), `architecture`, `physical_cores`, `logical_cores`,
    `affinity` (processors that this process may use), `frequency_mhz` and `max_frequency_mhz`, `governor`,
    `load_average` (of one minute) and `memory_bytes`; None for what the system does not tell.
    """
    process = psutil.Process()
    # Not on every system, and in a virtual machine often without a value.
    frequency = psutil.cpu_freq() if hasattr(psutil, "cpu_freq") else None
    return {
        "cpu": _cpu_name(),
        "architecture": platform.machine(),
        "physical_cores": psutil.cpu_count(logical=False),
        "logical_cores": psutil.cpu_count(),
        "affinity": len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else None,
        "frequency_mhz": frequency.current if frequency else None,
        "max_frequency_mhz": frequency.max or None if frequency else None,
        "governor": _GOVERNOR.read_text().strip() if _GOVERNOR.exists() else None,
        "load_average": psutil.getloadavg()[0],
        "memory_bytes": psutil.virtual_memory().total,
    }


def identity() -> dict[str, Any]:
    """Returns the part of `describe` without which latencies cannot be compared."""
    return {key: value for key, value in describe().items() if key in _IDENTITY}


def differences(one: dict[str, Any] | None, other: dict[str, Any] | None) -> list[str]:
    """Returns in words what makes the latencies of two machines incomparable; nothing when they are alike.

    Args:
        one, other: What `describe` returned; None when it is not known.
    """
    if not one or not other:
        return ["the machine is not known"]
    return [
        f"{key.replace('_', ' ')} {one.get(key)} against {other.get(key)}"
        for key in _IDENTITY
        if one.get(key) != other.get(key)
    ]


def _cpu_name() -> str | None:
    if _CPUINFO.exists():
        entries: dict[str, str] = {}
        for line in _CPUINFO.read_text().splitlines():
            key, _, value = line.partition(":")
            entries[key.strip()] = value.strip()
        for key in _MODEL_KEYS:
            if entries.get(key):
                return entries[key]
    return platform.processor() or os.environ.get("PROCESSOR_IDENTIFIER")
