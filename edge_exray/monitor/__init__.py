"""Logging what a model does in the app on the device, and reading the logs; needs nothing but NumPy."""

from edge_exray.monitor.log import EdgeLog, LoggedFrame, LogReport, read_log
from edge_exray.monitor.monitor import EdgeMonitor, Frame
from edge_exray.monitor.sampling import Sampling
from edge_exray.monitor.tensors import LoggedTensor

__all__ = ["EdgeLog", "EdgeMonitor", "Frame", "LogReport", "LoggedFrame", "LoggedTensor", "Sampling", "read_log"]
