"""What the operating system tells of the device and the process; None or absent where it does not."""

import contextlib
import glob
import pathlib
import platform
import resource
import sys
import time
from collections.abc import Callable

_MEMORY_SECONDS = 1.0
# Some drivers are slow to answer.
_SYSFS_SECONDS = 5.0
_MILLI = 1000.0


def describe() -> dict[str, str]:
    """Returns the features of a header that are known without being told."""
    return {"device/name": platform.node() or platform.machine(), "device/os": platform.platform()}


class Sensors:
    """Memory, battery and temperature, each read again after some seconds only: that takes longer than some frames."""

    def __init__(self) -> None:
        self._sources = [_Source(_memory, _MEMORY_SECONDS), _Source(_sysfs, _SYSFS_SECONDS)]

    def read(self) -> dict[str, float]:
        """Returns the features `exray/rss_bytes`, `exray/peak_rss_bytes`, `exray/battery_percent` and
        `exray/temperature_c`, each where it is known."""
        now = time.monotonic()
        return {key: value for source in self._sources for key, value in source.at(now).items()}


class _Source:
    def __init__(self, read: Callable[[], dict[str, float]], seconds: float) -> None:
        self._read, self._seconds = read, seconds
        self._until = float("-inf")
        self._values: dict[str, float] = {}

    def at(self, now: float) -> dict[str, float]:
        if now >= self._until:
            self._until = now + self._seconds
            self._values = self._read()
        return self._values


def _memory() -> dict[str, float]:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found: dict[str, float] = {"exray/peak_rss_bytes": peak if sys.platform == "darwin" else peak * 1024}
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = int(pathlib.Path("/proc/self/statm").read_bytes().split()[1])
        found["exray/rss_bytes"] = pages * resource.getpagesize()
    return found


def _sysfs() -> dict[str, float]:
    found = {
        "exray/battery_percent": _numbers("/sys/class/power_supply/*/capacity", 1.0),
        "exray/temperature_c": _numbers("/sys/class/thermal/thermal_zone*/temp", _MILLI),
    }
    # Of several batteries the emptiest, of several zones the hottest.
    choose = {"exray/battery_percent": min, "exray/temperature_c": max}
    return {key: choose[key](values) for key, values in found.items() if values}


def _numbers(pattern: str, divisor: float) -> list[float]:
    numbers = []
    for path in glob.glob(pattern):
        try:
            numbers.append(float(pathlib.Path(path).read_text()) / divisor)
        except (OSError, ValueError):  # a zone that is switched off
            continue
    return numbers
