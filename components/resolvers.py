"""Finds artifacts of earlier runs."""

import ml_metadata as mlmd
from tfx import types
from tfx.components.evaluator import constants
from tfx.dsl.components.common import resolver


class LatestBlessedStrategy(resolver.ResolverStrategy):
    """Resolves the report or profile of the model that was blessed last; nothing before the first blessing.

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
        key = constants.ARTIFACT_PROPERTY_BLESSED_KEY
        blessed = [artifact for artifact in found if artifact.get_int_custom_property(key) == 1]
        return sorted(blessed, key=lambda artifact: artifact.id)[-1:]
