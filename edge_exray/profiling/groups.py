"""Latency by type of op, by layer and by kernels.

ML-EXray (Qiu et al., MLSys 2022) tells by layer type which device is slow at what; by layer, people find their own
code; and by kernels one sees what share of the time the delegate covers.
"""

import collections
import dataclasses
import math
from collections.abc import Sequence

from edge_exray.profiling.model_profile import ModelProfile, OpTime

# For each grouping the attribute of an op.
_BY = {"op": "op", "layer": "layer", "kernel": "kernel"}
NO_LAYER = "(no layer)"


@dataclasses.dataclass(frozen=True)
class Group:
    """Ops of one kind in one model.

    Attributes:
        role: That of the model.
        by: `"op"`, `"layer"` or `"kernel"`.
        name: What they have in common: `"CONV_2D"`, `"block_1_expand"`, `"xnnpack"`; `"(no layer)"` for ops whose
            names tell no layer.
        ops: How many they are.
        ms: What they take together.
        share: That as share of the inference, in [0, 1].
    """

    role: str
    by: str
    name: str
    ops: int
    ms: float
    share: float


def group(profile: ModelProfile) -> list[Group]:
    """Groups the ops of a model in every way, the slowest group of each way first."""
    return [each for by in _BY for each in sorted(_groups(profile, by), key=lambda group: (-group.ms, group.name))]


def _groups(profile: ModelProfile, by: str) -> Sequence[Group]:
    members: dict[str, list[OpTime]] = collections.defaultdict(list)
    for op in profile.ops:
        members[getattr(op, _BY[by]) or NO_LAYER].append(op)
    return [
        Group(
            profile.role,
            by,
            name,
            len(ops),
            math.fsum(op.ms for op in ops),
            min(math.fsum(op.share for op in ops), 1.0),
        )
        for name, ops in members.items()
    ]
