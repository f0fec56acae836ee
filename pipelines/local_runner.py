"""Runs the demo pipeline on this machine: `python -m edge_exray.pipelines.local_runner --root DIR`.

Exit status: 0 the edge model was pushed, 2 it was blocked; a pipeline that breaks ends with its error.
"""

import argparse
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from absl import logging
from tfx import v1 as tfx

from edge_exray import processes
from edge_exray.pipelines import baselines, pipeline, run_record, tiles
from edge_exray.pipelines.command_line import Parser


def run_pipeline(
    root: str | os.PathLike[str], *, data_root: str | os.PathLike[str] | None = None, **options: Any
) -> run_record.RunRecord:
    """Runs the pipeline with LocalDagRunner and SQLite metadata; steps that ran before come from the cache.

    Args:
        root: Folder of everything that the run writes; see `edge_exray.pipelines.run_record.Layout`.
        data_root: Folder with `train/` and `eval/`; default: the demo's tiles, written under the root.
        **options: Further arguments of `create_pipeline`.

    Returns:
        What came of it.
    """
    layout = run_record.Layout(pathlib.Path(root).resolve())
    layout.root.mkdir(parents=True, exist_ok=True)
    if data_root is None:
        data_root = layout.data
        tiles.write_tfrecords(data_root)
    tfx.orchestration.LocalDagRunner().run(
        pipeline.create_pipeline(
            pipeline_name=pipeline.PIPELINE_NAME,
            pipeline_root=str(layout.artifacts),
            data_root=str(pathlib.Path(data_root).resolve()),
            serving_model_dir=str(layout.serving),
            metadata_connection_config=tfx.orchestration.metadata.sqlite_metadata_connection_config(
                str(layout.metadata)
            ),
            **options,
        )
    )
    return run_record.latest_run(layout)


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, runs the pipeline, prints the outcome and returns the exit status."""
    parser = Parser(description="Run the demo pipeline on this machine.", argument_default=argparse.SUPPRESS)
    parser.add_argument("--root", required=True, help="folder of everything that the run writes")
    parser.add_argument("--data-root", help="folder with train/ and eval/ TFRecords (default: the demo's tiles)")
    parser.add_argument(
        "--baseline-report",
        action="store_true",
        default=False,
        help="compare with the report of the model that was blessed last",
    )
    parser.add_argument(
        "--baseline-profile",
        action="store_true",
        default=False,
        help="compare with its latency too; the profile spec then needs a max_latency_growth",
    )
    pipeline.add_arguments(parser)
    options = vars(parser.parse_args(argv))
    baseline = baselines.last_blessed(report=options.pop("baseline_report"), profile=options.pop("baseline_profile"))
    logging.set_verbosity(logging.INFO)
    record = run_pipeline(**options, baseline=baseline)
    print(record.outcome())
    return 0 if record.pushed else 2


if __name__ == "__main__":
    processes.end_with_parent()
    sys.exit(main())
