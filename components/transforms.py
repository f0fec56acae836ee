"""Examples as the user's functions see them: decoded, and transformed where a component was given a TransformGraph.

The components take raw examples with the TransformGraph, or Transform's own examples without it. A transformed example
has the features that Transform makes, and `raw/NAME` for each feature that the record has: what a device starts from,
for an `edge_inputs_fn` that does what the app does.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from tfx import types
from tfx.types import artifact_utils

from edge_exray import errors
from edge_exray.frames.examples import Example, decoded, read_records, try_example
from edge_exray.models.messages import first_line

RAW = "raw/"


@dataclasses.dataclass(frozen=True)
class Decoder:
    """Makes examples of the records of tf.Examples; each process that one is sent to loads the graph once.

    Attributes:
        graph: Directory of a TransformGraph; None leaves the examples as they are.
    """

    graph: str | None = None

    def __call__(self, place: str, record: bytes) -> Example | errors.DataError:
        """Decodes a record; returns the error, with the place, when that fails."""
        raw = try_example(place, record)
        if self.graph is None or isinstance(raw, errors.DataError):
            return raw
        import tensorflow as tf

        try:
            transformed = _load(self.graph)(tf.constant([record]))
        except tf.errors.OpError as e:
            return errors.DataError(f"the TransformGraph {self.graph} refuses the record: {first_line(e)}", place)
        return {f"{RAW}{name}": value for name, value in raw.items()} | {
            name: _feature(value) for name, value in transformed.items()
        }

    def try_read(self, files: Iterable[str]) -> Iterator[Example | errors.DataError]:
        """Reads TFRecord files; the error of a record stands in its place.

        Raises:
            DataError: A file is damaged; it is named.
        """
        return (self(place, record) for place, record in read_records(files))

    def read(self, files: Iterable[str]) -> Iterator[Example]:
        """Does what `try_read` does, but raises the first error."""
        return decoded(self.try_read(files))


def decoder(input_dict: Mapping[str, Sequence[types.Artifact]]) -> Decoder:
    """Returns the decoder for the inputs of a component, with its `transform_graph` where it was given one."""
    graphs = input_dict.get("transform_graph")
    return Decoder(artifact_utils.get_single_instance(list(graphs)).uri if graphs else None)


@functools.lru_cache(maxsize=1)
def _load(graph: str) -> Callable[[Any], Mapping[str, Any]]:
    import tensorflow as tf
    from tensorflow_transform.output_wrapper import TFTransformOutput

    output = TFTransformOutput(graph)
    layer, spec = output.transform_features_layer(), output.raw_feature_spec()
    signature = [tf.TensorSpec([1], tf.string)]
    return tf.function(lambda records: layer(tf.io.parse_example(records, spec)), input_signature=signature)


def _feature(value: Any) -> np.ndarray:
    """Returns the value of the one example of a batch: in its shape, which a tf.Example cannot store, or as a list."""
    for values in ("flat_values", "values"):  # of ragged and of sparse tensors; ragged ones may have ragged `values`
        if hasattr(value, values):
            return getattr(value, values).numpy()
    batch = value.numpy()
    # Not batch[0] of scalars: NumPy would make a fixed-width dtype of a text and cut trailing zero bytes off.
    return batch[0] if batch.ndim > 1 else batch
