"""Heads and `Tagger`: everything needed to turn embeddings into scores, and nothing else."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.data import pool, pool_windows
from jamendo_mood.embedders import EmbedderSpec
from jamendo_mood.errors import DataError, UsageError
from jamendo_mood.quiet import import_quietly
from jamendo_mood.store import write_atomically
from jamendo_mood.tasks import Task

FORMAT = 1
TAGGER_NAME, WEIGHTS_NAME = "tagger.json", "weights.npz"
CONTEXT_FRAMES = 10
"""Frames pooled around each point of a timeline: 9.6 s of VGGish, the length of AudioSet's segments."""

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class HeadConfig:
    """What a head is built from.

    Attributes
    ----------
    name : str
        A key of `HEADS`.
    l2 : float
        Penalty on the squared weights that lead to one target, per example: a linear head is then one logistic
        regression per tag with ``C = 1 / (2 * l2 * n)``, whatever the number of tags.
    hidden : int
        Units of the hidden layer, where there is one.
    dropout : float
        Share of hidden units dropped in training.
    """

    name: str = "mlp"
    l2: float = 0.03
    hidden: int = 256
    dropout: float = 0.5

    def __post_init__(self) -> None:
        if self.name not in HEADS:
            raise UsageError(f"unknown head {self.name!r} (known: {', '.join(HEADS)})")


def build_head(config: HeadConfig, inputs: int, task: Task) -> Any:
    """Build an untrained head, a Keras model: pooled embeddings (n, inputs) -> scores (n, targets).

    Its first layer standardises the inputs; it is to be adapted to the training part.
    """
    keras = import_quietly("keras")

    first = keras.Input((inputs,))
    x = keras.layers.Normalization(name="standardise")(first)
    x = HEADS[config.name](config, x)
    targets = len(task.targets)
    # Keras' losses are means over the targets, a penalty is a sum over all weights.
    penalty = keras.regularizers.L2(config.l2 / targets)
    last = keras.layers.Dense(targets, activation=task.rules.activation, kernel_regularizer=penalty)
    return keras.Model(first, last(x))


def _add_mlp(config: HeadConfig, x: Any) -> Any:
    keras = import_quietly("keras")

    return keras.layers.Dropout(config.dropout)(keras.layers.Dense(config.hidden, activation="relu")(x))


HEADS: dict[str, Callable[[HeadConfig, Any], Any]] = {
    "linear": lambda _, x: x,
    "mlp": _add_mlp,
}
"""What stands between the standardised inputs and the last layer."""


@dataclass(frozen=True, eq=False)
class Tagger:
    """A trained head with all it needs to be used, and the record of how it came about.

    Attributes
    ----------
    task : Task
    spec : EmbedderSpec
        What its embeddings must be made with.
    head : HeadConfig
    weights : tuple of arrays
        Of the head, in Keras' order.
    tuned : float64 array (targets,)
        What decisions need: for tags, the thresholds.
    record : dict
        How it was trained: data, seed, epochs.
    scores : dict of float
        On the validation part.
    """

    task: Task
    spec: EmbedderSpec
    head: HeadConfig
    weights: tuple[npt.NDArray[Any], ...]
    tuned: npt.NDArray[np.float64]
    record: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)

    def check_spec(self, spec: EmbedderSpec) -> None:
        """Raise `UsageError` unless embeddings of `spec` are what this tagger was trained on."""
        if not self.spec.accepts(spec):
            raise UsageError(f"this tagger needs embeddings of {self.spec}; these are of {spec}")

    def score(self, X: Array) -> Array:
        """Score pooled embeddings: float32 (n, 2 * dim) -> (n, targets)."""
        return np.asarray(self._model.predict_on_batch(X), dtype=np.float32)

    def score_track(self, frames: Array) -> Array:
        """Score a whole track: float32 (frames, dim) -> (targets,)."""
        return self.score(pool(frames)[np.newaxis]).reshape(-1)

    def score_frames(self, frames: Array) -> Array:
        """Score the neighbourhood of each frame: float32 (frames, dim) -> (frames, targets)."""
        return self.score(pool_windows(frames, CONTEXT_FRAMES))

    def decide(self, scores: Array) -> npt.NDArray[np.bool_]:
        """Which targets are decided: scores (..., targets) -> bool of the same shape."""
        return self.task.rules.decide(scores, self.tuned)

    def save(self, folder: Path | str) -> None:
        """Write ``tagger.json`` and ``weights.npz``.

        Raises
        ------
        UsageError
            `folder` holds something else.
        StoreError, DiskFullError
            It cannot be written.
        """
        folder = Path(folder)
        check_tagger_folder(folder)
        buffer = io.BytesIO()
        np.savez(buffer, *self.weights)
        weights = buffer.getvalue()
        tagger = {
            "format": FORMAT,
            "task": asdict(self.task),
            "embedder": asdict(self.spec),
            "head": asdict(self.head),
            "weights_sha256": hashlib.sha256(weights).hexdigest(),
            "thresholds": [float(value) if np.isfinite(value) else None for value in self.tuned],
            "record": dict(self.record),
            "scores": dict(self.scores),
        }
        write_atomically(folder / WEIGHTS_NAME, lambda file: file.write(weights))
        text = json.dumps(tagger, indent=2) + "\n"
        write_atomically(folder / TAGGER_NAME, lambda file: file.write(text.encode()))

    @classmethod
    def load(cls, folder: Path | str) -> Tagger:
        """Read what `save` wrote; runs no code of the folder.

        Raises
        ------
        UsageError
            There is no tagger.
        DataError
            It is damaged.
        """
        manifest = Path(folder) / TAGGER_NAME
        if not manifest.is_file():
            raise UsageError(f"{folder}: no tagger there (no {TAGGER_NAME}); `jamendo-mood train` makes one")
        try:
            values = json.loads(manifest.read_text(encoding="utf-8"))
            if values["format"] != FORMAT:
                raise DataError(f"{manifest}: a tagger of format {values['format']}, this version reads {FORMAT}")
            task = Task(**{**values["task"], "targets": tuple(values["task"]["targets"])})
            thresholds = [np.inf if value is None else value for value in values["thresholds"]]
            return cls(
                task=task,
                spec=EmbedderSpec.from_json(values["embedder"]),
                head=HeadConfig(**values["head"]),
                weights=_read_weights(Path(folder) / WEIGHTS_NAME, values["weights_sha256"]),
                tuned=np.array(thresholds, np.float64).reshape(len(task.targets)),
                record=values["record"],
                scores=values["scores"],
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{manifest}: not a tagger, or damaged ({error})") from error

    @functools.cached_property
    def _model(self) -> Any:
        model = build_head(self.head, 2 * self.spec.dim, self.task)
        try:
            model.set_weights(list(self.weights))
            model.get_layer("standardise").finalize_state()  # it computes with copies of its weights
        except ValueError as error:
            raise DataError(f"the tagger's weights do not fit its head ({error})") from error
        return model


def check_tagger_folder(folder: Path) -> None:
    """Raise `UsageError` if a tagger written to `folder` would mix with something else."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: a file of this name is in the way of the tagger's folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / TAGGER_NAME).is_file():
        raise UsageError(f"{folder}: holds something other than a tagger; name an empty or new folder")


def _read_weights(path: Path, sha256: str) -> tuple[npt.NDArray[Any], ...]:
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DataError(f"{path}: damaged, or of another training than {TAGGER_NAME}")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return tuple(arrays[f"arr_{number}"] for number in range(len(arrays.files)))
    except zipfile.BadZipFile as error:
        raise DataError(f"{path}: damaged ({error})") from error
