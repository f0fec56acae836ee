"""Pairs the inputs and outputs of an edge model with those of the cloud model, also where the names are another's."""

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from edge_exray import errors
from edge_exray.models.matching import agreement
from edge_exray.models.saved_model import CloudModel
from edge_exray.models.tensors import TensorSpec
from edge_exray.models.tflite import EdgeModel

_FRAMES = 4
# Length of a dimension that neither model fixes, on the frames that are made up here.
_LENGTH = 8
_MAX_CHOICES = 720
# How many times the unexplained share of the best choice any other choice must leave unexplained, and the most that the
# best one may: one of two outputs that is badly damaged explains nothing.
_MARGIN = 1.5
_LEAST = 0.4

_Names = Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Interface:
    """The names of an edge model's inputs and outputs.

    Attributes:
        inputs, outputs: The cloud's name to the edge model's.
        evidence: `"name"`, when the names are the same; `"shape"`, when shapes, types and the names that are known
            allow no other way; `"values"`, when of several ways one gives the cloud's outputs.
    """

    inputs: dict[str, str]
    outputs: dict[str, str]
    evidence: str


def pair_interface(cloud: CloudModel, edge: EdgeModel) -> Interface:
    """Pairs inputs and outputs by name, else by shape and type, else by what both models answer to the same inputs.

    Never by position: converters do not keep it.

    Raises:
        ModelError: Names are the same and shapes are not, nothing fits, or several ways fit equally well.
    """
    inputs = _choices("inputs", cloud, cloud.inputs, edge, edge.inputs)
    outputs = _choices("outputs", cloud, cloud.outputs, edge, edge.outputs)
    if len(inputs) == len(outputs) == 1:
        same = set(cloud.inputs) == set(edge.inputs) and set(cloud.outputs) == set(edge.outputs)
        return Interface(inputs[0], outputs[0], "name" if same else "shape")
    return Interface(*_best(cloud, edge, inputs, outputs), "values")


def _choices(
    what: str, cloud: CloudModel, ours: Mapping[str, TensorSpec], edge: EdgeModel, theirs: Mapping[str, TensorSpec]
) -> list[dict[str, str]]:
    """Returns all ways to pair the names that shapes, types and known names allow; at least one."""
    sides = (
        f"cloud signature {cloud.signature!r} of {cloud.path} has {_list(ours)}, "
        f"edge model {edge.path} has {_list(theirs)}"
    )
    known = {_bare(name): name for name in theirs}
    fixed = {name: known[name] for name in ours if name in known}
    for name, other in fixed.items():
        if not _fits(ours[name], theirs[other]):
            raise errors.ModelError(
                f"{what[:-1]} {name} does not fit, so these are not two versions of one model: {sides}"
            )
    free = [name for name in ours if name not in fixed]
    open_names = [name for name in theirs if name not in fixed.values()]
    found = []
    if len(free) == len(open_names):
        for choice in itertools.islice(_assign(free, open_names, ours, theirs), _MAX_CHOICES + 1):
            found.append(fixed | choice)
    if not found:
        raise errors.ModelError(f"{what} are paired by name, shape and type, and these do not pair: {sides}")
    if len(found) > _MAX_CHOICES:
        raise _ambiguous(what, sides)
    return found


def _assign(
    names: Sequence[str], left: Sequence[str], ours: Mapping[str, TensorSpec], theirs: Mapping[str, TensorSpec]
) -> Iterator[dict[str, str]]:
    if not names:
        yield {}
        return
    first, *rest = names
    for other in left:
        if _fits(ours[first], theirs[other]):
            for choice in _assign(rest, [name for name in left if name != other], ours, theirs):
                yield {first: other, **choice}


def _fits(cloud: TensorSpec, edge: TensorSpec) -> bool:
    is_real = [spec.quantization is not None or spec.dtype.kind == "f" for spec in (cloud, edge)]
    if is_real[0] != is_real[1] or (not is_real[0] and cloud.dtype.kind != edge.dtype.kind):
        return False
    # The shape () of a cloud tensor may also mean that its rank is unknown; the batch axis may be fixed on one side.
    pairs = list(zip(cloud.shape[1:], edge.shape[1:], strict=False))
    return not cloud.shape or (
        len(cloud.shape) == len(edge.shape) and all(a == b for a, b in pairs if -1 not in (a, b))
    )


def _best(
    cloud: CloudModel, edge: EdgeModel, inputs: Sequence[dict[str, str]], outputs: Sequence[dict[str, str]]
) -> tuple[dict[str, str], dict[str, str]]:
    """Returns the ways that give the cloud's outputs, and by far."""
    feeds = made_up_feeds(cloud, edge, inputs[0])
    answers = _collect([cloud.infer(feed)[0] for feed in feeds])
    scores = []
    for i, choice in enumerate(inputs):
        given = _collect([edge.infer({choice[name]: value for name, value in feed.items()}) for feed in feeds])
        for j, names in enumerate(outputs):
            agreements = [max(0.0, agreement(answers[name], given[other])) for name, other in names.items()]
            scores.append((float(np.mean(agreements)), i, j))
    (score, i, j), (rival, *_) = sorted(scores, reverse=True)[:2]
    if score < _LEAST or 1 - rival <= _MARGIN * (1 - score) + 1e-6:
        sides = (
            f"inputs {_list(cloud.inputs)} and outputs {_list(cloud.outputs)} of the cloud model {cloud.path}, inputs "
            f"{_list(edge.inputs)} and outputs {_list(edge.outputs)} of the edge model {edge.path}"
        )
        raise _ambiguous(
            "inputs and outputs", f"{sides}; of {len(scores)} ways none gives the cloud's answers and by far"
        )
    return inputs[i], outputs[j]


def made_up_feeds(cloud: CloudModel, edge: EdgeModel, choice: Mapping[str, str]) -> list[dict[str, np.ndarray]]:
    """Returns random inputs: floats that the quantised inputs can hold; 0 and 1 for integers, valid as any index.

    Args:
        cloud, edge: The models.
        choice: Name of each input of the cloud model to that of the edge model.
    """
    rng = np.random.default_rng(0)
    feeds = []
    for _ in range(_FRAMES):
        feed = {}
        for name, spec in cloud.inputs.items():
            other = edge.inputs[choice[name]]
            dims = [max(pair) for pair in zip(spec.shape[1:], other.shape[1:], strict=True)]
            shape = (1, *(n if n >= 0 else _LENGTH for n in dims))
            if spec.dtype.kind == "f":
                low, high = other.quantization.range(other.dtype) if other.quantization else (-1.0, 1.0)
                feed[name] = rng.uniform(low, high, shape).astype(spec.dtype)
            else:
                feed[name] = rng.integers(0, 2, shape).astype(spec.dtype)
        feeds.append(feed)
    return feeds


def _collect(answers: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([np.ravel(a[name]).astype(np.float64) for a in answers]) for name in answers[0]}


def _bare(name: str) -> str:
    """Returns the signature's name that TensorFlow made a tensor name of."""
    return re.sub(r"^\w*serving_default_|:\d+$", "", name)


def _list(specs: Mapping[str, TensorSpec]) -> str:
    return ", ".join(f"{name} {spec.dtype.name}{list(spec.shape)}" for name, spec in sorted(specs.items()))


def _ambiguous(what: str, sides: str) -> errors.ModelError:
    return errors.ModelError(
        f"the {what} of the two models have different names, and shapes and values do not tell which is which: "
        f"{sides}. Give the .tflite a signature that names its inputs and outputs like the cloud's"
    )
