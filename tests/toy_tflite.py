"""TFLite files with a few constants, for tests: put together with the `flatbuffers` that TensorFlow brings."""

import flatbuffers
import numpy as np

TYPES = {np.dtype(np.float32): 0, np.dtype(np.int8): 9}


def build(constants: dict[str, np.ndarray], graphs: int = 1, times: int = 1) -> bytes:
    """A file of one subgraph; integers stand for ``(value - 2) / 2``. The first buffer is empty, as TFLite wants it.

    It may be named as several `graphs`, and its tensors several `times`: all these offsets lead to the same places.
    """
    builder = flatbuffers.Builder(0)
    buffers = [_table(builder, {})]
    tensors = []
    for name, array in constants.items():
        buffers.append(_table(builder, {0: ("offset", builder.CreateNumpyVector(array.reshape(-1).view(np.uint8)))}))
        text = builder.CreateString(name)
        shape = builder.CreateNumpyVector(np.array(array.shape, np.int32))
        fields = {0: ("offset", shape), 1: ("int8", TYPES[array.dtype]), 2: ("uint32", len(buffers) - 1)}
        fields[3] = ("offset", text)
        if array.dtype == np.int8:
            scales = builder.CreateNumpyVector(np.array([0.5], np.float32))
            zeros = builder.CreateNumpyVector(np.array([2], np.int64))
            fields[4] = ("offset", _table(builder, {2: ("offset", scales), 3: ("offset", zeros)}))
        tensors.append(_table(builder, fields))
    graph = _table(builder, {0: ("offset", _vector(builder, tensors * times))})
    all_graphs, all_buffers = _vector(builder, [graph] * graphs), _vector(builder, buffers)
    model = _table(builder, {0: ("uint32", 3), 2: ("offset", all_graphs), 4: ("offset", all_buffers)})
    builder.Finish(model, b"TFL3")
    return bytes(builder.Output())


def _table(builder: flatbuffers.Builder, fields: dict[int, tuple[str, int]]) -> int:
    builder.StartObject(8)
    for number, (kind, value) in fields.items():
        if kind == "offset":
            builder.PrependUOffsetTRelativeSlot(number, value, 0)
        elif kind == "int8":
            builder.PrependInt8Slot(number, value, 0)
        else:
            builder.PrependUint32Slot(number, value, 0)
    return builder.EndObject()


def _vector(builder: flatbuffers.Builder, places: list[int]) -> int:
    builder.StartVector(4, len(places), 4)
    for place in reversed(places):
        builder.PrependUOffsetTRelative(place)
    return builder.EndVector()
