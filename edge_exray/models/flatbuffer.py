"""A .tflite as the objects of its schema, which can be changed and written again."""

from collections.abc import Iterator
from typing import Any

from edge_exray import errors


def unpack(content: bytes) -> Any:
    """Returns the model (`ModelT` of the schema) that a flatbuffer holds.

    Args:
        content: A flatbuffer that LiteRT's interpreter has accepted; a damaged one gives undefined results.
    """
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))


def pack(model: Any, size: int) -> bytes:
    """Returns the flatbuffer of a model.

    Args:
        model: What `unpack` returned, changed as one likes.
        size: About how many bytes it takes.
    """
    import flatbuffers

    builder = flatbuffers.Builder(size)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def keeps_data_outside(model: Any) -> bool:
    """True when constants lie behind the flatbuffer, as those of very large models do: `pack` would lose them."""
    return any(getattr(buffer, "offset", 0) > 1 for buffer in model.buffers)


def names_graph(option: str) -> bool:
    """True for an option of control flow that holds the index of a graph, such as the body of a WHILE."""
    return option.lower().endswith(("subgraph", "subgraphindex"))


def subgraph_options(operator: Any) -> Iterator[tuple[Any, str, int]]:
    """Yields the options of an op of control flow that name a graph: their object, the attribute and its value."""
    for options in (operator.builtinOptions, getattr(operator, "builtinOptions2", None)):
        for name, value in vars(options).items() if options is not None else ():
            # 0 is an option that is not set: the graph that an app calls is nobody's body.
            if names_graph(name) and value > 0:
                yield options, name, value


def lead_with(content: bytes, signature: str) -> bytes:
    """Puts the graph that computes a signature first, where an interpreter runs it and shows its tensors.

    Args:
        content: A .tflite.
        signature: Name of the signature; of one that the first graph computes, or that is not there, nothing changes.

    Raises:
        ModelError: The constants of the model lie outside the flatbuffer.
    """
    from ai_edge_litert import schema_py_generated as schema

    document = schema.Model.GetRootAsModel(content, 0)
    stored = [document.SignatureDefs(i) for i in range(document.SignatureDefsLength())]
    place = next((s.SubgraphIndex() for s in stored if s.SignatureKey() == signature.encode()), 0)
    if not place:
        return content
    model = unpack(content)
    if keeps_data_outside(model):
        raise errors.ModelError(
            f"signature {signature!r} is not computed by the first graph, and constants lie outside the flatbuffer: "
            "convert it into a file of its own"
        )
    swapped = {0: place, place: 0}
    model.subgraphs[0], model.subgraphs[place] = model.subgraphs[place], model.subgraphs[0]
    for definition in model.signatureDefs:
        definition.subgraphIndex = swapped.get(definition.subgraphIndex, definition.subgraphIndex)
    for subgraph in model.subgraphs:
        for operator in subgraph.operators:
            for options, name, value in list(subgraph_options(operator)):
                setattr(options, name, swapped.get(value, value))
    # A list by graph of what must run before what, beyond the order of the ops, which suffices.
    model.metadata = [entry for entry in model.metadata or () if entry.name != b"model_control_dependencies"]
    return pack(model, len(content))
