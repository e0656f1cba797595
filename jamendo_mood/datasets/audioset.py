"""AudioSet: the VGGish embeddings that Google released, with 527 labels; its 7 music moods are a task of their own.

A part ``NAME`` is a file ``NAME.npz`` (arrays ``embeddings`` uint8 (n, 10, 128), ``n_frames`` (n,), ``labels`` packed
bits (n, 66), ``video_id``) or a folder ``NAME/`` of the original TFRecords.

References
----------
Gemmeke et al., "Audio Set: An Ontology and Human-Labeled Dataset for Audio Events", ICASSP 2017;
https://research.google.com/audioset/download.html.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jamendo_mood.audio.decoding import SAMPLE_RATE_HZ
from jamendo_mood.datasets.dataset import Array, Dataset, DataSource, Track, consecutive_parts
from jamendo_mood.embedders.registry import PATCH_S, RELEASED, EmbedderSpec
from jamendo_mood.embedders.vggish import DIM
from jamendo_mood.tasks import Task
from jamendo_mood.util import files
from jamendo_mood.util.errors import DataError, UsageError
from jamendo_mood.util.files import read_table
from jamendo_mood.util.process import import_quietly

SPEC = EmbedderSpec("vggish-pca", RELEASED, SAMPLE_RATE_HZ, PATCH_S, PATCH_S, DIM)
TRAIN, VALIDATION, TEST = "bal_train", "validation", "eval_public"
LABELS_NAME = "class_labels_indices.csv"
N_LABELS = 527
MUSIC = 137
MOODS = slice(276, 283)
VALIDATION_SHARE = 8  # one in 8 of the training part's recordings
MAX_FRAMES = 10
MAX_RATIO = 100  # of an .npz: size of its arrays to size of the file


@dataclass(frozen=True)
class Segments:
    """Labelled segments of one part, as they are published: embeddings uint8 (n, 10, 128), labels uint8 (n, 527)."""

    video_ids: list[str]
    embeddings: npt.NDArray[np.uint8]
    n_frames: npt.NDArray[np.intp]
    labels: npt.NDArray[np.uint8]

    def select(self, rows: npt.NDArray[np.bool_]) -> Segments:
        """Keep the segments where `rows`, bool (n,), is True."""
        ids = [video_id for video_id, keep in zip(self.video_ids, rows, strict=True) if keep]
        return Segments(ids, self.embeddings[rows], self.n_frames[rows], self.labels[rows])

    def contents(self) -> list[str]:
        """A hash of each segment's embedding: equal for recordings that are identical bit by bit."""
        pairs = zip(self.embeddings, self.n_frames, strict=True)
        return [hashlib.sha256(frames[:count].tobytes()).hexdigest() for frames, count in pairs]


class ReleasedEmbeddings(Mapping[str, Array]):
    """Released embeddings by video id, float32 (frames, 128), values 0 ... 255."""

    spec = SPEC

    def __init__(self, parts: list[Segments]) -> None:
        self._where = {key: (part, row) for part in parts for row, key in enumerate(part.video_ids)}

    def __getitem__(self, key: str) -> Array:
        part, row = self._where[key]
        return part.embeddings[row, : part.n_frames[row]].astype(np.float32)

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def __len__(self) -> int:
        return len(self._where)


def load(root: Path, _: int = 0, part: str | None = None) -> Dataset:
    """Load all segments with their 527 labels."""
    names = read_labels(root)
    return _assemble(Task("audioset", "tags", names), _read_parts(root, part, len(names)), slice(None))


def load_moods(root: Path, _: int = 0, part: str | None = None) -> Dataset:
    """Load the segments labelled Music with the 7 music moods."""
    names = read_labels(root)
    parts = _read_parts(root, part, len(names))
    broader = _assemble(Task("audioset", "tags", names), parts, slice(None))
    music = {name: segments.select(segments.labels[:, MUSIC] == 1) for name, segments in parts.items()}
    return replace(_assemble(Task("audioset-moods", "tags", names[MOODS]), music, MOODS), broader=broader)


def read_labels(root: Path) -> tuple[str, ...]:
    """Names of the 527 labels, in the order of their index."""
    path = root / LABELS_NAME
    names = tuple(row[2] for row in read_table(path, ("index", "mid", "display_name")))
    if len(names) != N_LABELS:
        raise DataError(f"{path}: {len(names)} labels, but AudioSet has {N_LABELS}")
    return names


def read_npz(path: Path, n_labels: int) -> Segments:
    """Read a part from ``NAME.npz``."""
    try:
        with path.open("rb") as file:
            arrays = files.read_npz(file, MAX_RATIO * path.stat().st_size)
        ids = [str(video_id) for video_id in arrays["video_id"]]
        labels = np.unpackbits(arrays["labels"], axis=1)[:, :n_labels]
        segments = Segments(ids, arrays["embeddings"], arrays["n_frames"].astype(np.intp), labels)
    except files.DAMAGES as error:
        raise DataError(f"{path}: not a part of AudioSet's embeddings ({files.brief(error)})") from error
    count = len(ids)
    shapes = (segments.embeddings.shape, segments.n_frames.shape, segments.labels.shape)
    if shapes != ((count, MAX_FRAMES, DIM), (count,), (count, n_labels)):
        raise DataError(f"{path}: not a part of AudioSet's embeddings ({count} videos, arrays of the shapes {shapes})")
    return segments


def read_tfrecords(folder: Path, n_labels: int) -> Segments:
    """Read a part from a folder of the original TFRecords."""
    from google.protobuf.message import DecodeError

    tf = import_quietly("tensorflow")
    ids, embeddings, n_frames, labels = [], [], [], []
    files = sorted(str(path) for path in folder.glob("*.tfrecord"))
    try:
        for record in tf.data.TFRecordDataset(files).as_numpy_iterator():
            example = tf.train.SequenceExample.FromString(record)
            context = example.context.feature
            frames = [f.bytes_list.value[0] for f in example.feature_lists.feature_list["audio_embedding"].feature]
            frames = frames[:MAX_FRAMES]
            padded = np.zeros((MAX_FRAMES, DIM), np.uint8)
            padded[: len(frames)] = np.frombuffer(b"".join(frames), np.uint8).reshape(-1, DIM)
            row = np.zeros(n_labels, np.uint8)
            row[list(context["labels"].int64_list.value)] = 1
            ids.append(context["video_id"].bytes_list.value[0].decode())
            embeddings.append(padded)
            n_frames.append(len(frames))
            labels.append(row)
        if not ids:
            raise ValueError("they hold no records")
    except (tf.errors.OpError, DecodeError, ValueError, IndexError) as error:
        raise DataError(f"{folder}: not AudioSet's TFRecords ({error})") from error
    return Segments(ids, np.stack(embeddings), np.array(n_frames, np.intp), np.stack(labels))


def _read_parts(root: Path, wanted: str | None, n_labels: int) -> dict[str, Segments]:
    """The usual parts that are there, and the wanted one; the validation part is taken from the training part.

    Some videos have the same sound. Such segments get into the same part, and those in the test part are left out of
    the training part.
    """
    names = [name for name in (TRAIN, TEST) if _find(root, name)]
    if wanted not in (None, VALIDATION, *names):
        names.append(str(wanted))
    parts = {}
    for name in names:
        path = _find(root, name)
        if path is None:
            raise UsageError(f"{root}: no part {name!r} (neither {name}.npz nor {name}/*.tfrecord)")
        segments = read_npz(path, n_labels) if path.suffix == ".npz" else read_tfrecords(path, n_labels)
        has_frames = segments.n_frames > 0
        parts[name] = segments if has_frames.all() else segments.select(has_frames)
    if not parts:
        raise DataError(f"{root}: no part of AudioSet's embeddings there (such as {TRAIN}.npz)")
    if TRAIN in parts:
        tested = set(parts[TEST].contents()) if TEST in parts else set()
        contents = parts[TRAIN].contents()
        kept = np.array([content not in tested for content in contents])
        held_out = np.array([zlib.crc32(content.encode()) % VALIDATION_SHARE == 0 for content in contents])
        whole = parts[TRAIN]
        parts[TRAIN], parts[VALIDATION] = whole.select(kept & ~held_out), whole.select(kept & held_out)
    return parts


def _find(root: Path, name: str) -> Path | None:
    file, folder = root / f"{name}.npz", root / name
    if file.is_file():
        return file
    return folder if any(folder.glob("*.tfrecord")) else None


def _assemble(task: Task, parts: dict[str, Segments], columns: slice) -> Dataset:
    # No artists are known: each video counts as an artist of its own.
    tracks = [
        Track(video_id, video_id, None, video_id, content)
        for segments in parts.values()
        for video_id, content in zip(segments.video_ids, segments.contents(), strict=True)
    ]
    return Dataset(
        task=task,
        tracks=tuple(tracks),
        targets=np.concatenate([segments.labels[:, columns] for segments in parts.values()]).astype(np.float32),
        parts=consecutive_parts({name: len(segments.video_ids) for name, segments in parts.items()}),
        train=TRAIN,
        validation=VALIDATION,
        test=TEST,
        embeddings=ReleasedEmbeddings(list(parts.values())),
    )


_AUDIOSET = DataSource(
    load,
    predicts="527 sounds",
    files=(LABELS_NAME, TRAIN, TEST),
    annotations="https://research.google.com/audioset/download.html (embeddings, 2.4 GB)",
    audio="none needed: Google released the VGGish embeddings",
    licence="CC BY 4.0 (Google)",
    citation="J. F. Gemmeke, D. P. W. Ellis, D. Freedman, A. Jansen, W. Lawrence, R. C. Moore, M. Plakal, M. Ritter: "
    "Audio Set: An ontology and human-labeled dataset for audio events. ICASSP 2017",
    splits=1,
    official=True,
)
SOURCES = {"audioset": _AUDIOSET, "audioset-moods": replace(_AUDIOSET, load=load_moods, predicts="7 moods of music")}
