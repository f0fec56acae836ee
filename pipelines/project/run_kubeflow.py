"""Compiles the pipeline for Kubeflow Pipelines v2: `python run_kubeflow.py --help`."""

import argparse

from edge_exray.pipelines import kubeflow_runner

import pipeline


def main() -> None:
    """Writes the specification that Kubeflow Pipelines runs."""
    parser = argparse.ArgumentParser(description="Compile the pipeline for Kubeflow Pipelines v2.")
    place = "gs:// bucket, or folder mounted in the containers,"
    parser.add_argument("--image", required=True, help="container image with edge-exray and TFX")
    parser.add_argument("--root", required=True, help=f"{place} for all artifacts")
    parser.add_argument("--data", required=True, help=f"{place} with TFRecords in train/ and eval/")
    parser.add_argument("--push-to", required=True, help=f"{place} that blessed models are pushed to")
    parser.add_argument("--output", default="pipeline.yaml", help="file to write (default: %(default)s)")
    arguments = parser.parse_args()
    kubeflow_runner.compile_pipeline(
        pipeline.create_pipeline(arguments.root, arguments.data, arguments.push_to),
        arguments.output,
        image=arguments.image,
        # What a run may give anew.
        runtime_parameters={
            "data_root": ("ImportExampleGen", "input_base"),
            "push_destination": ("Pusher", "push_destination"),
        },
    )
    print(f"compiled to {arguments.output}")


if __name__ == "__main__":
    main()
