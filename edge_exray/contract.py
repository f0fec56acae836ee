"""What a model expects of its inputs: declared by the pipeline, stored in the .tflite, checked on what an app feeds."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from typing_extensions import Self

from edge_exray import errors, schemas
from edge_exray.specs import JsonSpec

_COUNTS = {"RGB": 3, "BGR": 3, "GRAY": 1}
# Axes of height, width and channels, from the end, so that a batch axis may be there or not.
_AXES = {"NHWC": (-3, -2, -1), "NCHW": (-2, -1, -3), "NHW": (-2, -1, None)}
_PIXELS = 0.0, 255.0

# Of the width of the range: a step of 8 bits is 1/255 of it.
_SLACK = 0.01
# Kernels with negative lobes overshoot at a sharp edge: bicubic with a = -0.75 by 4 |a| / 27 = 11 % of the step along
# one axis, 24 % at a corner.
_OVERSHOOT = {"bicubic": 0.25, "lanczos": 0.25}


@dataclasses.dataclass(frozen=True)
class InputFormat:
    """How one input is prepared; None is not declared. The words are those of TFLite Metadata where it has them.

    Numbers of one channel are stored as a tuple of one, which holds for all channels.

    Attributes:
        channels: `"RGB"`, `"BGR"` or `"GRAY"`, in the order in which the model reads them.
        height, width: Of the image that the model reads, in pixels.
        layout: Axes of the tensor: `"NHWC"`, `"NCHW"`, or `"NHW"` for a grey image without an axis for it.
        mean, std: The model reads (x - mean) / std, where x are the pixels, 0 to 255, of an image, or the raw values of
            another input. A quantised model has those of its float twin (NormalizationOptions of TFLite Metadata).
        min, max: Smallest and largest value that the model may read (Stats of TFLite Metadata). By default what the
            pixels 0 and 255 become.
        resize: How the image is brought to its size: `"nearest"`, `"bilinear"`, `"bicubic"`, `"area"` or `"lanczos"`.
        fit: What becomes of another aspect ratio: `"stretch"`, `"center_crop"` or `"letterbox"`.

    Raises:
        SpecError: A property has a value that there is not, or the properties contradict each other.
    """

    channels: str | None = None
    height: int | None = None
    width: int | None = None
    layout: str = "NHWC"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    min: tuple[float, ...] | None = None
    max: tuple[float, ...] | None = None
    resize: str | None = None
    fit: str | None = None

    def __post_init__(self) -> None:
        for name in ("mean", "std", "min", "max"):
            value = getattr(self, name)
            if value is not None:
                several = value if isinstance(value, Sequence) else [value]
                object.__setattr__(self, name, tuple(float(v) for v in several))
        # Here, because a contract need not come from JSON.
        schemas.check({"inputs": {"NAME": self.to_dict()}}, "input_contract", errors.SpecError, "input contract")
        lengths = {len(v) for v in (self.mean, self.std, self.min, self.max) if v is not None} - {1}
        count = _COUNTS.get(self.channels or "")
        if len(lengths) > 1 or (count and lengths - {count}):
            need = f"{self.channels} needs 1 or {count}" if count else "all that are not 1 must be equal"
            raise errors.SpecError(f"input contract: mean, std, min or max have {sorted(lengths)} values, {need}")
        if self.layout == "NHW" and (lengths or self.channels not in (None, "GRAY")):
            what = self.channels or "several channels"
            raise errors.SpecError(f"input contract: layout NHW has no axis for {what}: write NHWC or NCHW")
        span = self.span
        if span is not None and not np.all(span[0] < span[1]):
            raise errors.SpecError(f"input contract: {self.normalisation} leave no range, min must be below max")

    @property
    def span(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Smallest and largest value that is allowed, [1] or [C] each; None where nothing bounds them."""
        low = high = None
        if self.channels and self.mean and self.std:
            low, high = ((pixel - np.array(self.mean)) / np.array(self.std) for pixel in _PIXELS)
        low = low if self.min is None else np.array(self.min)
        high = high if self.max is None else np.array(self.max)
        if low is None and high is None:
            return None
        return np.array([-np.inf]) if low is None else low, np.array([np.inf]) if high is None else high

    @property
    def bounds(self) -> str:
        """The properties that bound the values: `"mean, std"` or `"min, max"`."""
        return "mean, std" if self.min is None and self.max is None else "min, max"

    @property
    def normalisation(self) -> str:
        """Those properties in words, such as `"mean 127.5 and std 127.5"`."""
        names = [name for name in self.bounds.split(", ") if getattr(self, name) is not None]
        return " and ".join(f"{name} {_numbers(getattr(self, name))}" for name in names)

    @property
    def allowed(self) -> str:
        """The values that are allowed, in words, such as `"[-1, 1]"`."""
        if self.span is None:
            return "all values"
        low, high = self.span
        ends = f"[{low.min():.4g}, {high.max():.4g}]"
        return f"{ends}, each channel its own part of it" if max(len(low), len(high)) > 1 else ends

    def to_dict(self) -> dict[str, Any]:
        """Returns the declared properties, numbers that hold for all channels as one."""
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        fields = {name: value for name, value in vars(self).items() if value != defaults[name]}
        return {
            name: (value[0] if len(value) == 1 else list(value)) if isinstance(value, tuple) else value
            for name, value in fields.items()
        }

    def check_shape(self, name: str, shape: Sequence[int]) -> "list[Violation]":
        """Compares a shape with the declared geometry; a dimension of -1 is unknown and fits everything."""
        several = max((len(v) for v in (self.mean, self.std, self.min, self.max) if v), default=1)
        count = _COUNTS.get(self.channels or "") or (several if several > 1 else None)
        is_image = self.channels or self.height or self.width
        axes = _AXES[self.layout] if is_image else (None, None, -1 if several > 1 else None)
        if len(shape) < sum(axis is not None for axis in axes):
            what = f"has the shape {list(shape)}, layout {self.layout} needs an axis for each of its letters"
            return [Violation(name, "layout", f"input {name} {what}")]
        found = []
        for prop, size, axis in zip(
            ("height", "width", "channels"), (self.height, self.width, count), axes, strict=True
        ):
            if size is not None and axis is not None and shape[axis] not in (-1, size):
                declared = getattr(self, prop) or f"{self.bounds} for {count}"
                what = f"has {prop} {shape[axis]} (shape {list(shape)}), {declared} is declared"
                if self.channels == "GRAY" and self.layout != "NHW":
                    what += "; an image without an axis for channels has the layout NHW"
                found.append(Violation(name, prop, f"input {name} {what}"))
        return found

    def check_values(self, name: str, value: np.ndarray) -> "list[Violation]":
        """Looks for values that the declared normalisation cannot produce."""
        span = self.span
        if span is None or not value.size:
            return []
        if value.dtype.kind not in "fiub":
            return [Violation(name, "dtype", f"input {name} is {value.dtype}, the model reads numbers")]
        low, high = value.min(), value.max()
        # NaN and infinity come to the extremes.
        if not np.isfinite([low, high]).all():
            return [Violation(name, "finite", f"input {name} holds NaN or infinite values")]
        smallest, largest = self._widened(span)
        if low < smallest.max() or high > largest.min():
            axis = _AXES[self.layout][2] or -1
            values = np.moveaxis(value, axis, -1) if value.ndim >= -axis else value
            channels = max(len(smallest), len(largest))
            if values.ndim and values.shape[-1] == channels:
                # Contiguous, which NumPy reduces 20 times as fast.
                values = np.ascontiguousarray(values.reshape(-1, channels).T)
                low, high = values.min(1), values.max(1)
            if np.any(low < smallest) or np.any(high > largest):
                reach = f"input {name} reaches [{np.min(low):.4g}, {np.max(high):.4g}]"
                remedy = ": feed (x - mean) / std" if self.bounds == "mean, std" else ""
                return [Violation(name, self.bounds, f"{reach}, {self.normalisation} allow {self.allowed}{remedy}")]
        return []

    def _widened(self, span: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        width = span[1] - span[0]
        slack = np.where(np.isfinite(width), width, 0.0) * (_SLACK + _OVERSHOOT.get(self.resize or "", 0.0))
        return span[0] - slack, span[1] + slack


@dataclasses.dataclass(frozen=True)
class Violation:
    """A property of the contract that an array does not keep.

    Attributes:
        input: Name of the input.
        property: The property, or the two, of `InputFormat` that is broken; `"inputs"` when the array is missing,
            `"dtype"` when it holds no numbers, and `"finite"` when some are NaN or infinite.
        message: What was found, what is declared.
    """

    input: str
    property: str
    message: str

    def __str__(self) -> str:
        return self.message


@dataclasses.dataclass(frozen=True)
class InputContract(JsonSpec):
    """What a pipeline declares of the inputs of its model, see `schemas/input_contract.schema.json`.

    Attributes:
        inputs: Name of each declared input to its format.
        task: `"classification"`, `"detection"`, `"segmentation"`, `"regression"` or `"embedding"`.
        labels: Names of the classes, in the order of the scores.
    """

    schema_name: ClassVar[str] = "input_contract"

    inputs: Mapping[str, InputFormat] = dataclasses.field(default_factory=dict)
    task: str | None = None
    labels: Sequence[str] = ()

    @classmethod
    def _build(cls, document: dict[str, Any]) -> Self:
        inputs = {name: InputFormat(**fields) for name, fields in document.get("inputs", {}).items()}
        return cls(inputs, document.get("task"), tuple(document.get("labels", ())))

    @classmethod
    def of(cls, contract: "InputContract | Mapping[str, Any] | str | None", source: str = "") -> "InputContract | None":
        """Takes a contract in any form: itself, the JSON document, or its text; None stays None."""
        if contract is None or isinstance(contract, InputContract):
            return contract
        if isinstance(contract, str):
            return cls.from_json(contract, source)
        return cls.from_dict(dict(contract), source)

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON document, with what is declared only."""
        document: dict[str, Any] = {"inputs": {name: one.to_dict() for name, one in self.inputs.items()}}
        return document | {name: v for name, v in (("task", self.task), ("labels", list(self.labels))) if v}

    def to_json(self) -> str:
        """Returns the document in a canonical form (sorted keys), so that equal contracts give equal bytes."""
        return json.dumps(self.to_dict(), sort_keys=True)

    def check(self, inputs: Mapping[str, np.ndarray]) -> list[Violation]:
        """Checks what an app feeds.

        Channel order and resize leave no trace in the values and are not checked.

        Args:
            inputs: Input name to array of real values, with or without batch axis. What is stored in a quantised input
                is to be dequantised first.

        Returns:
            What is broken, in the order of the declared inputs; empty when all is kept.
        """
        found: list[Violation] = []
        for name, declared in self.inputs.items():
            if name not in inputs:
                found.append(Violation(name, "inputs", f"input {name} is declared and not fed, only {sorted(inputs)}"))
                continue
            value = np.asarray(inputs[name])
            found += declared.check_shape(name, value.shape) + declared.check_values(name, value)
        return found

    def check_model(self, inputs: Mapping[str, Sequence[int]], outputs: Mapping[str, Sequence[int]]) -> None:
        """Makes sure that a model can keep the contract.

        Args:
            inputs: Input name to its shape, -1 for an unknown dimension.
            outputs: The same of the outputs.

        Raises:
            SpecError: The contract declares an input that the model does not have, another shape, or a number of labels
                that no output of the classification has.
        """
        unknown = sorted(set(self.inputs) - set(inputs))
        if unknown:
            raise errors.SpecError(
                f"the input contract declares {', '.join(unknown)}, the inputs of the model are "
                f"{', '.join(sorted(inputs))}"
            )
        for name, declared in self.inputs.items():
            for violation in declared.check_shape(name, inputs[name]):
                raise errors.SpecError(f"the input contract does not fit the model: {violation.message}")
        sizes = {shape[-1] for shape in outputs.values() if shape}
        # One score tells two classes; an unknown size may be any.
        fitting = {len(self.labels), -1} | ({1} if len(self.labels) == 2 else set())
        if self.task == "classification" and self.labels and not sizes & fitting:
            raise errors.SpecError(
                f"the input contract names {len(self.labels)} labels, no output of the model has as many scores: "
                f"{ {name: list(shape) for name, shape in outputs.items()} }"
            )


def _numbers(values: tuple[float, ...]) -> str:
    texts = [f"{value:.6g}" for value in values]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
