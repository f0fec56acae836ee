"""Trains, converts, compares edge with cloud, and pushes what does on the device what it does in the cloud."""

import pathlib
from typing import Any

from edge_exray.components import EdgeConverter, EdgeReplay, KernelProfiler, LayerValidator, Pusher
from tfx import v1 as tfx
from tfx.proto import example_gen_pb2
from tfx.v1.components import ImportExampleGen, Trainer

PIPELINE_NAME = "$name"
HERE = pathlib.Path(__file__).parent


def create_pipeline(root: str, data: str, push_to: str, train_steps: int = 150, **options: Any) -> tfx.dsl.Pipeline:
    """Builds the pipeline.

    Args:
        root: Folder or bucket of all artifacts.
        data: Folder or bucket with TFRecords of tf.Examples in `train/` and `eval/`.
        push_to: Folder or bucket that blessed models are pushed to.
        train_steps: Batches to train.
        **options: Of the runner: metadata, Beam arguments.
    """
    splits = [example_gen_pb2.Input.Split(name=name, pattern=f"{name}/*") for name in ("train", "eval")]
    example_gen = ImportExampleGen(input_base=data, input_config=example_gen_pb2.Input(splits=splits))
    # Each module file has a folder of its own: TFX takes all that lies beside one along, and into the key of its cache.
    trainer = Trainer(
        module_file=str(HERE / "training/trainer.py"),
        examples=example_gen.outputs["examples"],
        train_args=tfx.proto.TrainArgs(num_steps=train_steps),
        eval_args=tfx.proto.EvalArgs(),
    )
    module = str(HERE / "edge/preprocessing.py")
    push_destination = tfx.proto.PushDestination(
        filesystem=tfx.proto.PushDestination.Filesystem(base_directory=push_to)
    )

    model, examples = trainer.outputs["model"], example_gen.outputs["examples"]
    converter = EdgeConverter(model=model, examples=examples, quantization="int8", module_file=module)
    edge, twin = converter.outputs["edge_model"], converter.outputs["float_edge_model"]
    replay = EdgeReplay(model=model, edge_model=edge, float_edge_model=twin, examples=examples, module_file=module)
    profiler = KernelProfiler(edge_model=edge, profile_spec='{"max_latency_ms": 20, "max_size_bytes": 5000000}')
    validator = LayerValidator(replay=replay.outputs["replay"], profile=profiler.outputs["profile"])
    pusher = Pusher(
        model=edge,
        model_blessing=validator.outputs["blessing"],
        infra_blessing=profiler.outputs["blessing"],
        push_destination=push_destination,
    )

    components = [example_gen, trainer, converter, replay, profiler, validator, pusher]
    return tfx.dsl.Pipeline(PIPELINE_NAME, root, components=components, enable_cache=True, **options)
