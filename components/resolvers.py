"""Finds artifacts of earlier runs."""

import ml_metadata as mlmd
from tfx import types
from tfx.components.evaluator import constants
from tfx.dsl.components.common import resolver

DEVICES_KEY = "devices"
"""Custom property of a profile: the other machines that the edge model was measured on, sorted, with commas."""


class LatestBlessedStrategy(resolver.ResolverStrategy):
    """Resolves the report or profile of the model that was blessed last; nothing before the first blessing.

    Of a model that was blessed several times it is the first one that was measured on the same devices as the last one.

    TFX's own strategies do not find it: one takes the latest artifact, blessed or not, the other knows pairs of Model
    and ModelBlessing only. LayerValidator and KernelProfiler note on their reports whether they blessed the model.

    ```python
    baseline = Resolver(
        strategy_class=LatestBlessedStrategy,
        report=Channel(type=edge_exray.LayerReport),
        profile=Channel(type=edge_exray.KernelProfile),
    ).with_id("baseline")
    validator = LayerValidator(replay=..., baseline_report=baseline.outputs["report"])
    profiler = KernelProfiler(edge_model=..., baseline_profile=baseline.outputs["profile"], profile_spec=...)
    ```
    """

    def resolve_artifacts(
        self, store: mlmd.MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        """Keeps the latest blessed artifact of each channel.

        Args:
            store: The metadata; what is needed of it stands on the artifacts.
            input_dict: Name of the channel to its artifacts.
        """
        return {name: self._latest(artifacts) for name, artifacts in input_dict.items()}

    def _latest(self, found: list[types.Artifact]) -> list[types.Artifact]:
        blessed = [artifact for artifact in found if _number(artifact, constants.ARTIFACT_PROPERTY_BLESSED_KEY) == 1]
        if not blessed:
            return []
        latest = max(blessed, key=lambda artifact: artifact.id)
        # The first one of that model: a run with the same inputs would otherwise be given its own result of last time,
        # and never come from the cache. But one that lacks a device would let a regression there pass.
        model = _number(latest, constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY)
        devices = latest.get_string_custom_property(DEVICES_KEY)
        same = [
            artifact
            for artifact in blessed
            if model
            and _number(artifact, constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY) == model
            and artifact.get_string_custom_property(DEVICES_KEY) == devices
        ]
        return [min(same or [latest], key=lambda artifact: artifact.id)]


def _number(artifact: types.Artifact, key: str) -> int:
    return artifact.get_int_custom_property(key)
