"""`Tagger`: everything needed to turn embeddings into scores, and nothing else."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood import cards
from jamendo_mood.data import POOLINGS, centred_windows, context_of, windows
from jamendo_mood.embedders import EmbedderSpec
from jamendo_mood.errors import DataError, UsageError
from jamendo_mood.heads import STANDARDISE, HeadConfig, build_head, run_heads
from jamendo_mood.store import write_atomically
from jamendo_mood.tasks import Task

FORMAT = 2
TAGGER_NAME, WEIGHTS_NAME, CARD_NAME = "tagger.json", "weights.npz", "README.md"
BUILTIN = Path(__file__).parent / "taggers" / "moods"

Array = npt.NDArray[np.float32]
Weights = tuple[npt.NDArray[Any], ...]


@dataclass(frozen=True, eq=False)
class Tagger:
    """A trained head, or several whose scores are averaged, with all that is needed to use and to judge it.

    Attributes
    ----------
    task : Task
    spec : EmbedderSpec
        What its embeddings must be made with.
    head : HeadConfig
    weights : tuple of tuples of arrays
        Of each member of the ensemble, in Keras' order.
    calibration : float64 array (targets, 2)
        What turns the heads' scores into calibrated ones: for tags, slope and offset on the log-odds.
    tuned : float64 array (targets,)
        What decisions need: for tags, the thresholds.
    grades : tuple of str
        How far each target can be relied on, a value of `metrics.GRADES` each; by the validation part, unless
        ``record["graded_on"]`` names another.
    record : dict
        How it was trained: data, seed, epochs.
    scores : dict of float
        On the validation part.
    intervals : dict of (float, float)
        Their 95 % intervals, by a bootstrap over artists.
    """

    task: Task
    spec: EmbedderSpec
    head: HeadConfig
    weights: tuple[Weights, ...]
    calibration: npt.NDArray[np.float64]
    tuned: npt.NDArray[np.float64]
    grades: tuple[str, ...]
    record: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def check_spec(self, spec: EmbedderSpec) -> None:
        """Raise `UsageError` unless embeddings of `spec` are what this tagger was trained on."""
        if not self.spec.accepts(spec):
            raise UsageError(f"this tagger needs embeddings of {self.spec}; these are of {spec}")

    def warm_up(self) -> None:
        """Build the heads now: it takes seconds, which the first score would take otherwise."""
        self.score_track(np.zeros((1, self.spec.dim), np.float32))

    def score(self, tracks: Sequence[Array]) -> Array:
        """Score whole tracks, or moments of a dynamic task: n float32 arrays (frames, dim) -> (n, targets)."""
        return self._score_rows([POOLINGS[self.head.pooling](frames) for frames in tracks])

    def score_track(self, frames: Array) -> Array:
        """Score one track: float32 (frames, dim) -> (targets,); of a dynamic task the mean over its moments."""
        if self.task.rate_hz is not None:
            return np.asarray(self.score_frames(frames).mean(axis=0))
        return self.score([frames]).reshape(-1)

    def score_tracks(self, tracks: Sequence[Array]) -> Array:
        """`score_track` of many: n float32 arrays (frames, dim) -> (n, targets)."""
        if self.task.rate_hz is not None:
            return np.stack([self.score_track(frames) for frames in tracks])
        return self.score(tracks)

    def score_frames(self, frames: Array) -> Array:
        """Score the neighbourhood of each frame: float32 (frames, dim) -> (frames, targets)."""
        if self.task.rate_hz is None:
            around = windows(frames, context_of(self.spec))
        else:
            around = centred_windows(frames, context_of(self.spec))
        return self._score_rows(list(POOLINGS[self.head.pooling](around)))

    def decide(self, scores: Array) -> npt.NDArray[np.bool_]:
        """Which targets are decided: scores (..., targets) -> bool of the same shape."""
        return self.task.rules.decide(scores, self.tuned)

    def _score_rows(self, rows: Sequence[Array]) -> Array:
        return self.task.rules.calibrated(run_heads(self._heads, rows), self.calibration)

    def save(self, folder: Path | str) -> None:
        """Write ``tagger.json``, ``weights.npz`` and the model card ``README.md``.

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
        arrays = {f"{member}.{n}": array for member, own in enumerate(self.weights) for n, array in enumerate(own)}
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        weights = buffer.getvalue()
        tagger = {
            "format": FORMAT,
            "task": asdict(self.task),
            "embedder": asdict(self.spec),
            "head": asdict(self.head),
            "weights_sha256": hashlib.sha256(weights).hexdigest(),
            "calibration": self.calibration.tolist(),
            "thresholds": [float(value) if np.isfinite(value) else None for value in self.tuned],
            "grades": list(self.grades),
            "record": dict(self.record),
            "scores": dict(self.scores),
            "intervals": {name: list(interval) for name, interval in self.intervals.items()},
        }
        write_atomically(folder / WEIGHTS_NAME, lambda file: file.write(weights))
        text = json.dumps(tagger, indent=2) + "\n"
        write_atomically(folder / TAGGER_NAME, lambda file: file.write(text.encode()))
        card = cards.describe(tagger)
        write_atomically(folder / CARD_NAME, lambda file: file.write(card.encode()))

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
            task = _read_task(values["task"])
            thresholds = [np.inf if value is None else value for value in values["thresholds"]]
            return cls(
                task=task,
                spec=EmbedderSpec.from_json(values["embedder"]),
                head=HeadConfig(**values["head"]),
                weights=_read_weights(Path(folder) / WEIGHTS_NAME, values["weights_sha256"]),
                calibration=np.array(values["calibration"], np.float64).reshape(len(task.targets), -1),
                tuned=np.array(thresholds, np.float64).reshape(len(task.targets)),
                grades=tuple(values["grades"]),
                record=values["record"],
                scores=values["scores"],
                intervals={name: (low, high) for name, (low, high) in values["intervals"].items()},
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{manifest}: not a tagger, or damaged ({error})") from error

    @functools.cached_property
    def _heads(self) -> list[Any]:
        return [self._build(weights) for weights in self.weights]

    def _build(self, weights: Weights) -> Any:
        head = build_head(self.head, self.spec.dim, len(self.task.targets), self.task.rules.activation)
        try:
            head.set_weights([np.asarray(array, np.float32) for array in weights])
            head.get_layer(STANDARDISE).finalize_state()  # it computes with copies of its weights
        except ValueError as error:
            raise DataError(f"the tagger's weights do not fit its head ({error})") from error
        return head


def _read_task(values: Mapping[str, Any]) -> Task:
    scale = values.get("scale")
    return Task(**{**values, "targets": tuple(values["targets"]), "scale": None if scale is None else tuple(scale)})


def load_builtin() -> Tagger:
    """The tagger that comes with the package: AudioSet's 7 music moods, on ``vggish-pca`` embeddings."""
    return Tagger.load(BUILTIN)


def check_tagger_folder(folder: Path) -> None:
    """Raise `UsageError` if a tagger written to `folder` would mix with something else."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: a file of this name is in the way of the tagger's folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / TAGGER_NAME).is_file():
        raise UsageError(f"{folder}: holds something other than a tagger; name an empty or new folder")


def _read_weights(path: Path, sha256: str) -> tuple[Weights, ...]:
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DataError(f"{path}: damaged, or of another training than {TAGGER_NAME}")
    members: dict[int, dict[int, npt.NDArray[Any]]] = {}
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            for name, array in arrays.items():
                member, number = map(int, name.split("."))
                members.setdefault(member, {})[number] = array
    except zipfile.BadZipFile as error:
        raise DataError(f"{path}: damaged ({error})") from error
    return tuple(tuple(own[number] for number in sorted(own)) for _, own in sorted(members.items()))
