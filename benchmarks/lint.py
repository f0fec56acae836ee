"""Are the static checks silent on healthy models?

    python -m benchmarks.lint [--root DIR] [NAME ...]

Lints the float and the quantised edge model of each network of the zoo. An error or a warning is a false alarm, and
makes the exit status 1; a note only says what costs time. That each rule fires on its defect is for the tests.
"""

import argparse
import collections
import pathlib
import statistics
import sys
import time

from benchmarks import zoo
from edge_exray.linting.linter import lint_graph, read_model

_REPEATS = 5


def main() -> int:
    """Prints a row for each model, and returns the exit status."""
    parser = argparse.ArgumentParser(description="Lint the networks of the zoo.")
    parser.add_argument("--root", type=pathlib.Path, default=zoo.ROOT, help="folder that keeps the models")
    parser.add_argument("names", nargs="*", default=list(zoo.NETWORKS), metavar="NAME", help=", ".join(zoo.NETWORKS))
    arguments = parser.parse_args()
    print("| model | ops | errors | warnings | notes | median time | rules that note |")
    print("|---|---|---|---|---|---|---|")
    alarms = 0
    for name in arguments.names:
        for mode in ("none", zoo.NETWORKS[name].quantization):
            graph = read_model(zoo.tflite(name, arguments.root, mode))
            times = []
            for _ in range(_REPEATS):
                start = time.perf_counter()
                result = lint_graph(graph)
                times.append(time.perf_counter() - start)
            counts = result.counts
            alarms += counts["error"] + counts["warning"]
            kinds = collections.Counter(f"{f.rule} {f.op_name}".strip() for f in result.findings)
            print(
                f"| {name} {mode} | {len(graph.ops)} | {counts['error']} | {counts['warning']} | {counts['note']} | "
                f"{1e3 * statistics.median(times):.0f} ms | {', '.join(f'{n} {k}' for k, n in kinds.items())} |",
                flush=True,
            )
    return 1 if alarms else 0


if __name__ == "__main__":
    sys.exit(main())
