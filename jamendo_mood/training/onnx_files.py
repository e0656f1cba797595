"""A tagger as ONNX files, for programs that are not Python: the embedder's network, and the heads on its rows.

What heads and calibration compute is written once, in NumPy. It is written down as a graph by being run on a `_Traced`,
which notes what NumPy is asked to do with it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.embedders.engines import Graph, to_onnx
from jamendo_mood.embedders.registry import Embedder
from jamendo_mood.training.data import POOLINGS
from jamendo_mood.training.heads import HEADS
from jamendo_mood.training.model import Tagger
from jamendo_mood.util import files
from jamendo_mood.util.errors import UsageError

EMBEDDER, TAGGER = "embedder.onnx", "tagger.onnx"

_OPERATIONS = {
    "add": "Add",
    "subtract": "Sub",
    "multiply": "Mul",
    "divide": "Div",
    "matmul": "MatMul",
    "maximum": "Max",
    "minimum": "Min",
    "negative": "Neg",
    "absolute": "Abs",
    "sqrt": "Sqrt",
    "exp": "Exp",
    "log": "Log",
}


def export_onnx(tagger: Tagger, embedder: Embedder, folder: Path) -> None:
    """Write ``embedder.onnx`` and ``tagger.onnx``, which give what the tagger gives to within rounding.

    The first maps pictures, float32 (n, frames, bands), to embeddings, float32 (n, dim), one a window; the second the
    embeddings of one whole track, float32 (frames, dim), to scores, float32 (targets,). Notes in the files say what the
    pictures are made of, and the targets and their thresholds. Raises `UsageError` for what cannot be written so: an
    embedder without a network, a head that NumPy does not compute, and a dynamic task.
    """
    spec, task = embedder.spec, tagger.task
    if embedder.define is None:
        raise UsageError(f"the embedder {spec.name} is not one network, which an ONNX file could hold")
    if HEADS[tagger.head.name].compute is None or task.rate_hz is not None:
        what = f"a head {tagger.head.name!r}" if task.rate_hz is None else "a tagger of a dynamic task"
        raise UsageError(f"{what} cannot be written as ONNX: only linear, mlp, attention and svm on whole tracks can")
    made_with = json.dumps({name: own for name, own in asdict(spec).items() if name not in ("precision", "engine")})
    network = to_onnx(embedder.define(), embedder=made_with)
    graph = Graph()
    _score(tagger, _Traced(graph, "x", np.dtype(np.float32)))
    notes = {
        "kind": task.kind,
        "targets": json.dumps(task.targets),
        "thresholds": json.dumps([float(own) if np.isfinite(own) else None for own in tagger.thresholds]),
    }
    scores = graph.to_bytes("tagger", ("frames", spec.dim), embedder=made_with, **notes)
    files.write_output(folder / EMBEDDER, network)
    files.write_output(folder / TAGGER, scores)


def _score(tagger: Tagger, frames: Any) -> None:
    """`Tagger.score_track`, without what a batch of tracks of different lengths needs."""
    rows = POOLINGS[tagger.head.pooling](frames.reshape(1, -1, tagger.spec.dim))
    present: Any = rows.max(axis=-1) * 0 + 1  # no row is padding
    found = [head((rows, present)) for head in tagger.heads]
    mean: Any = sum(found[1:], found[0]) / len(found)
    tagger.task.rules.calibrated(mean, tagger.calibration).reshape(-1)


@dataclass(frozen=True)
class _Traced(np.lib.mixins.NDArrayOperatorsMixin):
    """Stands for an array that is not known yet."""

    graph: Graph
    name: str
    dtype: np.dtype[Any]

    def _add(self, operation: str, *inputs: Any, dtype: npt.DTypeLike | None = None, **attributes: Any) -> _Traced:
        names = [own.name if isinstance(own, _Traced) else np.asarray(own, self.dtype) for own in inputs]
        return _Traced(self.graph, self.graph.add_node(operation, *names, **attributes), np.dtype(dtype or self.dtype))

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if method != "__call__" or options:
            return NotImplemented
        if ufunc is np.square:
            return self * self
        if ufunc is np.log1p:
            return np.log(self + 1)
        return self._add(_OPERATIONS[ufunc.__name__], *inputs)

    def __array_function__(self, function: Callable[..., Any], _: Any, arguments: Sequence[Any], options: Any) -> Any:
        if function is np.clip:
            x, low, high = arguments
            return np.minimum(np.maximum(x, low), high)
        if function is np.concatenate:
            return arguments[0][0]._add("Concat", *arguments[0], **options)
        return NotImplemented

    def __getitem__(self, key: Any) -> _Traced:
        if key == (Ellipsis, np.newaxis):
            return self._with("Unsqueeze", [-1])
        dots, rows, every = key
        assert (dots, rows.start, every) == (Ellipsis, None, slice(None)), "all else that is asked of an array here"
        return self._with("Slice", [0], [rows.stop], [-2])

    def _with(self, operation: str, *lists: Sequence[int], **attributes: Any) -> _Traced:
        """A node whose further inputs are lists of numbers."""
        numbers = [np.array(own, np.int64) for own in lists]
        name = self.graph.add_node(operation, self.name, *numbers, **attributes)
        return _Traced(self.graph, name, self.dtype)

    def reshape(self, *shape: int) -> _Traced:
        return self._with("Reshape", shape)

    def astype(self, dtype: npt.DTypeLike) -> _Traced:
        from onnx import helper

        return self._add("Cast", self, dtype=dtype, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def sum(self, axis: int, *, keepdims: bool = False) -> _Traced:
        return self._with("ReduceSum", [axis], keepdims=int(keepdims))

    def mean(self, axis: int, *, keepdims: bool = False) -> _Traced:
        return self._add("ReduceMean", self, axes=[axis], keepdims=int(keepdims))

    def max(self, axis: int, *, keepdims: bool = False) -> _Traced:
        return self._add("ReduceMax", self, axes=[axis], keepdims=int(keepdims))

    def std(self, axis: int, *, keepdims: bool = False) -> Any:
        away = self - self.mean(axis, keepdims=True)
        return np.sqrt((away * away).mean(axis, keepdims=keepdims))
