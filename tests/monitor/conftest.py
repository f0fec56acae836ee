from collections.abc import Callable

import numpy as np
import pytest

from edge_exray.monitor import EdgeMonitor


@pytest.fixture
def write_log(tmp_path) -> Callable[..., list[np.ndarray]]:
    """Writes frames of a function that doubles, to `run.exray`; returns their raw inputs."""

    def write(count: int = 5, *, name: str = "run.exray", size: int = 30, seed: int = 0, **options) -> list[np.ndarray]:
        generator = np.random.default_rng(seed)
        images = [generator.integers(0, 256, size, dtype=np.uint8) for _ in range(count)]
        with EdgeMonitor(
            tmp_path / name, **{"level": "inputs", "strict": True, "policy": "block", **options}
        ) as monitor:
            for image in images:
                with monitor.frame(raw=image) as frame:
                    x = frame.stage("preprocess", np.float32, image)
                    frame.run(lambda feed: {"twice": 2 * feed["x"]}, {"x": x})
        return images

    return write
