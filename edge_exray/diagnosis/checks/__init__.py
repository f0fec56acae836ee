"""The built-in checks, by the stage that they look at, and the order in which all checks run."""

from collections.abc import Callable, Sequence

from edge_exray import errors
from edge_exray.diagnosis.check import STAGES, Check, check
from edge_exray.diagnosis.checks import (
    activity,
    answers,
    calibration,
    contract,
    data,
    device,
    layers,
    models,
    regression,
)
from edge_exray.diagnosis.checks.finding import Finding
from edge_exray.diagnosis.evidence import Evidence
from edge_exray.specs import did_you_mean

TFMA_THRESHOLDS, UPSTREAM_BLESSING = "tfma_thresholds", "upstream_blessing"
"""Names of the results that LayerValidator adds to those of the checks."""

_BY_STAGE: dict[str, tuple[Callable[[Evidence], Finding | None], ...]] = {
    "inputs": (data.frames, device.device_logs, data.preprocessing, contract.input_contract, data.non_finite),
    "constants": (models.instrumentation, models.alignment_coverage, models.constants_parity),
    "conversion": (layers.conversion_drift,),
    "quantization": (
        calibration.calibration_range,
        activity.dead_layers,
        activity.saturated_layers,
        layers.own_error,
        layers.quantization_drift,
    ),
    "kernels": (layers.kernel_drift,),
    "outputs": (
        answers.output_drift,
        answers.label_flip_rate,
        answers.accuracy_drop,
        answers.slices,
        answers.instability,
        regression.regression,
    ),
}

CHECKS: tuple[Check, ...] = tuple(
    check(after=stage)(function) for stage, functions in _BY_STAGE.items() for function in functions
)
"""The built-in checks in causal order."""


def arrange(users: Sequence[Check] = ()) -> list[tuple[str, Check]]:
    """Puts the users' checks at their places among the built-in ones.

    Args:
        users: Checks of a user's module; one may follow another.

    Returns:
        Each check with its stage, in the order in which they run.

    Raises:
        ModuleError: Two checks have one name, or one is to run after something that does not exist.
    """
    order = [(made.after, made) for made in CHECKS]
    taken = {made.name for made in CHECKS} | {TFMA_THRESHOLDS, UPSTREAM_BLESSING, *STAGES}
    last: dict[str, str] = {}
    waiting = list(users)
    for made in users:
        if made.name in taken:
            raise errors.ModuleError(f"there is already a check {made.name}; rename the one of {made.place}")
        taken.add(made.name)
    while waiting:
        names = {made.name for _, made in order}
        placed = [made for made in waiting if made.after in names or made.after in STAGES]
        if not placed:
            lost = waiting[0]
            known = [*STAGES, *names]
            raise errors.ModuleError(
                f"check {lost.name} of {lost.place} runs after {lost.after}, which is neither a stage nor a check"
                f"{did_you_mean(lost.after, known)} The stages are {', '.join(STAGES)}"
            )
        made = placed[0]
        waiting.remove(made)
        # Those that follow the same thing keep the order in which they were written.
        behind = last.get(made.after, made.after)
        at = max(i for i, (stage, other) in enumerate(order) if behind in (stage, other.name))
        stage = order[at][0]
        order.insert(at + 1, (stage, made))
        last[made.after] = made.name
    return order
