"""`exray convert`: from a SavedModel to the edge model."""

import pathlib
from typing import TYPE_CHECKING, Annotated

import typer

from edge_exray.cli import console

if TYPE_CHECKING:
    from edge_exray.conversion.converter import Conversion


def convert(
    saved_model: Annotated[str, typer.Argument(metavar="SAVED_MODEL", help="Its directory.", show_default=False)],
    out: Annotated[pathlib.Path, typer.Option(metavar="FILE", help="The .tflite file to write.", show_default=False)],
    quantization: Annotated[
        str,
        typer.Option(metavar="MODE", help="none, float16, dynamic_range, int8, int8_float_io, int16x8 or recipe."),
    ] = "int8",
    examples: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="What to calibrate on, needed by modes with integer activations: see exray validate.",
            show_default=False,
        ),
    ] = None,
    module: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Python file or module: calibration_inputs_fn or reference_inputs_fn.",
            show_default="features by name",
        ),
    ] = None,
    signature: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Signature that the device runs.", show_default="the one with dense inputs"),
    ] = None,
    num_examples: Annotated[int, typer.Option(min=1, help="Sampled from the examples, as many of each class.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the sample.")] = 0,
    keep_float_layer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Layer that stays in float: name or regular expression; repeatable.",
            show_default=False,
        ),
    ] = None,
    quantizer: Annotated[str, typer.Option(metavar="NAME", help="tensorflow or ai_edge_quantizer.")] = "tensorflow",
    recipe: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="Recipe of ai-edge-quantizer, for the mode recipe.", show_default=False),
    ] = None,
    input_contract: Annotated[
        pathlib.Path | None,
        typer.Option(metavar="FILE", help="JSON file that declares the inputs, to be stored.", show_default=False),
    ] = None,
    select_tf_ops: Annotated[
        bool, typer.Option("--select-tf-ops", help="Keep ops without TFLite kernels as TensorFlow's.")
    ] = False,
    report: Annotated[
        pathlib.Path | None,
        typer.Option(metavar="FILE", help="Also write conversion.json under this name.", show_default=False),
    ] = None,
) -> None:
    """Converts a SavedModel to .tflite, and checks that the result is what the mode says."""
    from edge_exray import errors, files
    from edge_exray.contract import InputContract
    from edge_exray.conversion import modes, recipes
    from edge_exray.frames.examples import check_examples
    from edge_exray.models import locations

    declared = console.read_text(input_contract, "input contract")
    contract = InputContract.from_json(declared, str(input_contract)) if declared else None
    locations.check_saved_model(saved_model)
    for path in filter(None, (out, report)):
        files.check_file(path)
    entries = None if recipe is None else recipes.resolve(recipe)
    mode = modes.find(quantization, entries)
    modes.check_choice([mode], quantizer, recipe, keep_float_layer or ())
    if mode.needs_calibration and examples is None:
        raise errors.SpecError(
            f"quantization {quantization!r} measures the activations on real data: give it with --examples"
        )
    if examples is not None:
        check_examples(examples)
    from edge_exray.conversion import calibration, converter

    with console.progress("converting") as track:
        frames = None
        if mode.needs_calibration and examples is not None:
            console.import_tensorflow()
            from edge_exray.frames.examples import read_examples
            from edge_exray.frames.functions import load_functions
            from edge_exray.models.saved_model import CloudModel

            frames = calibration.sample(
                track(read_examples(examples)),
                load_functions(module),
                CloudModel(saved_model, signature).inputs,
                num_examples,
                seed,
                source=examples,
            )
        made = converter.convert(
            saved_model,
            out,
            quantization=quantization,
            signature=signature,
            calibration=frames,
            select_tf_ops=select_tf_ops,
            input_contract=contract,
            quantizer=quantizer,
            recipe=entries,
            keep_float_layers=keep_float_layer or (),
        )
    if report:
        files.write_atomically(report, made.to_json().encode())
    _print(made)


def _print(made: "Conversion") -> None:
    import rich.console
    import rich.markup

    from edge_exray.reporting import formats

    terminal = rich.console.Console(highlight=False, soft_wrap=True)
    terminal.print(
        f"[bold]{rich.markup.escape(made.path)}[/] {formats.size(made.bytes)}, {made.quantization}, signature "
        f"{rich.markup.escape(made.signature)}, {made.seconds:.0f} s"
    )
    for name, specs in (("input", made.inputs), ("output", made.outputs)):
        for key, spec in specs.items():
            terminal.print(
                f"  {name} {rich.markup.escape(key)}: {spec.dtype} {rich.markup.escape(str(list(spec.shape)))}"
            )
    if made.kept_layers:
        terminal.print(f"  kept in float: {rich.markup.escape(', '.join(made.kept_layers))}")
    if made.left_float:
        terminal.print(f"  left in float: {rich.markup.escape(', '.join(made.left_float))}")
    for note in made.notes:
        terminal.print(f"  note: {rich.markup.escape(note)}")
    counts = made.lint["counts"]
    if any(counts.values()):
        terminal.print(f"  lint: {', '.join(f'{n} {kind}s' for kind, n in counts.items())}; exray lint {made.path}")
