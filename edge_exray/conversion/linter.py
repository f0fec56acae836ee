"""Lints a .tflite, also against the cloud model that it came from."""

import os
from collections.abc import Iterator, Sequence

from edge_exray.conversion.converter import convert
from edge_exray.files import scratch
from edge_exray.linting.findings import Finding, LintResult, Severity
from edge_exray.linting.linter import gravest_first, lint_file, lint_graph, read_model
from edge_exray.models.alignment import align
from edge_exray.models.graph import Graph
from edge_exray.models.interface import made_up_feeds, pair_interface
from edge_exray.models.parity import ConstantParity
from edge_exray.models.saved_model import CloudModel
from edge_exray.models.tflite import EdgeModel


def lint(
    model: str | os.PathLike[str],
    *,
    cloud: str | os.PathLike[str] | None = None,
    float_edge: str | os.PathLike[str] | None = None,
    signature: str | None = None,
    expected_ops: Sequence[str] = (),
) -> LintResult:
    """Runs the static checks on any .tflite; none of them needs data.

    Args:
        model: Path of the .tflite.
        cloud: Directory of the SavedModel that it came from, whose constants the model's are compared with; None leaves
            that out.
        float_edge: The same conversion without quantisation; None makes it when `cloud` is given.
        signature: Signature of the SavedModel; None takes the only one with dense inputs.
        expected_ops: Names of Flex and custom ops that the app has, as patterns like `"Flex*"`.

    Returns:
        The findings; `bool(result)` is true when none is an error.

    Raises:
        ModelError: The file is missing or damaged, or cannot be paired with the cloud model.
        ConversionError: The float edge model could not be made.
    """
    graph = read_model(model)
    result = lint_graph(graph, expected_ops=expected_ops)
    if not any(op.is_custom for part in (graph, *graph.subgraphs.values()) for op in part.ops):
        # They are told as such, and would keep this runtime from loading the file.
        result = gravest_first([*result.findings, *lint_file(model)])
    if cloud is None:
        return result
    with scratch("exray-lint-") as folder:
        if float_edge is None:
            float_edge = folder / "float_edge.tflite"
            convert(cloud, float_edge, quantization="none", signature=signature)
        constants = _compare(CloudModel(cloud, signature), float_edge, model)
    return gravest_first([*result.findings, *_changed(graph, constants)])


def _compare(
    cloud: CloudModel, float_path: str | os.PathLike[str], path: str | os.PathLike[str]
) -> tuple[ConstantParity, ...]:
    float_edge, edge = (EdgeModel(p, preserve_tensors=True, signature=cloud.signature) for p in (float_path, path))
    for model in (float_edge, edge):
        interface = pair_interface(cloud, model)
        model.rename(interface.inputs, interface.outputs)
    return align(cloud, float_edge, edge, made_up_feeds(cloud, edge, {name: name for name in cloud.inputs})).constants


def _changed(graph: Graph, constants: Sequence[ConstantParity]) -> Iterator[Finding]:
    for constant in constants:
        if not constant.differs or constant.difference is None:
            continue
        count = round(constant.difference.share * constant.elements)
        value = f"{count} of {constant.elements} values differ by more than rounding"
        if constant.factor is not None:
            value = f"{constant.factor:.4g} times what they were"
        yield Finding(
            "changed_constant",
            Severity.ERROR,
            constant.layer,
            graph.ops[constant.layer].name,
            constant.name,
            f"{value}; reference: {constant.reference} of the {constant.source.value.replace('_', ' ')} model",
            "the edge model computes with other weights than the cloud model",
            "convert it again, from this checkpoint; when nearly all constants differ, it came from another one",
        )
