"""Runs the static checks over all graphs of a .tflite."""

import dataclasses
import fnmatch
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence

from edge_exray import errors
from edge_exray.linting import quantization, structure, weights
from edge_exray.linting.findings import Finding, LintResult, Severity
from edge_exray.models import locations
from edge_exray.models.graph import Graph, read_graph
from edge_exray.models.messages import first_line
from edge_exray.models.metadata import read_contract

Rule = Callable[[Graph], Iterator[Finding]]

RULES: tuple[Rule, ...] = (
    quantization.zero_range,
    quantization.near_zero_scale,
    quantization.saturated_bias,
    quantization.per_tensor_weights,
    quantization.float_islands,
    weights.dead_channels,
    weights.float16_overflow,
    weights.nan_constants,
    weights.unfused_batch_norm,
    structure.foreign_ops,
    structure.unwritten_tensors,
    structure.unaccelerated_ops,
)
"""Rules for every graph of a file."""
ENTRY_RULES: tuple[Rule, ...] = (structure.interface, structure.dynamic_shapes)
"""Rules for the graph that an app calls; lists that loops fill have shapes that only the loop knows."""


def lint_graph(graph: Graph, *, expected_ops: Sequence[str] = ()) -> LintResult:
    """Runs all rules that need nothing but the file.

    Args:
        graph: Subgraph 0 of a .tflite.
        expected_ops: Names of Flex and custom ops that the app has, as patterns like `"Flex*"`.
    """
    found = [finding for rule in ENTRY_RULES for finding in rule(graph)]
    for index, part in {0: graph, **graph.subgraphs}.items():
        found += [dataclasses.replace(finding, subgraph=index) for rule in RULES for finding in rule(part)]
    return gravest_first(
        f
        for f in found
        if f.rule not in ("flex_op", "custom_op")
        or not any(fnmatch.fnmatchcase(f.op_name, pattern) for pattern in expected_ops)
    )


def lint_file(path: str | os.PathLike[str]) -> Iterator[Finding]:
    """Tells whether production kernels of this runtime take a file, and whether what it says of its inputs is readable.

    Args:
        path: A .tflite that `read_model` has read.
    """
    from ai_edge_litert.interpreter import Interpreter

    fix = "convert it again; if it is fresh from a converter, choose another quantization"
    try:
        Interpreter(model_path=os.fspath(path)).allocate_tensors()
    except (ValueError, RuntimeError) as e:
        yield Finding(
            "does_not_load",
            Severity.ERROR,
            None,
            "",
            "",
            first_line(e),
            "no app that runs this version can start it",
            fix,
        )
    try:
        read_contract(path)
    except errors.SpecError as e:
        why = "apps and the replay cannot tell how to prepare its inputs"
        yield Finding("damaged_contract", Severity.ERROR, None, "", "", str(e), why, fix)


def gravest_first(findings: Iterable[Finding]) -> LintResult:
    """Returns findings in the order of a `LintResult`."""
    order = list(Severity)
    return LintResult(
        tuple(sorted(findings, key=lambda f: (order.index(f.severity), f.subgraph, -1 if f.op is None else f.op)))
    )


def read_model(path: str | os.PathLike[str]) -> Graph:
    """Reads the graph of a .tflite, also of one with ops that this runtime does not have.

    Raises:
        ModelError: The file is missing or damaged.
    """
    from ai_edge_litert.interpreter import Interpreter

    locations.check_tflite(path)
    content = pathlib.Path(path).read_bytes()
    try:
        # Verifies the flatbuffer; kernels are looked for only when tensors are allocated.
        Interpreter(model_content=content)
    except (ValueError, RuntimeError) as e:
        raise errors.ModelError(f"{os.fspath(path)} does not load in LiteRT: {first_line(e)}") from e
    return read_graph(content)
