"""Quantises the float edge model with ai-edge-quantizer, by its recipes.

A recipe is a list of entries `{"regex", "operation", "algorithm_key", "op_config"}`, as ai-edge-quantizer's functions
return and its JSON files hold them. For an op holds the last one whose expression is found in its name, whose operation
it is, and whose configuration there are kernels for. An op without any stays as it is: silently there, told here.
"""

import inspect
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from edge_exray import errors
from edge_exray.conversion.modes import Mode
from edge_exray.models.graph import Graph, Op
from edge_exray.models.layouts import WEIGHTED_OPS
from edge_exray.models.messages import first_line
from edge_exray.specs import did_you_mean

Recipe = list[dict[str, Any]]

_ALL = ".*"
_LEAVE = "no_quantize"

# Ops whose second input holds weights, which a bias follows from. A constant of others is stored like an activation.
_WEIGHTED = {*WEIGHTED_OPS, "EMBEDDING_LOOKUP"}

# Algorithms that gather more than ranges, with updates of their own.
_GATHERING = {"GPTQ", "OSCAR"}


def require() -> None:
    """Imports ai-edge-quantizer.

    Raises:
        ExrayError: It is not installed.
    """
    # It uses np.typing without an import, which NumPy 1 has only after one.
    import numpy.typing  # noqa: F401

    try:
        import ai_edge_quantizer  # noqa: F401
    except ModuleNotFoundError as e:
        raise errors.ExrayError(
            f"Recipes and quantizer='ai_edge_quantizer' need the package {e.name}: "
            "run `pip install edge-exray[quantizer]`."
        ) from e


def resolve(recipe: str | os.PathLike[str] | Sequence[Mapping[str, Any]]) -> Recipe:
    """Returns the entries of a recipe in canonical form.

    Args:
        recipe: Name of a recipe that comes with ai-edge-quantizer, such as "dynamic_wi4_afp32"; path of a JSON file; or
            the entries.

    Raises:
        SpecError: There is no such recipe, or an entry is not one that ai-edge-quantizer takes.
        ExrayError: ai-edge-quantizer is not installed.
    """
    require()
    if not isinstance(recipe, str | os.PathLike):
        return _canonical("the recipe", list(recipe))
    title = f"recipe {os.fspath(recipe)!r}"
    from ai_edge_quantizer.utils.recipe_utils import resolve_recipe

    try:
        entries = resolve_recipe(os.fspath(recipe))
    except OSError as e:
        raise errors.SpecError(f"{title} cannot be read: {e.strerror}; give it a JSON file or a name") from e
    except json.JSONDecodeError as e:
        raise errors.SpecError(f"{title} is not valid JSON: {e}") from e
    except ValueError as e:
        near = did_you_mean(os.fspath(recipe), _names())
        raise errors.SpecError(
            f"{title} is neither a file nor one of ai-edge-quantizer{near} Those are {', '.join(_names())}"
        ) from e
    if not isinstance(entries, list):
        raise errors.SpecError(f"{title} maps models to recipes, as LiteRT-LM does: give it the recipe of this model")
    return _canonical(title, entries)


def for_mode(mode: Mode) -> Recipe:
    """Returns the recipe that makes of any model what a mode promises.

    Args:
        mode: One that quantises.
    """
    from ai_edge_quantizer.qtyping import TFLOperationName
    from ai_edge_quantizer.recipe_manager import AlgorithmName, RecipeManager

    manager, every = RecipeManager(), TFLOperationName.ALL_SUPPORTED
    if mode.activations:
        manager.add_static_config(_ALL, every, np.dtype(mode.activations).itemsize * 8, 8)
        for end in (TFLOperationName.INPUT, TFLOperationName.OUTPUT) if mode.io is None else ():
            manager.add_quantization_config(_ALL, end, algorithm_key=AlgorithmName.NO_QUANTIZE)
    elif mode.weights == "float16":
        manager.add_weight_only_config(_ALL, every, 16, algorithm_key=AlgorithmName.FLOAT_CASTING)
    else:
        manager.add_dynamic_config(_ALL, every, 8)
    return manager.get_quantization_recipe()


def keep(recipe: Recipe, graph: Graph, ops: Iterable[Op]) -> Recipe:
    """Returns the recipe with entries at its end that leave these ops of the float edge model as they are."""
    kept = [
        # The operation is named because the output of the model, which stays quantised, goes by the name of its op.
        {"regex": f"^{re.escape(_scope(graph, op.outputs))}$", "operation": _operation(op), "algorithm_key": _LEAVE}
        for op in ops
        if _operation(op) is not None
    ]
    return _canonical("the recipe", [*recipe, *kept])


def quantize(float_edge: bytes, recipe: Recipe, frames: Iterable[Mapping[str, np.ndarray]]) -> bytes:
    """Applies a recipe.

    Args:
        float_edge: Content of the float edge model.
        recipe: See `resolve`.
        frames: Input name to array with batch axis; not touched when the recipe needs no calibration.

    Returns:
        Content of the quantised model.

    Raises:
        ConversionError: ai-edge-quantizer cannot apply the recipe to this model.
    """
    from ai_edge_quantizer import Quantizer

    quantizer = Quantizer(float_edge, recipe)
    try:
        statistics = _calibrate(float_edge, recipe, frames) if quantizer.need_calibration else None
        made = quantizer.quantize(statistics, enable_progress_bar=False, enable_progress_report=False)
    except ValueError as e:
        reason = first_line(e).rstrip(".")
        raise errors.ConversionError(
            f"ai-edge-quantizer cannot apply the recipe: {reason}; choose another scheme for that layer, name it "
            "in keep_float_layers, or take TensorFlow's quantizer"
        ) from e
    return bytes(made.quantized_model)


def _calibrate(float_edge: bytes, recipe: Recipe, frames: Iterable[Mapping[str, np.ndarray]]) -> Any:
    """Measures the tensors as `Quantizer.calibrate` does, but takes the whole range of all frames.

    That takes a moving average of the extremes of each frame, which clips what only some frames have, such as one class
    of four.
    """
    from ai_edge_quantizer.calibrator import Calibrator
    from ai_edge_quantizer.utils.qsv_utils import min_max_update

    gathers = any(entry["algorithm_key"] in _GATHERING for entry in recipe)
    # One thread: the sums of several come in any order.
    calibrator = Calibrator(float_edge, num_threads=1, **({} if gathers else {"qsv_update_func": min_max_update}))
    for frame in frames:
        # One by one: it would make a list of them.
        calibrator.calibrate({None: [frame]}, _manager(recipe))
    return calibrator.get_model_qsvs()


def check(edge: Graph, twins: Mapping[int, int], float_edge: Graph, recipe: Recipe) -> None:
    """Compares a model with the recipe that it was made by, op by op.

    Args:
        edge: The model.
        twins: Tensor that an op of it computes to the same tensor of the float edge model.
        float_edge: What it was made of.
        recipe: See `resolve`.

    Raises:
        ConversionError: An op has other weights or activations than the recipe says.
    """
    manager = _manager(recipe)
    for op in edge.ops:
        twin = float_edge.producers.get(twins.get(op.outputs[0], -1))
        if twin is None or twin.name != op.name:
            continue
        config = _config(manager, _operation(twin), _scope(float_edge, twin.outputs))
        for said, wanted, found in _promises(config, edge, op, float_edge, twin):
            if wanted != found:
                raise errors.ConversionError(
                    f"{op.name} at {edge.tensors[op.outputs[0]].spec.name} has {found} {said}, the recipe asks for "
                    f"{wanted}: choose another scheme for that layer, or name it in keep_float_layers"
                )


def without_effect(graph: Graph, recipe: Recipe) -> list[str]:
    """Tells which entries of a recipe quantise nothing of a float edge model, in words.

    Raises:
        ConversionError: None of them quantises an op.
    """
    from ai_edge_quantizer.qtyping import TFLOperationName

    parts = (graph, *graph.subgraphs.values())
    ops = [(_operation(op), _scope(part, op.outputs)) for part in parts for op in part.ops]
    ends = [
        (TFLOperationName.INPUT, _scope(graph, graph.inputs)),
        (TFLOperationName.OUTPUT, _scope(graph, graph.outputs)),
    ]
    if not any(_quantizes(entry, ops) for entry in recipe):
        raise errors.ConversionError(
            "the recipe quantises no op of this model: its expressions find none, or their operations have no kernels "
            "for what it asks for (see default_policy.py of ai-edge-quantizer)"
        )
    return [
        f"entry {i} of the recipe ({entry['operation']} at {entry['regex']!r}) quantises nothing"
        for i, entry in enumerate(recipe, 1)
        if entry["algorithm_key"] != _LEAVE and not _quantizes(entry, [*ops, *ends])
    ]


def _quantizes(entry: dict[str, Any], places: Iterable[tuple[Any, str]]) -> bool:
    manager = _manager([entry])
    return any(_config(manager, operation, scope) is not None for operation, scope in places)


def _promises(config: Any, edge: Graph, op: Op, float_edge: Graph, twin: Op) -> Iterable[tuple[str, str, str]]:
    """Yields what a recipe says of an op: about what, what it says, and what is the case."""
    if float_edge.tensors[twin.outputs[0]].type == "FLOAT32":
        yield "activations", _type(config and config.activation_tensor_config), edge.tensors[op.outputs[0]].type
    if twin.name not in _WEIGHTED or (source := float_edge.stored_constant(twin.inputs[1])) is None:
        return
    weights = float_edge.tensors[source]
    stored = edge.stored_constant(op.inputs[1])
    if weights.type != "FLOAT32" or stored is None:
        return
    asked = config.weight_tensor_config if config else None
    if asked and np.prod(weights.spec.shape) < config.min_weight_elements:
        asked = None
    yield "weights", _type(asked), edge.tensors[stored].type
    block = re.sub(r"\D", "", asked.granularity) if asked else ""
    yield "weights in a block", block or "all", str(edge.tensors[stored].block_size or "all")


def _type(config: Any) -> str:
    """Returns the name in the TFLite schema of the type that a configuration stores a tensor in."""
    return f"{config.dtype}{config.num_bits}" if config else "FLOAT32"


def _config(manager: Any, operation: Any, scope: str) -> Any:
    """Returns the configuration that holds for an op, None when it stays as it is."""
    if operation is None:
        return None
    algorithm, config = manager.get_quantization_configs(operation, scope)
    return None if algorithm == _LEAVE else config


def _operation(op: Op) -> Any:
    from ai_edge_litert.schema_py_generated import BuiltinOperator
    from ai_edge_quantizer.utils.tfl_flatbuffer_utils import TFL_OP_CODE_TO_NAME

    return TFL_OP_CODE_TO_NAME.get(getattr(BuiltinOperator, op.name, None))


def _scope(graph: Graph, tensors: Iterable[int]) -> str:
    """Returns the text that the expressions of a recipe are searched in, see `get_op_scope` of ai-edge-quantizer.

    Args:
        graph: A graph of the float edge model.
        tensors: The outputs of an op, or the inputs or outputs of the graph.
    """
    return "".join(f"{graph.tensors[t].spec.name};" for t in tensors)


def _canonical(title: str, entries: Sequence[Mapping[str, Any]]) -> Recipe:
    from ai_edge_quantizer.qtyping import TFLOperationName

    try:
        for entry in entries:
            re.compile(entry["regex"])
            TFLOperationName(entry["operation"])
        canonical = _manager(entries).get_quantization_recipe()
    except (ValueError, TypeError, KeyError, re.error) as e:
        missing = "a key is missing, " if isinstance(e, KeyError) else ""
        raise errors.SpecError(f"{title} is not one that ai-edge-quantizer takes: {missing}{e}") from e
    if not canonical:
        raise errors.SpecError(f"{title} has no entries")
    # Their enums become the names that the JSON files have.
    return json.loads(json.dumps(canonical))


def _manager(entries: Sequence[Mapping[str, Any]]) -> Any:
    from ai_edge_quantizer.recipe_manager import RecipeManager

    manager = RecipeManager()
    manager.load_quantization_recipe(entries)
    return manager


def _names() -> list[str]:
    from ai_edge_quantizer import recipe

    return [name for name, _ in inspect.getmembers(recipe, inspect.isfunction) if not name.startswith("_")]
