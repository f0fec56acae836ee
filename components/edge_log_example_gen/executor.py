"""Executor of EdgeLogExampleGen."""

import json
import os
from typing import Any

from absl import logging
from tfx import types
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_executor
from tfx.dsl.io import fileio
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils

from edge_exray import errors, files
from edge_exray.components import buckets, device_logs
from edge_exray.monitor.log import EdgeLog

FILE = "data_tfrecord-00000-of-00001.gz"


class Executor(base_executor.BaseExecutor):
    """Writes the frames of device logs as examples."""

    @buckets.as_files
    def Do(  # noqa: N802
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs the component.

        Args:
            input_dict: `device_logs`.
            output_dict: `examples`.
            exec_properties: See `EdgeLogExampleGenSpec`.

        Raises:
            DataError: There is no log, or no whole frame in it.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        examples = artifact_utils.get_single_instance(output_dict["examples"])
        split = exec_properties["split"]
        examples.split_names = artifact_utils.encode_split_names([split])
        examples_utils.set_payload_format(examples, example_gen_pb2.FORMAT_TF_EXAMPLE)
        directory = artifact_utils.get_split_uri([examples], split)
        fileio.makedirs(directory)
        names = json.loads(exec_properties["names"])
        with files.scratch("exray-logs-") as folder, device_logs.local(input_dict["device_logs"], folder) as paths:
            log = EdgeLog(*paths)
            frames = log.write_examples(os.path.join(directory, FILE), bool(exec_properties["layers"]), names)
        if not frames:
            raise errors.DataError(f"the device logs have no whole frame: {', '.join(log.files)}")
        counts = {"frames": frames, "damages": len(log.report.damages), "dropped": log.report.dropped}
        for name, count in counts.items():
            examples.set_int_custom_property(name, count)
        logging.info("EdgeLogExampleGen: %s", counts)
        for damage in log.report.damages:
            logging.warning("EdgeLogExampleGen: damaged: %s", damage)
