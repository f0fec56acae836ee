"""Are injected faults found and rightly named, and healthy twins left in peace?

    python -m benchmarks.faults [--seeds N ...] [--group NAME ...] [--fault TEXT] [--out FILE]

Runs every trial of the fault suite (`_*_faults.py`) once for each seed, and prints a row for each fault. A trial is
rightly named when every identifier that was injected is named; `also` counts the trials in which something was named
besides.
The exit status is 1 when a bar is missed: single faults, pairs of faults, false alarms on healthy twins.
"""

import argparse
import collections
import dataclasses
import importlib
import importlib.util
import json
import pathlib
import sys
import time
from collections.abc import Iterator, Sequence

from benchmarks._fault_case import FaultCase

_MODULES = ("image", "signal", "table", "model")
_SINGLE, _PAIRS, _FALSE_ALARMS = 0.98, 0.85, 0.01


@dataclasses.dataclass(frozen=True)
class _Trial:
    case: FaultCase
    seed: int
    named: tuple[str, ...]
    seconds: float

    @property
    def right(self) -> bool:
        return set(self.case.expected) <= set(self.named) if self.case.expected else not self.named


def main() -> int:
    """Prints the table, and returns the exit status."""
    parser = argparse.ArgumentParser(description="Run the fault suite.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="N", help="one run of all trials for each")
    parser.add_argument("--group", nargs="+", default=list(_MODULES), choices=_MODULES, help="which trials")
    parser.add_argument("--fault", default="", metavar="TEXT", help="only rows that contain it")
    parser.add_argument("--out", type=pathlib.Path, metavar="FILE", help="write every trial as JSON")
    parser.add_argument("--verbose", action="store_true", help="print the trials that went wrong at once")
    arguments = parser.parse_args()
    trials = []
    for seed in arguments.seeds:
        for case in _cases(arguments.group, seed):
            if arguments.fault not in case.fault:
                continue
            start = time.perf_counter()
            named = tuple(case.run())
            trial = _Trial(case, seed, named, time.perf_counter() - start)
            trials.append(trial)
            if arguments.verbose and (not trial.right or set(named) != set(case.expected)):
                print(f"{case.fault}: {case.strength} (seed {seed}): {case.expected} -> {named}", flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps([_record(trial) for trial in trials], indent=1), "utf-8")
    return _print_table(trials)


def _cases(groups: Sequence[str], seed: int) -> Iterator[FaultCase]:
    for group in groups:
        if importlib.util.find_spec(f"benchmarks._{group}_faults") is None:
            print(f"There are no trials of {group} faults.", file=sys.stderr)
            continue
        yield from importlib.import_module(f"benchmarks._{group}_faults").cases(seed)


def _record(trial: _Trial) -> dict[str, object]:
    case = trial.case
    return {
        "group": case.group,
        "fault": case.fault,
        "strength": case.strength,
        "seed": trial.seed,
        "expected": list(case.expected),
        "named": list(trial.named),
        "seconds": round(trial.seconds, 2),
    }


def _print_table(trials: Sequence[_Trial]) -> int:
    rows = collections.defaultdict(list)
    for trial in trials:
        rows[trial.case.group, trial.case.fault].append(trial)
    print("| group | fault | trials | detected | rightly named | also | median time |")
    print("|---|---|---|---|---|---|---|")
    for (group, fault), members in rows.items():
        detected = sum(bool(t.named) for t in members)
        if not members[0].case.expected:
            print(f"| {group} | {fault} | {len(members)} | {detected} false alarms | | | {_median(members)} |")
            continue
        right = sum(t.right for t in members)
        also = sum(bool(set(t.named) - set(t.case.expected)) for t in members)
        print(f"| {group} | {fault} | {len(members)} | {detected} | {right} | {also} | {_median(members)} |")
    single = [t.right for t in trials if len(t.case.expected) == 1]
    pairs = [t.right for t in trials if len(t.case.expected) > 1]
    alarms = [not t.right for t in trials if not t.case.expected]
    kept = [
        _total("single faults, rightly named", single, at_least=_SINGLE),
        _total("pairs of faults, both named", pairs, at_least=_PAIRS),
        _total("false alarms", alarms, at_most=_FALSE_ALARMS),
    ]
    return 0 if all(kept) else 1


def _median(trials: Sequence[_Trial]) -> str:
    return f"{sorted(t.seconds for t in trials)[len(trials) // 2]:.1f} s"


def _total(what: str, outcomes: Sequence[bool], at_least: float = 0.0, at_most: float = 1.0) -> bool:
    if not outcomes:
        return True
    share = sum(outcomes) / len(outcomes)
    kept = at_least <= share <= at_most
    bar = f">= {at_least:.0%}" if at_least else f"<= {at_most:.0%}"
    print(f"{what}: {sum(outcomes)} of {len(outcomes)} ({share:.1%}), bar {bar}: {'kept' if kept else 'MISSED'}")
    return kept


if __name__ == "__main__":
    sys.exit(main())
