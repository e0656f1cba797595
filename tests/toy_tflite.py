"""TFLite files with a few constants, for tests: put together by the classes that TensorFlow brings."""

import flatbuffers
import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

TYPES = {np.dtype(np.float32): 0, np.dtype(np.int8): 9}


def build(constants: dict[str, np.ndarray], graphs: int = 1, times: int = 1) -> bytes:
    """A file of one subgraph; integers stand for ``(value - 2) / 2``. The first buffer is empty, as TFLite wants it.

    It may have several `graphs`, and their tensors several `times`: all of these share the buffers.
    """
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.subgraphs, model.buffers = 3, [graph] * graphs, [schema.BufferT()]
    tensors = []
    for name, array in constants.items():
        tensor, buffer = schema.TensorT(), schema.BufferT()
        tensor.name, tensor.shape, tensor.type = name, np.array(array.shape, np.int32), TYPES[array.dtype]
        tensor.buffer, buffer.data = len(model.buffers), array.reshape(-1).view(np.uint8)
        if array.dtype == np.int8:
            tensor.quantization = rounding = schema.QuantizationParametersT()
            rounding.scale, rounding.zeroPoint = np.array([0.5], np.float32), np.array([2], np.int64)
        tensors.append(tensor)
        model.buffers.append(buffer)
    graph.tensors = tensors * times
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
