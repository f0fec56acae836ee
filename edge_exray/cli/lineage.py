"""`exray lineage`: what a pushed model rests on, and why another was blocked."""

import datetime
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from edge_exray.cli import console

if TYPE_CHECKING:
    import rich.tree

    from edge_exray.provenance.records import Artifact, Lineage, Push

_COLOURS = {"pushed": "green", "blocked": "red", "failed": "red", "unfinished": "yellow"}
# What of an artifact's properties is worth a place in its line; JSON has all.
_FACTS = ("quantization", "signature_name", "size_bytes", "split_names", "verdict", "latency_p50_ms", "blessed")
_MS_PER_S = 1000
_NO_FOLD = 100_000


def lineage(
    database: Annotated[
        str,
        typer.Argument(
            metavar="METADATA_DB",
            help="SQLite file of a pipeline's metadata; mysql://USER[:PASSWORD]@HOST[:PORT]/DATABASE (password also in "
            "MYSQL_PWD); or a file with an ml-metadata ConnectionConfig, text proto or JSON. It is only read.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help="Where it was pushed to, the version of a push, or URI or id of a Model artifact.",
            show_default="the latest push",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Traces a pushed model back to report, profile, conversion and examples, or a blocked one to its reason."""
    import rich.console

    from edge_exray.provenance.lineage import lineage as trace

    with console.native_log_hidden():
        found = trace(database, model)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=1))
        return
    # Rich would cut the lines of a tree, and of a path that is folded nobody can copy: that is the terminal's work.
    terminal = rich.console.Console(width=_NO_FOLD, highlight=False, soft_wrap=True)
    for line in _head(found):
        terminal.print(line)
    terminal.print(_tree(found))
    for push in found.other_pushes:
        reason = f": {_escape(push.reason)}" if push.reason else ""
        which = "the same model was also" if push.model == found.model else f"Model {push.model}, its sibling, was"
        terminal.print(f"{which} {_outcome(push)}{reason}")
    for line in _tail(found):
        terminal.print(f"[yellow]{line}")


def _head(found: "Lineage") -> Iterator[str]:
    push = found.push
    if push is None:
        yield f"Model {found.model} was never to be pushed: no Pusher had it or what was made of it."
        return
    yield _outcome(push)
    if push.is_there is False:
        yield f"[yellow]There is nothing any more at {_escape(push.destination or '')}."
    if push.reason and not push.blessings:
        yield _escape(push.reason)
    for blessing in push.blessings:
        verdict = "[green]blessed[/]" if blessing.blessed else "[red]not blessed[/]"
        reason = blessing.reason or "no reason is recorded."
        yield f"{verdict} by {_escape(f'{blessing.component or blessing.channel}: {reason}')}"
        if blessing.failed_checks:
            yield f"    checks that did not pass: {_escape(', '.join(blessing.failed_checks))}"
        if blessing.worst_layer:
            yield f"    layer to look at: {_escape(blessing.worst_layer)}"
        if blessing.page:
            yield f"    report: {_escape(blessing.page)}"


def _outcome(push: "Push") -> str:
    word = f"[bold {_COLOURS[push.outcome]}]{push.outcome}[/]"
    place = f" to {_escape(push.destination)}" if push.destination else ""
    run = f"run {push.run} of {push.pipeline}" if push.run else f"execution {push.execution}"
    cached = ", from the cache" if push.cached else ""
    return f"{word}{place}, {_when(push.time_ms)} ({_escape(run)}{cached})"


def _tree(found: "Lineage") -> "rich.tree.Tree":
    """Returns the artifacts as a tree of what each was made of; one that several need has its branches once."""
    import rich.tree

    tree = rich.tree.Tree("", hide_root=True)
    pushing = found.executions.get(found.push.execution) if found.push else None
    trunks = pushing.inputs if pushing else {"model": (found.model,) if found.model is not None else ()}
    roots = {artifact_id for ids in trunks.values() for artifact_id in ids}
    shown: set[int] = set()

    def add(parent: "rich.tree.Tree", channel: str, artifact_id: int) -> None:
        artifact = found.artifacts.get(artifact_id)
        if artifact is None:
            parent.add(f"[bold]{_escape(channel)}[/] [yellow]artifact {artifact_id}, which the metadata has no more")
            return
        if artifact_id in shown:
            parent.add(f"[bold]{_escape(channel)}[/] {_name(artifact)}, see above")
            return
        shown.add(artifact_id)
        branch = parent.add(_line(found, channel, artifact))
        producer = found.executions.get(artifact.producer) if artifact.producer is not None else None
        if producer is None:
            return
        for name, ids in sorted(producer.outputs.items()):
            for other in ids:
                if other not in shown | roots:
                    shown.add(other)
                    branch.add(f"[dim]and[/] {_line(found, name, found.artifacts[other])}")
        for name, ids in sorted(producer.inputs.items()):
            for source in ids:
                add(branch, name, source)

    # The model first, so that its branches are not spread over what was said of it.
    for channel, ids in sorted(
        trunks.items(), key=lambda trunk: ("blessing" in trunk[0], trunk[0] != "model_blessing")
    ):
        for artifact_id in ids:
            add(tree, channel, artifact_id)
    return tree


def _line(found: "Lineage", channel: str, artifact: "Artifact") -> str:
    told = [f"{name} {artifact.properties[name]}" for name in _FACTS if name in artifact.properties]
    producer = found.executions.get(artifact.producer) if artifact.producer is not None else None
    if producer and found.push and producer.run != found.push.run:
        told.append(f"from run {producer.run}")
    facts = f" [dim]({_escape(', '.join(told))})[/]" if told else ""
    state = f" [yellow]{artifact.state}[/]" if artifact.state not in ("live", "unknown") else ""
    gone = " [yellow]gone: there is nothing any more[/]" if artifact.is_there is False else ""
    return f"[bold]{_escape(channel)}[/] {_name(artifact)} {_escape(artifact.uri)}{facts}{state}{gone}"


def _name(artifact: "Artifact") -> str:
    return _escape(f"{artifact.type.removeprefix('edge_exray.')} {artifact.id}")


def _tail(found: "Lineage") -> Iterator[str]:
    if found.push and found.missing:
        yield f"not in the metadata of this push: {', '.join(found.missing).replace('_', ' ')}"
    if found.later_run:
        yield _escape(found.later_run)


def _when(time_ms: int) -> str:
    return datetime.datetime.fromtimestamp(time_ms / _MS_PER_S, datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def _escape(text: str) -> str:
    import rich.markup

    return rich.markup.escape(text)
