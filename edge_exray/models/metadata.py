"""The input contract inside a .tflite: an entry of the flatbuffer's metadata that apps and tools can read.

A contract is attached by putting a new root in front of the flatbuffer. All tables and tensors behind it keep their
bytes, and their alignment, which a flatbuffer that is unpacked and packed again in Python loses:

    new root, list of buffers, list of metadata | contract (JSON) | length | the .tflite as it was | padding
"""

import os
import pathlib
import struct
from typing import Any

from edge_exray import errors
from edge_exray.contract import InputContract
from edge_exray.models import locations

ENTRY = "EDGE_EXRAY_INPUT_CONTRACT"
"""Name of the metadata; its buffer holds the JSON of `schemas/input_contract.schema.json`."""

_ALIGNMENT = 16  # of the buffers, in TFLite's schema
_LENGTH = 4  # of the length of a vector, little endian
_MAX_BYTES = 2**31 - 2**20  # offsets of a flatbuffer are signed 32 bits wide; the new head fits into the rest


def read_contract(model: str | os.PathLike[str] | bytes) -> InputContract | None:
    """Reads the input contract of a .tflite.

    Args:
        model: Path of the file, or its bytes.

    Returns:
        The contract; None when the model carries none.

    Raises:
        ModelError: The file is missing or no .tflite.
        SpecError: The contract has been damaged, or another version wrote it.
    """
    if isinstance(model, bytes):
        locations.check_identifier(model, "<bytes>")
        return contract_in(model, "<bytes>")
    locations.check_tflite(model)
    return contract_in(pathlib.Path(model).read_bytes(), os.fspath(model))


def contract_in(content: bytes, path: str) -> InputContract | None:
    """Does what `read_contract` does with the content of a .tflite; `path` names it in messages."""
    try:
        entry = _entry(content)
    except (struct.error, ValueError, IndexError) as e:
        raise errors.ModelError(f"{path} is damaged: its metadata cannot be read ({e}); convert it again") from e
    if entry is None:
        return None
    begin, end = entry
    return InputContract.from_json(content[begin:end].decode("utf-8", "replace"), f"of {path}")


def attach(content: bytes, contract: InputContract) -> bytes:
    """Returns a .tflite with a contract in place of one that it may have; the same arguments give the same bytes.

    Args:
        content: A flatbuffer that LiteRT's interpreter accepts.
        contract: The contract; that it fits the model is for the caller to check.

    Raises:
        ModelError: Tensors lie outside the flatbuffer, or it has tables that this version does not know.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    content = detach(content)
    model = schema.Model.GetRootAsModel(content, 0)
    _require_whole(content, model)
    padding = -len(content) % _ALIGNMENT
    builder = flatbuffers.Builder(len(content) + 2**16)
    builder.Prep(_ALIGNMENT, 0)
    builder.Pad(padding)
    builder.CreateByteVector(content)

    def moved(position: int) -> int:
        # Builders count from the end.
        return len(content) + padding - position

    def field(slot: int) -> int:
        offset = model._tab.Offset(4 + 2 * slot)
        return moved(model._tab.Indirect(offset + model._tab.Pos)) if offset else 0

    data = builder.CreateByteVector(contract.to_json().encode())
    name = builder.CreateString(ENTRY)
    schema.BufferStart(builder)
    schema.BufferAddData(builder, data)
    buffer = schema.BufferEnd(builder)
    schema.MetadataStart(builder)
    schema.MetadataAddName(builder, name)
    schema.MetadataAddBuffer(builder, model.BuffersLength())
    entry = schema.MetadataEnd(builder)
    buffers = [moved(model.Buffers(i)._tab.Pos) for i in range(model.BuffersLength())]
    others = [model.Metadata(i) for i in range(model.MetadataLength())]
    kept = [moved(other._tab.Pos) for other in others if other.Name() != ENTRY.encode()]
    all_buffers = _offsets(builder, [*buffers, buffer])
    metadata = _offsets(builder, [*kept, entry])
    schema.ModelStart(builder)
    schema.ModelAddVersion(builder, model.Version())
    schema.ModelAddOperatorCodes(builder, field(1))
    schema.ModelAddSubgraphs(builder, field(2))
    schema.ModelAddDescription(builder, field(3))
    schema.ModelAddBuffers(builder, all_buffers)
    schema.ModelAddMetadataBuffer(builder, field(5))
    schema.ModelAddMetadata(builder, metadata)
    schema.ModelAddSignatureDefs(builder, field(7))
    builder.Finish(schema.ModelEnd(builder), b"TFL3")
    return bytes(builder.Output())


def detach(content: bytes) -> bytes:
    """Returns the bytes that a contract was attached to; those of any other model as they are."""
    entry = _entry(content)
    if entry is None:
        return content
    begin = -(-(entry[1] + _LENGTH) // _ALIGNMENT) * _ALIGNMENT
    length = int.from_bytes(content[begin - _LENGTH : begin], "little")
    whole = content[begin : begin + length]
    # Another tool may have packed the flatbuffer anew, which keeps the contract but not its place.
    return whole if whole[4:8] == b"TFL3" else content


def _entry(content: bytes) -> tuple[int, int] | None:
    """Returns where the contract begins and ends in the file."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAsModel(content, 0)
    for i in range(model.MetadataLength()):
        metadata = model.Metadata(i)
        if metadata.Name() == ENTRY.encode():
            buffer = model.Buffers(metadata.Buffer())
            begin = buffer._tab.Vector(buffer._tab.Offset(4))
            return begin, begin + buffer.DataLength()
    return None


def _require_whole(content: bytes, model: Any) -> None:
    outside = any(model.Buffers(i).Offset() > 1 for i in range(model.BuffersLength()))
    if outside or model.ExternalBuffersLength() or len(content) > _MAX_BYTES:
        raise errors.ModelError(
            "an input contract cannot be stored in this model: its weights lie outside the flatbuffer, or there is no "
            "room left below 2 GB; convert without input_contract, or to a smaller mode"
        )
    table = model._tab
    (size,) = struct.unpack_from("<H", content, table.Pos - struct.unpack_from("<i", content, table.Pos)[0])
    if size > 4 + 2 * 10:
        raise errors.ModelError(
            "an input contract cannot be stored in this model: its root has fields that this version does not know; "
            "convert without input_contract"
        )


def _offsets(builder: Any, offsets: list[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()
