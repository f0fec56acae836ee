"""Compiles the demo pipeline for Kubeflow Pipelines v2: `python -m edge_exray.pipelines.kubeflow_runner --help`."""

import argparse
import os
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

from tfx import v1 as tfx

from edge_exray.pipelines import pipeline


def compile_pipeline(output: str | os.PathLike[str], *, image: str, **options: Any) -> None:
    """Writes the pipeline's specification.

    Args:
        output: File to write: `.yaml` for a pipeline spec, `.json` for a pipeline job.
        image: Container image that has edge-exray and TFX installed.
        **options: Arguments of `create_pipeline`; the paths are what the containers see.
    """
    output = pathlib.Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    # Schema 2.1: what the open-source Kubeflow Pipelines understands.
    config = tfx.orchestration.experimental.KubeflowV2DagRunnerConfig(default_image=image, use_pipeline_spec_2_1=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as unfinished:
        # The runner takes the format from the suffix of the name.
        runner = tfx.orchestration.experimental.KubeflowV2DagRunner(
            config=config, output_dir=unfinished, output_filename=output.name
        )
        runner.run(pipeline.create_pipeline(**options))
        os.replace(pathlib.Path(unfinished, output.name), output)


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the command line and compiles the pipeline."""
    parser = argparse.ArgumentParser(
        description="Compile the demo pipeline for Kubeflow Pipelines v2.", argument_default=argparse.SUPPRESS
    )
    parser.add_argument("--output", default="edge-exray-demo.yaml", help="file to write (default: %(default)s)")
    parser.add_argument("--image", required=True, help="container image with edge-exray and TFX")
    parser.add_argument("--pipeline-root", required=True, help="bucket or path of all artifacts")
    parser.add_argument("--data-root", required=True, help="bucket or path with train/ and eval/ TFRecords")
    parser.add_argument("--serving-model-dir", required=True, help="bucket or path that blessed models are pushed to")
    parser.add_argument("--pipeline-name", default=pipeline.PIPELINE_NAME, help="default: %(default)s")
    parser.add_argument("--quantization", help="see EdgeConverter (default: int8)")
    options = vars(parser.parse_args(argv))
    compile_pipeline(**options)
    print(f"compiled to {options['output']}")


if __name__ == "__main__":
    main()
