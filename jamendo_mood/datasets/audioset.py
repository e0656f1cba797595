"""AudioSet: the VGGish embeddings that Google released, with 527 labels; its 7 music moods are a task of their own.

A part ``NAME`` is a file ``NAME.npz`` (arrays ``embeddings`` uint8 (n, 10, 128), ``n_frames`` (n,), ``labels`` packed
bits (n, 66), ``video_id``) or a folder ``NAME/`` of the original TFRecords.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jamendo_mood.audio.decoding import SAMPLE_RATE_HZ
from jamendo_mood.datasets.dataset import Dataset, DataSource, Features, Track, consecutive_parts
from jamendo_mood.embedders.registry import PATCH_S, RELEASED, EmbedderSpec
from jamendo_mood.embedders.vggish import DIM
from jamendo_mood.tasks import Task
from jamendo_mood.util import files
from jamendo_mood.util.errors import DataError, UsageError
from jamendo_mood.util.plaintext import read_table
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
    """Labelled segments of one part, as they are published."""

    video_ids: list[str]
    frames: list[npt.NDArray[np.uint8]]  #: of each segment, (up to 10, 128)
    labels: npt.NDArray[np.uint8]  #: (n, 527)

    def select(self, rows: npt.NDArray[np.bool_]) -> Segments:
        """Keep the segments where `rows`, bool (n,), is True."""
        return Segments([*compress(self.video_ids, rows)], [*compress(self.frames, rows)], self.labels[rows])

    def contents(self) -> list[str]:
        """A hash of each segment's embedding: equal for recordings that are identical bit by bit."""
        return [hashlib.sha256(frames.tobytes()).hexdigest() for frames in self.frames]


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
        embeddings, counts = arrays["embeddings"], arrays["n_frames"].astype(np.intp)
    except files.DAMAGES as error:
        raise DataError(f"{path}: not a part of AudioSet's embeddings ({files.brief(error)})") from error
    shapes = (embeddings.shape, counts.shape, labels.shape)
    if shapes != ((len(ids), MAX_FRAMES, DIM), (len(ids),), (len(ids), n_labels)):
        raise DataError(
            f"{path}: not a part of AudioSet's embeddings ({len(ids)} videos, arrays of the shapes {shapes})"
        )
    return Segments(ids, [frames[:count] for frames, count in zip(embeddings, counts, strict=True)], labels)


def read_tfrecords(folder: Path, n_labels: int) -> Segments:
    """Read a part from a folder of the original TFRecords."""
    from google.protobuf.message import DecodeError

    tf = import_quietly("tensorflow")
    ids, frames, labels = [], [], []
    files = sorted(str(path) for path in folder.glob("*.tfrecord"))
    try:
        for record in tf.data.TFRecordDataset(files).as_numpy_iterator():
            example = tf.train.SequenceExample.FromString(record)
            context = example.context.feature
            features = example.feature_lists.feature_list["audio_embedding"].feature
            rows = [feature.bytes_list.value[0] for feature in features[:MAX_FRAMES]]
            indicators = np.zeros(n_labels, np.uint8)
            indicators[list(context["labels"].int64_list.value)] = 1
            ids.append(context["video_id"].bytes_list.value[0].decode())
            frames.append(np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), DIM))
            labels.append(indicators)
        if not ids:
            raise ValueError("they hold no records")
    except (tf.errors.OpError, DecodeError, ValueError, IndexError) as error:
        raise DataError(f"{folder}: not AudioSet's TFRecords ({error})") from error
    return Segments(ids, frames, np.stack(labels))


def _read_parts(root: Path, wanted: str | None, n_labels: int) -> dict[str, Segments]:
    """The usual parts that are there, and the wanted one; the validation part is taken from the training part.

    Some videos have the same sound. Such segments get into the same part, and those in the test part are left out of
    the training part.
    """
    parts = {}
    for name in dict.fromkeys((TRAIN, TEST, TEST if wanted in (None, VALIDATION) else str(wanted))):
        if (file := root / f"{name}.npz").is_file():
            segments = read_npz(file, n_labels)
        elif any((folder := root / name).glob("*.tfrecord")):
            segments = read_tfrecords(folder, n_labels)
        elif name == wanted:
            raise UsageError(f"{root}: no part {name!r} (neither {name}.npz nor {name}/*.tfrecord)")
        else:
            continue
        parts[name] = segments.select(np.array([len(frames) > 0 for frames in segments.frames]))
    if not parts:
        raise DataError(f"{root}: no part of AudioSet's embeddings there (such as {TRAIN}.npz)")
    if TRAIN in parts:
        whole, tested = parts[TRAIN], set(parts[TEST].contents()) if TEST in parts else set()
        contents = whole.contents()
        kept = np.array([content not in tested for content in contents])
        held_out = np.array([zlib.crc32(content.encode()) % VALIDATION_SHARE == 0 for content in contents])
        parts[TRAIN], parts[VALIDATION] = whole.select(kept & ~held_out), whole.select(kept & held_out)
    return parts


def _assemble(task: Task, parts: dict[str, Segments], columns: slice) -> Dataset:
    return Dataset(
        task=task,
        tracks=tuple(
            Track(video_id, video_id, None, video_id, content)  # no artists are known: each video has its own
            for segments in parts.values()
            for video_id, content in zip(segments.video_ids, segments.contents(), strict=True)
        ),
        targets=np.concatenate([segments.labels[:, columns] for segments in parts.values()]).astype(np.float32),
        parts=consecutive_parts({name: len(segments.video_ids) for name, segments in parts.items()}),
        train=TRAIN,
        validation=VALIDATION,
        test=TEST,
        embeddings=Features(
            SPEC, (pair for part in parts.values() for pair in zip(part.video_ids, part.frames, strict=True))
        ),
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
