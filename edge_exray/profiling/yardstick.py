"""A fixed op that is timed beside every model, so that two measurements of a machine can be compared.

A processor has one clock today and another one tomorrow. How many times as long as the same op a model takes changes
far less: what slows the machine down slows both. The op is small, so that it disturbs what a model keeps in the caches
as little as may be, and runs on the production kernels whatever the models run on.
"""

from edge_exray.models.tflite import EdgeModel
from edge_exray.profiling import roofline
from edge_exray.profiling.feeds import random_feed
from edge_exray.profiling.timing import InferenceTimer

_PIXELS, _CHANNELS = 14, 64


def open_yardstick(num_threads: int) -> InferenceTimer:
    """Returns the timer of a convolution of 1.6 million operations on 100 kB of activations.

    Args:
        num_threads: Threads of the interpreter.
    """
    model = EdgeModel(roofline.convolution("float32", _PIXELS, _CHANNELS), num_threads=num_threads)
    return InferenceTimer(model, [random_feed(model.inputs)])
