"""Runs the pipeline on this machine: `python run_local.py`. Exit status: 0 pushed, 2 blocked."""

import pathlib
import sys

import edge_exray
from edge_exray.pipelines import tiles
from edge_exray.pipelines.command_line import Parser
from tfx import v1 as tfx

import pipeline

OUT = pathlib.Path(__file__).resolve().parent / "out"


def main() -> int:
    """Runs it, prints what came of it, and returns the exit status."""
    parser = Parser(description="Run the pipeline on this machine.")
    parser.add_argument("--train-steps", type=int, default=150, help="batches to train (default: %(default)s)")
    arguments = parser.parse_args()
    # 32x32 tiles of nine photographs, until there is data of your own.
    tiles.write_tfrecords(OUT / "data")
    metadata = str(OUT / "metadata.sqlite")
    tfx.orchestration.LocalDagRunner().run(
        pipeline.create_pipeline(
            root=str(OUT / "artifacts"),
            data=str(OUT / "data"),
            push_to=str(OUT / "pushed"),
            train_steps=arguments.train_steps,
            metadata_connection_config=tfx.orchestration.metadata.sqlite_metadata_connection_config(metadata),
        )
    )
    push = edge_exray.lineage(metadata).push
    print(push)
    for blessing in push.blessings:
        print(f"report of {blessing.component}: {blessing.page}")
    return 0 if push.pushed and push.is_there else 2


if __name__ == "__main__":
    sys.exit(main())
