"""What the operating system tells of the device and the process; None or absent where it does not."""

import glob
import pathlib
import platform
import resource
import sys
import time

_REFRESH_SECONDS = 5.0
_MILLI = 1000.0


def describe() -> dict[str, str]:
    """Returns the features of a header that are known without being told."""
    return {"device/name": platform.node() or platform.machine(), "device/os": platform.platform()}


def peak_memory() -> int:
    """Returns the largest resident memory of the process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def memory() -> int | None:
    """Returns the resident memory of the process in bytes."""
    try:
        pages = int(pathlib.Path("/proc/self/statm").read_bytes().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * resource.getpagesize()


class Sensors:
    """Battery and temperature from Linux' sysfs, read again after some seconds: some drivers are slow to answer."""

    def __init__(self) -> None:
        self._read_at = float("-inf")
        self._values: dict[str, float] = {}

    def read(self) -> dict[str, float]:
        """Returns the features `exray/battery_percent` and `exray/temperature_c`, each where it is known."""
        now = time.monotonic()
        if now - self._read_at > _REFRESH_SECONDS:
            self._read_at = now
            found = {
                "exray/battery_percent": _numbers("/sys/class/power_supply/*/capacity", 1.0),
                "exray/temperature_c": _numbers("/sys/class/thermal/thermal_zone*/temp", _MILLI),
            }
            # Of several batteries the emptiest, of several zones the hottest.
            choose = {"exray/battery_percent": min, "exray/temperature_c": max}
            self._values = {key: choose[key](values) for key, values in found.items() if values}
        return self._values


def _numbers(pattern: str, divisor: float) -> list[float]:
    numbers = []
    for path in glob.glob(pattern):
        try:
            numbers.append(float(pathlib.Path(path).read_text()) / divisor)
        except (OSError, ValueError):  # a zone that is switched off
            continue
    return numbers
