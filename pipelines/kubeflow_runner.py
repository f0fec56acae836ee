"""Compiles the demo pipeline for Kubeflow Pipelines v2: `python -m edge_exray.pipelines.kubeflow_runner --help`."""

import argparse
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
import yaml
from tfx import v1 as tfx

from edge_exray import errors, files
from edge_exray.pipelines import baselines, pipeline

RUNTIME_PARAMETERS = {
    "data_root": ("ImportExampleGen", "input_base"),
    "train_args": ("Trainer", "train_args"),
    "quantization": ("EdgeConverter", "quantization"),
    "app_module_path": ("EdgeReplay", "module_path"),
    "profile_spec": ("KernelProfiler", "profile_spec"),
    "validation_spec": ("LayerValidator", "validation_spec"),
    "push_destination": ("Pusher", "push_destination"),
}
"""What every run of the demo may give anew: its name to the component and the execution property."""
BASELINE_PARAMETERS = {name: (name, "artifact_uri") for name in ("baseline_report", "baseline_profile")}
"""Those of the importers of `edge_exray.pipelines.baselines.imported`."""


def compile_pipeline(
    tfx_pipeline: tfx.dsl.Pipeline,
    output: str | os.PathLike[str],
    *,
    image: str,
    runtime_parameters: Mapping[str, tuple[str, str]] | None = None,
) -> None:
    """Writes the specification of a pipeline, in schema 2.1, which the open-source Kubeflow Pipelines understands.

    Args:
        tfx_pipeline: The pipeline; its paths are what the containers see.
        output: File to write: `.json` for a pipeline job, any other suffix for the YAML of a pipeline spec.
        image: Container image that has edge-exray and TFX installed.
        runtime_parameters: Name of what every run may give anew, to the component and its execution property. What
            the pipeline was made with is the default. TFX's own `RuntimeParameter` reaches the specification without
            its default, and keeps a component from checking its value when the pipeline is built.

    Raises:
        SpecError: The pipeline has a resolver, lacks what a runtime parameter is for, or has module files and a root
            that TensorFlow cannot write to.
        ArtifactError: The file cannot be written.
    """
    resolvers = [node.id for node in tfx_pipeline.components if isinstance(node, tfx.dsl.Resolver)]
    if resolvers:
        raise errors.SpecError(
            f"Kubeflow Pipelines runs no resolvers, but the pipeline {tfx_pipeline.pipeline_info.pipeline_name} has "
            f"{', '.join(resolvers)}: import artifacts of given URIs instead, a baseline by "
            "edge_exray.pipelines.baselines.imported"
        )
    runner = tfx.orchestration.experimental.KubeflowV2DagRunner(
        config=tfx.orchestration.experimental.KubeflowV2DagRunnerConfig(default_image=image, use_pipeline_spec_2_1=True)
    )
    try:
        job = runner.run(tfx_pipeline, write_out=False)
    except tf.errors.UnimplementedError as e:
        raise errors.SpecError(
            f"cannot write module files of the pipeline to its root {tfx_pipeline.pipeline_info.pipeline_root}: TFX "
            "packs each module_file into a wheel there when a pipeline is compiled, and TensorFlow has no file system "
            "for it here; take a root in a gs:// bucket or a folder that the containers mount too, or give every "
            "component its module by a dotted name"
        ) from e
    spec = job["pipelineSpec"]
    # TFX writes it into a job only.
    spec["defaultPipelineRoot"] = tfx_pipeline.pipeline_info.pipeline_root
    for name, (task, key) in (runtime_parameters or {}).items():
        _parametrize(spec, name, task, key)
    as_job = pathlib.Path(output).suffix == ".json"
    files.write_atomically(output, (json.dumps(job, sort_keys=True) if as_job else yaml.safe_dump(spec)).encode())


def _parametrize(spec: dict[str, Any], name: str, task: str, key: str) -> None:
    """Makes a constant of a task the default of a parameter of the pipeline."""
    parameters = spec["root"]["dag"]["tasks"].get(task, {}).get("inputs", {}).get("parameters", {})
    if "runtimeValue" not in parameters.get(key, {}):
        raise errors.SpecError(
            f"runtime parameter {name}: the pipeline {spec['pipelineInfo']['name']} has no constant {key} of {task}; "
            f"of {task} there are {', '.join(sorted(parameters)) or 'none'}"
        )
    component = spec["components"][spec["root"]["dag"]["tasks"][task]["componentRef"]["name"]]
    spec["root"].setdefault("inputDefinitions", {}).setdefault("parameters", {})[name] = {
        "parameterType": component["inputDefinitions"]["parameters"][key]["parameterType"],
        "defaultValue": parameters[key]["runtimeValue"]["constant"],
        "isOptional": True,
    }
    parameters[key] = {"componentInputParameter": name}
    executor = spec["deploymentSpec"]["executors"][component["executorLabel"]]
    if "importer" in executor and key == "artifact_uri":
        # An importer has its own copy of the URI.
        executor["importer"]["artifactUri"] = {"runtimeParameter": key}


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the command line and compiles the demo pipeline."""
    parser = argparse.ArgumentParser(
        description="Compile the demo pipeline for Kubeflow Pipelines v2.",
        epilog=f"Every run may give anew: {', '.join([*RUNTIME_PARAMETERS, *BASELINE_PARAMETERS])}; what was compiled "
        "is the default. train_args and push_destination are JSON of TFX's TrainArgs and PushDestination.",
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--output", default="edge-exray-demo.yaml", help="file to write (default: %(default)s)")
    parser.add_argument("--image", required=True, help="container image with edge-exray and TFX")
    parser.add_argument("--pipeline-root", required=True, help="bucket or path of all artifacts")
    parser.add_argument("--data-root", required=True, help="bucket or path with train/ and eval/ TFRecords")
    parser.add_argument("--serving-model-dir", required=True, help="bucket or path that blessed models are pushed to")
    parser.add_argument("--pipeline-name", default=pipeline.PIPELINE_NAME, help="default: %(default)s")
    parser.add_argument("--baseline-report", metavar="URI", default=None, help="report of the last blessed model")
    parser.add_argument("--baseline-profile", metavar="URI", default=None, help="profile of the last blessed model")
    pipeline.add_arguments(parser)
    options = vars(parser.parse_args(argv))
    output, image = options.pop("output"), options.pop("image")
    uris = {name: uri for name in BASELINE_PARAMETERS if (uri := options.pop(name))}
    baseline = baselines.imported(report=uris.get("baseline_report"), profile=uris.get("baseline_profile"))
    compile_pipeline(
        pipeline.create_pipeline(**options, baseline=baseline),
        output,
        image=image,
        runtime_parameters=RUNTIME_PARAMETERS | {name: BASELINE_PARAMETERS[name] for name in uris},
    )
    print(f"compiled to {output}")


if __name__ == "__main__":
    main()
