"""`exray inspect`: what a log holds, and what of it is damaged."""

import collections
import datetime
import pathlib
import statistics
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_exray import errors

if TYPE_CHECKING:
    import rich.console

    from edge_exray.monitor.log import EdgeLog, LoggedFrame, LogReport
    from edge_exray.monitor.tensors import LoggedTensor

STATUS_DAMAGED = 2
_NS_PER_MS = 1e6
_NS_PER_S = 1e9
_BYTES_PER_MB = 1e6


def inspect(
    logs: Annotated[
        list[str],
        typer.Argument(
            metavar="LOG...",
            help="Name of a log (its numbered files come along), or a folder of logs.",
            show_default=False,
        ),
    ],
    frame: Annotated[
        str | None, typer.Option(metavar="ID", help="Show this frame with all its tensors.", show_default=False)
    ] = None,
    examples: Annotated[
        pathlib.Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the frames here as tf.Examples with numbers as numbers, for TFDV and others.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Shows what logs of the monitor hold; the status is 2 if anything in them is damaged, else 0."""
    import rich.console

    from edge_exray.monitor.log import EdgeLog

    log = EdgeLog(*logs)
    terminal = rich.console.Console()
    if frame is not None:
        _print_frame(terminal, _find(log, frame))
        return
    _print_headers(terminal, log)
    count = log.write_examples(examples) if examples else 0
    _print_frames(terminal, log)
    if not log.report.frames and not log.headers():
        raise errors.DataError(f"{', '.join(logs)}: there is no whole record of an edge log; is it one?")
    _print_report(terminal, log.report)
    if examples:
        terminal.print(f"{count} examples in {examples}", markup=False, highlight=False)
    raise typer.Exit(0 if log.report else STATUS_DAMAGED)


def _find(log: "EdgeLog", frame_id: str) -> "LoggedFrame":
    for frame in log:
        if frame.id == frame_id:
            return frame
    raise errors.DataError(f"no frame has the id {frame_id!r}: the log has {log.report.frames} frames")


def _print_headers(terminal: "rich.console.Console", log: "EdgeLog") -> None:
    seen = set()
    for header in log.headers():
        if header.log_id in seen:
            continue
        seen.add(header.log_id)
        terminal.print(f"[bold]run {header.log_id}[/], {_when(header.facts['exray/time_ns'])}", highlight=False)
        for key, value in header.facts.items():
            if key not in ("exray/kind", "exray/log_id", "exray/part", "exray/time_ns", "exray/monotonic_ns"):
                _print(terminal, f"    {key.removeprefix('exray/')}: {value}")


def _print_frames(terminal: "rich.console.Console", log: "EdgeLog") -> None:
    import rich.table

    spans: dict[str, list[float]] = collections.defaultdict(list)
    sizes: list[int] = []
    last = None
    for frame in log:
        last = frame
        sizes.append(len(frame.serialized))
        for name, found in frame.spans.items():
            spans[name].append(sum(span.duration_ns for span in found) / _NS_PER_MS)
    if last is None:
        return
    if spans:
        table = rich.table.Table("stage", "frames", "median ms", "longest ms", box=None)
        for name, times in spans.items():
            numbers = (str(len(times)), f"{statistics.median(times):.3f}", f"{max(times):.3f}")
            table.add_row(name, *numbers)
        terminal.print(table)
    _print(terminal, f"{len(sizes)} frames, {sum(sizes) / _BYTES_PER_MB:.2f} MB; the last one has")
    for role in ("raw", "inputs", "outputs"):
        for name, tensor in getattr(last, role).items():
            _print(terminal, f"    {role} {name}: {_described(tensor)}")
    if last.layers:
        _print(terminal, f"    {len(last.layers)} layers")


def _print_frame(terminal: "rich.console.Console", frame: "LoggedFrame") -> None:
    _print(terminal, f"frame {frame.id} ({frame.place}), {_when(frame.time_ns)}")
    facts: dict[str, Any] = {"sequence": frame.sequence, "sampled by": frame.sampled_by, "runtime": frame.runtime}
    for name, value in {**facts, "error": frame.error, **frame.device, **frame.user}.items():
        if value is not None:
            _print(terminal, f"    {name}: {value}")
    for name, found in frame.spans.items():
        _print(terminal, f"    {name}: {', '.join(f'{span.duration_ns / _NS_PER_MS:.3f} ms' for span in found)}")
    for role in ("raw", "inputs", "outputs", "layers"):
        for name, tensor in getattr(frame, role).items():
            _print(terminal, f"    {role} {name}: {_described(tensor)}")


def _print_report(terminal: "rich.console.Console", report: "LogReport") -> None:
    for run, counts in report.counts.items():
        told = ", ".join(f"{name} {number}" for name, number in counts.items() if number)
        _print(terminal, f"run {run[:8]}: {told or 'no frames'}")
    for file in report.unclosed:
        _print(terminal, f"{file} was not closed: its app was killed, or still writes", "yellow")
    for damage in report.damages:
        _print(terminal, f"damaged: {damage}", "yellow" if damage.is_torn_tail else "red")


def _described(tensor: "LoggedTensor") -> str:
    text = f"{tensor.dtype} {list(tensor.shape)}"
    if tensor.quantization is not None and len(tensor.quantization.scale) == 1:
        text += f", scale {tensor.quantization.scale[0]:.6g}, zero point {tensor.quantization.zero_point[0]}"
    real = tensor.real()
    if real is None:
        return f"{text}, sha256 {tensor.sha256}"
    if real.size and real.dtype.kind in "fiub" and tensor.dtype != "bfloat16":
        text += f", {real.min():.4g} to {real.max():.4g}"
    return text


def _when(time_ns: int) -> str:
    return datetime.datetime.fromtimestamp(time_ns / _NS_PER_S, datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def _print(terminal: "rich.console.Console", text: str, style: str | None = None) -> None:
    terminal.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
