"""How many frames keep the input contract that the edge model carries."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from edge_exray.contract import InputContract
from edge_exray.models.metadata import contract_in
from edge_exray.models.tflite import EdgeModel


@dataclasses.dataclass
class ContractStatistics:
    """Frames in which one input breaks its contract, by the property that is broken.

    Attributes:
        frames: Number of frames.
        reference: Property to number of frames in which the reference input breaks it; the ones kept are not in it.
        edge: The same of the edge input.
    """

    frames: int = 0
    reference: dict[str, int] = dataclasses.field(default_factory=dict)
    edge: dict[str, int] = dataclasses.field(default_factory=dict)

    def update(self, reference: Iterable[str], edge: Iterable[str]) -> None:
        """Adds one frame with the properties that each side breaks."""
        self.merge(ContractStatistics(1, dict.fromkeys(reference, 1), dict.fromkeys(edge, 1)))

    def merge(self, other: "ContractStatistics") -> None:
        """Adds the frames that `other` has seen."""
        self.frames += other.frames
        for mine, theirs in ((self.reference, other.reference), (self.edge, other.edge)):
            for name, count in theirs.items():
                mine[name] = mine.get(name, 0) + count


def contract_of(edge: EdgeModel) -> InputContract | None:
    """Returns the contract that an edge model carries, with the names that its inputs have now."""
    contract = contract_in(edge.content, edge.path)
    if contract is None:
        return None
    names = {stored: name for name, stored in edge.stored_inputs.items()}
    inputs = {names.get(stored, stored): declared for stored, declared in contract.inputs.items()}
    return dataclasses.replace(contract, inputs=inputs)


def broken(contract: InputContract, inputs: Mapping[str, np.ndarray]) -> dict[str, Sequence[str]]:
    """Returns each declared input and the properties that it breaks."""
    found: dict[str, list[str]] = {name: [] for name in contract.inputs}
    for violation in contract.check(inputs):
        found[violation.input].append(violation.property)
    return {name: tuple(properties) for name, properties in found.items()}
