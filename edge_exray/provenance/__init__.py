import importlib.util

from edge_exray import errors

if importlib.util.find_spec("ml_metadata") is None:
    raise errors.ExrayError("A lineage is read with ml-metadata: run `pip install edge-exray[lineage]`.")
