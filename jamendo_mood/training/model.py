"""`Tagger`: everything needed to turn embeddings into scores, and nothing else."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from jamendo_mood.embedders import musicnn, vggish
from jamendo_mood.embedders.registry import EmbedderSpec
from jamendo_mood.store import hub
from jamendo_mood.tasks import KINDS, Task
from jamendo_mood.tasks.kind import Kind
from jamendo_mood.tasks.metrics import GRADES
from jamendo_mood.training.data import POOLINGS, Array, centred_windows, context_of, windows
from jamendo_mood.training.heads import HeadCall, HeadConfig, Shapes, list_shapes, load_head, run_heads
from jamendo_mood.util import files, plaintext
from jamendo_mood.util.errors import DataError, UsageError, WeightsError
from jamendo_mood.util.files import disk_errors, is_draft, locked_folder, remove_drafts, write_atomically
from jamendo_mood.util.plaintext import markdown

FORMAT = 2
TAGGER_NAME, CARD_NAME = "tagger.json", "README.md"
OLD_WEIGHTS_NAME = "weights.npz"  #: of taggers that were saved when the name did not tell the weights

BUILTIN = Path(__file__).parent / "taggers" / "moods"
RECIPE = Path(__file__).parent / "taggers" / "musicnn" / "recipe.json"
BUILTINS = {"audioset": "vggish-pca", "musicnn": "musicnn"}
"""Taggers of the package's own, and their embedders: AudioSet's 7 music moods, and musicnn's tags that are moods."""

_WEIGHTS_NAME = re.compile(r"weights-[0-9a-f]{12}\.(safetensors|npz)")

MAX_WEIGHTS_BYTES = 2 * 10**9
MAX_TARGETS, MAX_LAYERS, MAX_NAME_LENGTH = 10_000, 100, 200
"""Of a tagger that is loaded, whoever made it: AudioSet has 527 targets, and no head here ten layers."""

Weights = tuple[npt.NDArray[Any], ...]


@dataclass(frozen=True, eq=False)
class Tagger:
    """A trained head, or several whose scores are averaged, with all that is needed to use and to evaluate it."""

    task: Task
    spec: EmbedderSpec  #: what its embeddings must be made with
    head: HeadConfig
    weights: tuple[Weights, ...]  #: of each member of the ensemble, in Keras' order
    #: (targets, 2): what turns the heads' scores into calibrated ones; for tags, slope and offset on the log-odds
    calibration: npt.NDArray[np.float64]
    thresholds: npt.NDArray[np.float64]  #: (targets,): what decisions need; for tags, the thresholds
    #: how far each target can be relied on, a value of `metrics.GRADES` each; by what was held out, unless
    #: ``record["graded_on"]`` names another
    grades: tuple[str, ...]
    record: Mapping[str, Any] = field(default_factory=dict)  #: how it was trained: data, seed, epochs
    scores: Mapping[str, float] = field(default_factory=dict)  #: on what was held out from learning
    #: their 95 % intervals, by a bootstrap over artists
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def __repr__(self) -> str:
        rules, heads = self.task.rules, len(self.weights)
        figure = self.scores.get(rules.monitor)
        reached = "" if figure is None else f", validation {rules.monitor} {figure:.3f}"
        what = f"{len(self.task.targets)} {rules.plural} of {self.task.name} from {self.spec.name}"
        return plaintext.show(f"<Tagger: {what}, {heads} x {self.head.name} on {self.head.pooling}{reached}>")

    def _repr_html_(self) -> str:
        monitor, grades = self.task.rules.monitor, Counter(self.grades)
        rows = [
            ("task", f"{self.task.name}: {len(self.task.targets)} {self.task.rules.plural}"),
            ("embedder", self.spec),
            ("heads", f"{len(self.weights)} x {self.head.name} on {self.head.pooling}"),
            *([(f"validation {monitor}", f"{self.scores[monitor]:.3f}")] if monitor in self.scores else []),
            ("grades", ", ".join(f"{grades[grade]} {grade}" for grade in GRADES if grades[grade])),
        ]
        return plaintext.to_html("Tagger", rows)

    @property
    def ranks(self) -> bool:
        """Whether it only ranks its tags: none of them has a threshold."""
        return self.task.kind == "tags" and not np.isfinite(self.thresholds).any()

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
        return np.asarray(self.score_tracks([frames])[0])

    def score_tracks(self, tracks: Sequence[Array]) -> Array:
        """`score_track` of many: n float32 arrays (frames, dim) -> (n, targets)."""
        if self.task.rate_hz is None:
            return self.score(tracks)
        return np.stack([self.score_frames(frames).mean(axis=0) for frames in tracks])

    def score_frames(self, frames: Array) -> Array:
        """Score the neighbourhood of each frame: float32 (frames, dim) -> (frames, targets)."""
        cut = windows if self.task.rate_hz is None else centred_windows
        return self._score_rows(list(POOLINGS[self.head.pooling](cut(frames, context_of(self.spec)))))

    def decide(self, scores: Array) -> npt.NDArray[np.bool_]:
        """Which targets are decided: scores (..., targets) -> bool of the same shape."""
        return self.task.rules.decide(scores, self.thresholds)

    def _score_rows(self, rows: Sequence[Array]) -> Array:
        scores = self.task.rules.calibrated(run_heads(self.heads, rows), self.calibration)
        if not np.isfinite(scores).all():
            raise DataError("the tagger's weights are damaged: they give scores that are not numbers")
        return scores

    def save(self, folder: Path | str) -> None:
        """Write ``weights-<12 hex of their hash>.safetensors``, ``tagger.json`` and the model card ``README.md``.

        A tagger that is there already stays whole up to the moment in which ``tagger.json`` is replaced: the weights of
        the two have different names, and the older ones go last. Of several that are saved at once the last one stays.

        Raises
        ------
        UsageError
            `folder` holds something else.
        StoreError, DiskFullError
            It cannot be written.
        """
        folder = Path(folder)
        check_tagger_folder(folder)
        members = [enumerate(own) for own in self.weights]
        arrays = {f"{m}.{n}": np.asarray(array, order="C") for m, own in enumerate(members) for n, array in own}
        weights = safetensors.numpy.save(arrays)
        sha256 = hashlib.sha256(weights).hexdigest()
        tagger = {
            "format": FORMAT,
            "task": asdict(self.task),
            "embedder": asdict(self.spec),
            "head": asdict(self.head),
            "weights_sha256": sha256,
            "calibration": self.calibration.tolist(),
            "thresholds": [float(value) if np.isfinite(value) else None for value in self.thresholds],
            "grades": list(self.grades),
            "record": dict(self.record),
            "scores": dict(self.scores),
            "intervals": {name: list(interval) for name, interval in self.intervals.items()},
        }
        text = (json.dumps(tagger, indent=2) + "\n").encode()
        files = {f"weights-{sha256[:12]}.safetensors": weights, TAGGER_NAME: text, CARD_NAME: describe(tagger).encode()}
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with locked_folder(folder):
            for name, content in files.items():
                write_atomically(folder / name, content)
            for path in folder.iterdir():
                if (path.name == OLD_WEIGHTS_NAME or _WEIGHTS_NAME.fullmatch(path.name)) and path.name not in files:
                    with disk_errors(path):
                        path.unlink(missing_ok=True)
            remove_drafts(folder)

    @classmethod
    def load(cls, folder: Path | str) -> Tagger:
        """Read what `save` wrote, in a folder or at ``hf://user/name`` (see `hub.locate`); runs no code of it.

        Raises
        ------
        UsageError
            There is no tagger.
        DownloadError
            It cannot be fetched.
        DataError
            It is damaged.
        """
        folder = hub.locate(folder)
        manifest = folder / TAGGER_NAME
        if not manifest.is_file():
            raise UsageError(f"{folder}: no tagger there (no {TAGGER_NAME}); `jamendo-mood train` makes one")
        try:
            with locked_folder(folder, shared=True):  # which a `save` may be replacing
                values = files.parse_json(files.read_bytes(manifest, files.MAX_JSON_BYTES))
                if values["format"] != FORMAT:
                    found = repr(values["format"])[:20]
                    raise DataError(f"{manifest}: a tagger of format {found}, this version reads {FORMAT}")
                task, head = _read_task(values["task"]), HeadConfig(**values["head"])
                if {*map(type, (head.hidden, head.layers, head.wide))} != {int} or head.layers > MAX_LAYERS:
                    raise ValueError(f"hidden, layers and wide are whole numbers, layers at most {MAX_LAYERS}")
                spec, count = EmbedderSpec.from_json(values["embedder"]), len(task.targets)
                weights = _read_weights(folder, values["weights_sha256"], list_shapes(head, spec.dim, count))
            thresholds = [np.inf if value is None else value for value in values["thresholds"]]
            tagger = cls(
                task=task,
                spec=spec,
                head=head,
                weights=weights,
                calibration=np.array(values["calibration"], np.float64).reshape(count, -1),
                thresholds=np.array(thresholds, np.float64).reshape(count),
                grades=tuple(values["grades"]),
                record=values["record"],
                scores=values["scores"],
                intervals={name: (low, high) for name, (low, high) in values["intervals"].items()},
            )
            _check_values(tagger)
            describe(values)  # looks at most of the record
            return tagger
        except (*files.DAMAGES, AttributeError, IndexError, OverflowError, UsageError) as error:
            raise DataError(f"{manifest}: not a tagger, or damaged ({files.brief(error)})") from error

    @functools.cached_property
    def heads(self) -> list[HeadCall]:
        """The members of the ensemble, ready to score."""
        activation, targets = self.task.rules.activation, len(self.task.targets)
        try:
            members = [[np.asarray(array, np.float32) for array in member] for member in self.weights]
            return [load_head(self.head, self.spec.dim, targets, activation, member) for member in members]
        except ValueError as error:
            raise DataError(f"the weights do not fit the head {self.head.name!r} ({error})") from error


def _read_task(values: Mapping[str, Any]) -> Task:
    """The task in a manifest; ValueError or the like if it makes no sense."""
    scale, targets = values.get("scale"), values["targets"]
    if not isinstance(targets, list) or len(targets) > MAX_TARGETS:
        raise ValueError(f"targets are a list of at most {MAX_TARGETS:,} names")
    for name in (values["name"], *targets):
        if not isinstance(name, str) or not name or len(name) > MAX_NAME_LENGTH or plaintext.show(name) != name:
            raise ValueError(f"{str(name)[:MAX_NAME_LENGTH]!r} is not a name on one line")
    numbers = [*(scale or ()), values.get("rate_hz") or 0.0]
    if len(numbers) not in (1, 3) or not np.isfinite(np.array(numbers, np.float64)).all():
        raise ValueError("the scale is two numbers, and the rate is one")
    return Task(**{**values, "targets": tuple(targets), "scale": None if scale is None else tuple(scale)})


def _check_values(tagger: Tagger) -> None:
    """Raise ValueError or the like unless a tagger that was read can score, decide and be described."""
    count = len(tagger.task.targets)
    if len(tagger.grades) != count or not set(tagger.grades) <= GRADES.keys():
        raise ValueError(f"grades are one of {', '.join(GRADES)} for each target")
    if not np.isfinite(tagger.calibration).all() or np.isnan(tagger.thresholds).any():
        raise ValueError("the calibration is not finite, or a threshold is not a number")
    scores = tagger.task.rules.calibrated(np.full((1, count), 0.5, np.float32), tagger.calibration)
    if scores.shape != (1, count):
        raise ValueError("the calibration is not of this kind of task")
    figures = [*tagger.scores.values(), *(end for interval in tagger.intervals.values() for end in interval)]
    if not isinstance(tagger.record, dict) or not isinstance(tagger.record.get("split", 0), int):
        raise ValueError("the record of the training makes no sense")
    if any(type(figure) not in (int, float) or not np.isfinite(figure) for figure in figures):
        raise ValueError("scores and intervals are finite numbers")


def choose_builtin(weights: Path | None = None) -> str:
    """Which of `BUILTINS` can be used here at once: ``audioset`` if VGGish's weights are there, else ``musicnn``.

    `weights` is what the user named, if anything: VGGish's, or musicnn's.
    """
    if weights is not None:
        return "musicnn" if weights.suffix in musicnn.SUFFIXES else "audioset"
    try:
        vggish.WEIGHTS.find(download=False)
    except WeightsError:
        if not os.environ.get(vggish.WEIGHTS.variable):  # who names a file that is missing wants to know
            return "musicnn"
    return "audioset"


def load_builtin(name: str = "audioset", weights: Path | None = None, *, download: bool = True) -> Tagger:
    """A tagger that comes with the package; `UsageError` if there is none of that name.

    ``audioset`` knows AudioSet's 7 music moods, on ``vggish-pca`` embeddings; ``musicnn`` the tags of musicnn that are
    moods, by its own last layer, which is read from its weights (see `checkpoints.Weights.find`, also for `weights` and
    `download`). Raises `WeightsError` if they are not there, and cannot be fetched.
    """
    if name not in BUILTINS:
        raise UsageError(f"no tagger {name!r} comes with jamendo-mood (there are {', '.join(BUILTINS)})")
    if name == "audioset":
        return Tagger.load(BUILTIN)
    recipe = json.loads(RECIPE.read_text(encoding="utf-8"))
    targets = tuple(recipe["targets"])
    variables = musicnn.read_weights(musicnn.WEIGHTS.find(weights, download=download))
    columns = [musicnn.TAGS.index(tag) for tag in targets]
    # A layer that standardises comes first in every head: here it changes nothing.
    as_is = (np.zeros(musicnn.DIM, np.float32), np.ones(musicnn.DIM, np.float32), np.zeros((), np.int64))
    return Tagger(
        task=Task(recipe["name"], "tags", targets),
        spec=musicnn.spec_of(variables),
        head=HeadConfig("linear", "frames"),
        weights=((*as_is, variables["dense_1/kernel"][:, columns], variables["dense_1/bias"][columns]),),
        calibration=np.array([recipe["calibration"][tag] for tag in targets]),
        thresholds=np.full(len(targets), np.inf),
        grades=tuple(recipe["grades"][tag] for tag in targets),
        record=recipe["record"],
    )


def check_tagger_folder(folder: Path) -> None:
    """Raise `UsageError` if a tagger written to `folder` would mix with something else."""
    if os.path.lexists(folder) and not folder.is_dir():
        raise UsageError(f"{folder}: a file, or a link that leads nowhere, is in the way of the tagger's folder")
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    others = [name for name in names if not _WEIGHTS_NAME.fullmatch(name) and not is_draft(name)]
    # What a first `save` that was killed has left is no reason to refuse.
    if others and not (folder / TAGGER_NAME).is_file():
        raise UsageError(f"{folder}: holds something other than a tagger; name an empty or new folder")


def _read_weights(folder: Path, sha256: str, shapes: Shapes | None) -> tuple[Weights, ...]:
    """The weights of each head, which have these shapes; None where only building it tells."""
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        raise ValueError("weights_sha256 is not a SHA-256")
    name = f"weights-{sha256[:12]}"
    paths = [folder / f"{name}.safetensors", folder / f"{name}.npz", folder / OLD_WEIGHTS_NAME]
    path = next(filter(Path.is_file, paths), paths[0])
    content = files.read_bytes(path, MAX_WEIGHTS_BYTES)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DataError(f"{path}: damaged, or of another training than {TAGGER_NAME}")
    members: dict[int, dict[int, npt.NDArray[Any]]] = {}
    try:
        # Stored as they are, they are no more than the file: what was deflated to next to nothing is not inflated.
        is_npz = path.suffix == ".npz"
        arrays = files.read_npz(io.BytesIO(content), len(content)) if is_npz else safetensors.numpy.load(content)
        for name, array in arrays.items():
            place = re.fullmatch(r"([0-9]{1,3})\.([0-9]{1,4})", name)
            if place is None or array.dtype.kind not in "fiu" or not np.isfinite(array).all():
                raise ValueError(f"{name[:MAX_NAME_LENGTH]!r} is not an array of finite weights")
            members.setdefault(int(place[1]), {})[int(place[2])] = array
    except (*files.DAMAGES, safetensors.SafetensorError) as error:
        raise DataError(f"{path}: not a tagger's weights, or damaged ({files.brief(error)})") from error
    weights = tuple(tuple(own[number] for number in sorted(own)) for _, own in sorted(members.items()))
    found = {tuple(array.shape for array in own) for own in weights}
    if len(found) != 1 or shapes not in (None, *found):
        raise DataError(f"{path}: the weights do not fit the head")
    return weights


USES = """\
Meant for: finding and sorting music by mood, as a hint among others; research on music tagging.

It must not be used

- to conclude anything about a person: what they feel, their health, their character, who they are;
- to decide alone what is published, paid, removed or shown to children;
- as truth about music: tags are opinions of those who wrote them, mostly about Western popular and production music;
- beyond the licence of the data it learned from, given above.
"""


def describe(tagger: Mapping[str, Any]) -> str:
    """Write the model card of a tagger, Markdown, from what is in its ``tagger.json``."""
    task, record = tagger["task"], tagger["record"]
    words = KINDS[task["kind"]]
    parts = [("held-out tracks", tagger["scores"], tagger["intervals"])]
    if tested := record.get("tested"):
        parts.append((tested["part"], tested["figures"], tested["intervals"]))
    sections = [
        f"# Mood tagger: {markdown(task['name'])}",
        _origin(tagger, words),
        f"## How good it is\n\n{_scores(parts, words)}",
        f"## Its {words.plural}\n\n{_targets(task['targets'], tagger['grades'], record, words)}",
        f"## What it is for\n\n{USES}",
    ]
    return "\n\n".join(section.strip() for section in sections) + "\n"


def describe_targets(task: Mapping[str, Any]) -> str:
    """How many targets a task has: ``3 tags``; of values their scale too, and how often they were rated."""
    low_high, rate_hz = task.get("scale"), task.get("rate_hz")
    scale = f" on a scale from {low_high[0]:g} to {low_high[1]:g}" if low_high else ""
    rate = f", each moment by itself (learned from {rate_hz:g} ratings a second)" if rate_hz else ""
    return f"{len(task['targets'])} {KINDS[task['kind']].plural}{scale}{rate}"


def _origin(tagger: Mapping[str, Any], words: Kind) -> str:
    """What it is, and what it learned from."""
    head, spec, record = tagger["head"], tagger["embedder"], tagger["record"]
    members = len(record.get("best_epochs", [])) or 1
    heads = f"One `{head['name']}` head" if members == 1 else f"The mean of {members} `{head['name']}` heads"
    step = "a track" if spec["hop_s"] is None else f"every {spec['hop_s']:g} s"
    lines = [
        f"{heads} for {describe_targets(tagger['task'])}, on {head['pooling']} of `{markdown(spec['name'])}` "
        f"embeddings ({spec['dim']} numbers {step}). {words.says} "
        f"Made with jamendo-mood {markdown(str(record.get('version', '')))}.\n"
    ]
    if tracks := record.get("tracks"):
        left = f" ({markdown(str(record['silent']))} silent ones left out)" if record.get("silent") else ""
        others = f"on {tracks['validation']} others" if tracks["validation"] else "by folds of them"
        lines.append(f"- Learned from {tracks['train']} tracks{left}, validated {others}")
    facts = {"Data": record.get("citation"), "Licence of the data": record.get("licence")}
    return "\n".join([*lines, *(f"- {name}: {markdown(str(fact))}" for name, fact in facts.items() if fact)])


def _scores(parts: Sequence[tuple[str, Mapping[str, float], Mapping[str, Sequence[float]]]], words: Kind) -> str:
    rows = [["metric", *(markdown(name) for name, _, _ in parts), "meaning"], ["---"] * (len(parts) + 2)]
    for name in words.card_metrics:
        cells = []
        for _, figures, intervals in parts:
            ends = "[{:.4f}, {:.4f}]".format(*intervals[name]) if name in intervals else ""
            cells.append(f"{figures[name]:.4f} {ends}".strip() if name in figures else "-")
        if {*cells} != {"-"}:
            rows.append([name, *cells, words.meanings[name]])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return (
        f"{table}\n\nIn brackets: 95 % intervals by a bootstrap over artists. What could be "
        "chosen was chosen by the held-out tracks, so their figures are on the kind side."
    )


def _targets(targets: Sequence[str], grades: Sequence[str], record: Mapping[str, Any], words: Kind) -> str:
    positives = record.get("positives", {})
    lines = []
    for grade, meaning in words.grades.items():
        graded = [target for target, given in zip(targets, grades, strict=True) if given == grade]
        if graded:
            named = (markdown(own) + (f" ({positives[own]:d})" if own in positives else "") for own in graded)
            lines.append(f"- **{grade}** ({meaning}): {', '.join(named)}")
    graded_on = markdown(record.get("graded_on", "the held-out tracks"))
    counted = " In brackets: how many training tracks each is true of." if positives else ""
    return "\n".join([*lines, "", f"Graded on {graded_on}.{counted}"])
