"""The demo pipeline: train, convert, replay, profile, validate, and push what behaves on the device as in the cloud."""

import argparse
import pathlib
from collections.abc import Sequence

import tensorflow_model_analysis as tfma
from ml_metadata.proto import metadata_store_pb2
from tfx import v1 as tfx
from tfx.proto import example_gen_pb2

from edge_exray.components import EdgeConverter, EdgeReplay, KernelProfiler, LayerValidator, Pusher, fingerprints
from edge_exray.contract import InputContract, InputFormat
from edge_exray.pipelines import tiles
from edge_exray.pipelines.baselines import Baseline

PIPELINE_NAME = "edge-exray-demo"
INPUT_CONTRACT = InputContract(
    inputs={
        "image": InputFormat("RGB", height=tiles.TILE_SIZE, width=tiles.TILE_SIZE, mean=(127.5,), std=(127.5,)),
    },
    task="classification",
    labels=tiles.CLASSES,
)
"""What an app must feed; the edge model carries it."""
DEMO_MODULE = "edge_exray.pipelines.demo_module"
TRAINER = "edge_exray.pipelines.trainer"
TRAIN_STEPS = 300


def create_pipeline(
    *,
    pipeline_name: str,
    pipeline_root: str,
    data_root: str,
    serving_model_dir: str,
    module_path: str = DEMO_MODULE,
    app_module_path: str | None = None,
    train_steps: int = TRAIN_STEPS,
    quantization: str = "int8",
    validation_spec: str | None = None,
    profile_spec: str | None = None,
    eval_config: tfma.EvalConfig | None = None,
    baseline: Baseline | None = None,
    metadata_connection_config: metadata_store_pb2.ConnectionConfig | None = None,
    beam_pipeline_args: Sequence[str] = (),
) -> tfx.dsl.Pipeline:
    """Builds ImportExampleGen -> Trainer -> EdgeConverter -> EdgeReplay, KernelProfiler -> LayerValidator -> Pusher.

    Args:
        pipeline_name: Name in the metadata; runs of the same name share the cache.
        pipeline_root: Folder of all artifacts.
        data_root: Folder with `train/` and `eval/`, see `edge_exray.pipelines.tiles.write_tfrecords`.
        serving_model_dir: Where a blessed edge model is pushed, in a folder named by the time.
        module_path: Importable module with the functions that make model inputs of examples; it calibrates the
            conversion and is the reference of the replay.
        app_module_path: Module whose `edge_inputs_fn` does what the app does; default `module_path`.
        train_steps: Batches to train.
        quantization: See EdgeConverter.
        validation_spec: JSON of the LayerValidator's thresholds; None for the defaults.
        profile_spec: JSON of the KernelProfiler's budgets; None for the defaults.
        eval_config: Further TFMA metrics and thresholds on the replay's predictions.
        baseline: How the pipeline comes by what it compares new models with, see `edge_exray.pipelines.baselines`; None
            compares with nothing.
        metadata_connection_config: Where the metadata goes; None on Kubeflow, which has its own.
        beam_pipeline_args: Passed to every Beam pipeline.
    """
    baseline = baseline or Baseline()
    example_gen = tfx.components.ImportExampleGen(
        input_base=data_root,
        input_config=example_gen_pb2.Input(
            splits=[example_gen_pb2.Input.Split(name=split, pattern=f"{split}/*") for split in ("train", "eval")]
        ),
    )
    trainer = tfx.components.Trainer(
        # A dotted path: `module_file` would build and install a wheel of this whole folder on every run.
        run_fn=f"{TRAINER}.run_fn",
        examples=example_gen.outputs["examples"],
        train_args=tfx.proto.TrainArgs(num_steps=train_steps),
        eval_args=tfx.proto.EvalArgs(),
        # TFX's cache knows a dotted path by its name only.
        custom_config={"module_content": fingerprints.of_module(module_path=TRAINER)},
    )
    converter = EdgeConverter(
        model=trainer.outputs["model"],
        examples=example_gen.outputs["examples"],
        quantization=quantization,
        signature_name="serving_dense",
        module_path=module_path,
        input_contract=INPUT_CONTRACT.to_json(),
    )
    replay = EdgeReplay(
        model=trainer.outputs["model"],
        edge_model=converter.outputs["edge_model"],
        float_edge_model=converter.outputs["float_edge_model"],
        examples=example_gen.outputs["examples"],
        splits=["eval"],
        signature_name="serving_dense",
        module_path=app_module_path or module_path,
    )
    profiler = KernelProfiler(
        edge_model=converter.outputs["edge_model"],
        float_edge_model=converter.outputs["float_edge_model"],
        baseline_profile=baseline.profile,
        profile_spec=profile_spec,
    )
    validator = LayerValidator(
        replay=replay.outputs["replay"],
        profile=profiler.outputs["profile"],
        baseline_report=baseline.report,
        validation_spec=validation_spec,
        eval_config=eval_config,
    )
    pusher = Pusher(
        model=converter.outputs["edge_model"],
        model_blessing=validator.outputs["blessing"],
        infra_blessing=profiler.outputs["blessing"],
        push_destination=tfx.proto.PushDestination(
            filesystem=tfx.proto.PushDestination.Filesystem(base_directory=serving_model_dir)
        ),
    )
    return tfx.dsl.Pipeline(
        pipeline_name=pipeline_name,
        pipeline_root=pipeline_root,
        components=[*baseline.nodes, example_gen, trainer, converter, replay, profiler, validator, pusher],
        enable_cache=True,
        metadata_connection_config=metadata_connection_config,
        beam_pipeline_args=list(beam_pipeline_args),
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what all runners take of `create_pipeline` from the command line."""
    parser.add_argument("--module-path", help=f"importable module of the functions (default: {DEMO_MODULE})")
    parser.add_argument("--app-module-path", help="module whose edge_inputs_fn does what the app does")
    parser.add_argument("--train-steps", type=int, help=f"batches to train (default: {TRAIN_STEPS})")
    parser.add_argument("--quantization", help="see EdgeConverter (default: int8)")
    parser.add_argument("--validation-spec", type=_text, metavar="FILE", help="JSON of LayerValidator's thresholds")
    parser.add_argument("--profile-spec", type=_text, metavar="FILE", help="JSON of KernelProfiler's budgets")
    parser.add_argument(
        "--beam-arg", action="append", dest="beam_pipeline_args", metavar="ARG", help="may be given repeatedly"
    )


def _text(path: str) -> str:
    try:
        return pathlib.Path(path).read_text("utf-8")
    except OSError as e:
        raise argparse.ArgumentTypeError(f"{path} is not readable: {e.strerror}") from e
