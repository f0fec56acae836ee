"""Finds the ops of a graph that the rows of another machine's profile are about.

A row of the runtime has the number and the outputs of its node. A delegate either is one row, with the outputs of the
part of the graph that it runs, or reports each of its ops in its own words and order: those rows are aligned with the
ops that are left, and a pair counts only when every longest alignment has it.
"""

import collections
import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence

from edge_exray import errors
from edge_exray.models.graph import Graph, Op
from edge_exray.profiling import xnnpack_operators
from edge_exray.profiling.benchmark_model import Row

DELEGATE = "DELEGATE"
"""What the op of a row is called that stands for a part of the graph."""


@dataclasses.dataclass(frozen=True)
class Match:
    """What a row is about.

    Attributes:
        row: The row.
        kernel: What ran it: `"builtin"`, or the name of a delegate.
        op: The op of the graph; None when the row stands for several, or for none that is known.
        covered: The ops of the part of the graph that the row stands for; empty when it is not known.
    """

    row: Row
    kernel: str
    op: Op | None = None
    covered: tuple[Op, ...] = ()


def delegate_name(type_name: str) -> str | None:
    """Returns the short name of a delegate, `"gpu"` of `"TfLiteGpuDelegateV2"`; None for the name of an op."""
    found = re.match(r"(?:TfLite)?\s*(\w*?)\s*Delegate(?![a-z])", type_name)
    return (found[1].lower() or "delegate") if found else None


def match_rows(rows: Sequence[Row], graph: Graph | None, default_delegate: str | None, source: str) -> list[Match]:
    """Finds what each row is about.

    Args:
        rows: The rows in the order they ran.
        graph: The main graph of the model; None leaves everything unmatched.
        default_delegate: Which delegate runs the rows that do not tell themselves; None takes XNNPACK, the one that
            reports its ops among the runtime's.
        source: Name of the file, for messages.

    Returns:
        One match for each row, in their order.

    Raises:
        ArtifactError: A row contradicts the graph.
    """
    inner_kernel = delegate_name(default_delegate or "") or (default_delegate or "xnnpack").lower()
    kernels = {row.line: inner_kernel if row.in_delegate else delegate_name(row.type) or "builtin" for row in rows}
    if graph is None:
        return [Match(row, kernels[row.line]) for row in rows]
    found: dict[int, Op] = {}
    by_output = {graph.tensors[t].spec.name: op for op in graph.ops for t in op.outputs}
    for row in rows:
        if kernels[row.line] == "builtin":
            found[row.line] = _runtime_op(row, graph, by_output, source)
    taken = {op.index for op in found.values()}
    parts = [row for row in rows if not row.in_delegate and kernels[row.line] != "builtin"]
    covered = {row.line: _part(row, graph, by_output, taken, parts) for row in parts}
    taken |= {op.index for ops in covered.values() for op in ops}
    left = [op for op in graph.ops if op.index not in taken and not graph.is_folded(op)]
    # Two parts of a graph may name ops alike, which the table then adds up in one row.
    inner = [row for row in rows if row.in_delegate and row.calls == 1]
    found |= {inner[i].line: left[j] for i, j in _certain_pairs(inner, left, graph)}
    return [Match(row, kernels[row.line], found.get(row.line), covered.get(row.line, ())) for row in rows]


def _runtime_op(row: Row, graph: Graph, by_output: Mapping[str, Op], source: str) -> Op:
    # Some kernels add their own words, as in "CONV_2D/im2col".
    name = row.type.split("/")[0]
    named = by_output.get(row.outputs[0]) if row.outputs else None
    numbered = graph.ops[row.node] if row.node is not None and row.node < len(graph.ops) else named
    for op in (numbered, named):
        if op is not None and name in (op.name, row.type if op.is_custom else op.name):
            return op
    there = f"op {numbered.index} is {numbered.name}" if numbered else "it has no such op"
    raise errors.ArtifactError(
        f"{source}, line {row.line}: {row.type} {', '.join(row.outputs)}:{row.node} is not in the model, where "
        f"{there}: the profile is of another model"
    )


def _part(
    row: Row, graph: Graph, by_output: Mapping[str, Op], taken: Collection[int], parts: Sequence[Row]
) -> tuple[Op, ...]:
    """Returns what runs for the outputs of a delegate, up to the ops of the runtime and of other delegates."""
    if len(parts) == 1:
        return tuple(op for op in graph.ops if op.index not in taken and not graph.is_folded(op))
    others = {name for part in parts if part is not row for name in part.outputs}
    ends = [op for name in row.outputs if (op := by_output.get(name)) is not None and op.index not in taken]
    reached: dict[int, Op] = {}
    while ends:
        op = ends.pop()
        reached[op.index] = op
        for tensor in graph.activations(op):
            before = graph.producers.get(tensor)
            is_other = graph.tensors[tensor].spec.name in others
            if before is not None and before.index not in taken and before.index not in reached and not is_other:
                ends.append(before)
    return tuple(op for _, op in sorted(reached.items()))


def _certain_pairs(rows: Sequence[Row], ops: Sequence[Op], graph: Graph) -> list[tuple[int, int]]:
    """Returns the pairs of positions that every longest common subsequence of rows and ops has.

    With F(i, j) and B(i, j) the longest alignments before and from a pair of positions on, (i, j) is in one of the
    longest when F(i, j) + 1 + B(i + 1, j + 1) is the longest of all.
    """
    fits = [[_fits(row, op, graph) for op in ops] for row in rows]
    height, width = len(rows), len(ops)
    before = [[0] * (width + 1) for _ in range(height + 1)]
    after = [[0] * (width + 1) for _ in range(height + 1)]
    for i in range(height):
        for j in range(width):
            before[i + 1][j + 1] = max(before[i][j] + fits[i][j], before[i][j + 1], before[i + 1][j])
    for i in reversed(range(height)):
        for j in reversed(range(width)):
            after[i][j] = max(after[i + 1][j + 1] + fits[i][j], after[i + 1][j], after[i][j + 1])
    possible = [
        (i, j)
        for i in range(height)
        for j in range(width)
        if fits[i][j] and before[i][j] + 1 + after[i + 1][j + 1] == after[0][0]
    ]
    of_row, of_op = (collections.Counter(pair[axis] for pair in possible) for axis in (0, 1))
    return [(i, j) for i, j in possible if of_row[i] == of_op[j] == 1]


def _fits(row: Row, op: Op, graph: Graph) -> bool:
    if op.name not in xnnpack_operators.ops_of(row.type):
        return False
    if xnnpack_operators.name_of(row.type) == "fully connected" and op.name == "CONV_2D":
        # Only a convolution of single pixels is one.
        return graph.tensors[op.inputs[1]].spec.shape[1:3] == (1, 1)
    return True
