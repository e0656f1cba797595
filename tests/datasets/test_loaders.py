"""The data sets, first on small folders in their authors' own formats, then on the real files."""

import importlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import toy_affect_sets

from jamendo_mood.datasets import DATASETS, audioset, jamendo, load_dataset
from jamendo_mood.datasets.dataset import FOLDS, Dataset
from jamendo_mood.util.errors import DataError, UsageError

SPLITS = range(5)
HEADER = "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS"
SPLIT_TAGS = ("happy", "dark", "epic")  # not in alphabetical order: theirs is the file's
# Track, artist, tags. The splits have the tags above only, so tracks 30, 31 and 41 are in none of them.
SONGS = (
    (11, 1, ("happy",)), (12, 1, ("dark", "epic", "happy")), (21, 2, ("epic", "dark")), (22, 2, ("dark",)),
    (30, 3, ("horror",)), (31, 1, ("horror", "mellow")), (41, 4, ("mellow",)), (51, 5, ("happy", "epic")),
    (61, 6, ("dark",)), (62, 6, ("happy", "horror")),
)  # fmt: skip
SEGMENTS = 64
MOODS = ["Happy music", "Funny music", "Sad music", "Tender music", "Exciting music", "Angry music", "Scary music"]
N_FRAMES = (10, 10, 7, 0, 10, 1)


def official_part(artist: int, split: int) -> str:
    return jamendo.PARTS[(artist + split) % 3]


def write_tsv(path: Path, songs: list[tuple[int, int, tuple[str, ...]]]) -> None:
    """One of MTG's tables: CRLF, and as many columns in a row as the song has tags."""
    lines = [HEADER]
    for song, artist, tags in songs:
        names = f"track_{song:07d}\tartist_{artist:06d}\talbum_{artist:06d}\t{song % 100:02d}/{song}.mp3\t{song}.5"
        lines.append("\t".join([names, *(f"mood/theme---{tag}" for tag in tags)]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(f"{line}\r\n" for line in lines).encode())


def write_jamendo(root: Path) -> Path:
    write_tsv(root / "autotagging_moodtheme.tsv", list(SONGS))
    (root / "moodtheme_split.txt").write_text("".join(f"mood/theme---{tag}\n" for tag in SPLIT_TAGS))
    official = [(song, artist, known) for song, artist, tags in SONGS if (known := tuple(set(tags) & {*SPLIT_TAGS}))]
    for split in SPLITS:
        for part in jamendo.PARTS:
            songs = [song for song in official if official_part(song[1], split) == part]
            write_tsv(root / f"splits/split-{split}/autotagging_moodtheme-{part}.tsv", songs)
    return root


Segment = tuple[str, np.ndarray, list[int]]


def make_segments(seed: int) -> list[Segment]:
    """Video id, embeddings uint8 (frames, 128), labels: a third is no music, and a segment has up to three moods."""
    rng = np.random.default_rng(seed)
    segments = []
    for number in range(SEGMENTS):
        frames = rng.integers(0, 256, (N_FRAMES[number % len(N_FRAMES)], 128), dtype=np.uint8)
        moods = rng.choice(np.arange(276, 283), number % 4, replace=False).tolist()
        labels = sorted({0, 526, *moods, *([137] if number % 3 else [])})
        segments.append((f"{seed}-video_{number:02d}", frames, labels))
    return segments


def write_npz(path: Path, segments: list[Segment]) -> None:
    embeddings = np.zeros((len(segments), 10, 128), np.uint8)
    labels = np.zeros((len(segments), 527), np.uint8)
    for row, (_, frames, indices) in enumerate(segments):
        embeddings[row, : len(frames)] = frames
        labels[row, indices] = 1
    np.savez_compressed(
        path,
        embeddings=embeddings,
        n_frames=np.array([len(frames) for _, frames, _ in segments], np.uint8),
        labels=np.packbits(labels, axis=1),
        video_id=np.array([video_id for video_id, _, _ in segments]),
    )


def write_tfrecords(folder: Path, segments: list[Segment]) -> None:
    """Two files of Google's SequenceExamples."""
    import tensorflow as tf

    folder.mkdir(parents=True)
    for name, half in (("-0", segments[: len(segments) // 2]), ("0x", segments[len(segments) // 2 :])):
        with tf.io.TFRecordWriter(str(folder / f"{name}.tfrecord")) as writer:
            for video_id, frames, labels in half:
                example = tf.train.SequenceExample()
                context = example.context.feature
                context["video_id"].bytes_list.value.append(video_id.encode())
                context["labels"].int64_list.value.extend(labels)
                for frame in frames:
                    feature = example.feature_lists.feature_list["audio_embedding"].feature.add()
                    feature.bytes_list.value.append(frame.tobytes())
                writer.write(example.SerializeToString())


def write_labels(root: Path) -> None:
    """527 lines, names in quotes and some with commas in them, the moods and Music by their own names."""
    names = [f"Sound {n}, kind of" if n % 5 == 0 else f"Sound {n}" for n in range(527)]
    names[137] = "Music"
    names[276:283] = MOODS
    lines = [f'{n},"/m/{n:05x}","{name}"\n' for n, name in enumerate(names)]
    root.mkdir(parents=True, exist_ok=True)
    (root / "class_labels_indices.csv").write_text("".join(["index,mid,display_name\n", *lines]))


def write_audioset(root: Path) -> Path:
    write_labels(root)
    write_npz(root / "bal_train.npz", make_segments(1))
    write_npz(root / "eval_public.npz", make_segments(2))
    return root


WRITERS: dict[str, Callable[[Path], Path]] = {
    **dict.fromkeys(("jamendo", "jamendo-59"), write_jamendo),
    **dict.fromkeys(("audioset", "audioset-moods"), write_audioset),
}
for found in sorted(Path(__file__).parents[1].glob("toy_*_sets.py")):
    WRITERS |= importlib.import_module(found.stem).WRITERS


def check_conformance(dataset: Dataset) -> None:
    """What every data set owes to those who use it."""
    ids = [track.id for track in dataset.tracks]
    assert len(set(ids)) == len(ids) > 0
    assert len({track.key for track in dataset.tracks}) == len(ids)
    assert dataset.targets.dtype == np.float32
    assert dataset.targets.shape == (len(ids), len(dataset.task.targets))
    if dataset.task.scale is None:
        assert set(np.unique(dataset.targets)) == {0, 1}
    else:
        check_values(dataset.targets, dataset.task.scale)
    if dataset.task.kind == "classes":
        assert (dataset.targets.sum(axis=1) == 1).all()
    assert dataset.licence
    assert dataset.citation
    parts = {name: dataset.rows(name) for name in (dataset.train, dataset.validation, dataset.test)}
    rows = np.concatenate(list(parts.values()))
    assert sorted(rows) == list(range(len(ids)))  # in range, none twice, none left out
    assert all(len(part) for part in parts.values())
    artists = [{dataset.tracks[row].artist for row in part} for part in parts.values()]
    assert sum(map(len, artists)) == len(set.union(*artists))  # no artist in two parts
    if dataset.embeddings is not None:
        for track in dataset.tracks:
            frames = dataset.embeddings[track.key]
            assert frames.dtype == np.float32
            assert frames.shape[1:] == (dataset.embeddings.spec.dim,)
            assert len(frames)
    assert (dataset.curves is not None) == (dataset.task.rate_hz is not None)
    for curve, means in zip(dataset.curves or (), dataset.targets if dataset.curves else (), strict=True):
        assert curve.times_s.dtype == curve.values.dtype == np.float32
        assert curve.values.shape == (len(curve.times_s), len(dataset.task.targets))
        assert curve.times_s[0] >= 0
        assert (np.diff(curve.times_s) > 0).all()
        check_values(curve.values, dataset.task.scale)
        np.testing.assert_allclose(means, curve.values.mean(axis=0), rtol=1e-4, atol=1e-6)


def check_values(values: np.ndarray, scale: tuple[float, float]) -> None:
    assert np.isfinite(values).all()
    assert scale[0] <= values.min() <= values.max() <= scale[1]


@pytest.fixture(scope="module", params=DATASETS)
def small(request, tmp_path_factory):
    root = WRITERS[request.param](tmp_path_factory.mktemp(request.param))
    dataset = load_dataset(request.param, root)
    assert dataset.task.name == request.param
    return dataset


def test_every_data_set_conforms(small):
    check_conformance(small)


def test_a_part_that_is_not_there_is_refused_with_those_that_are(small):
    with pytest.raises(UsageError, match=rf"no part 'noon'.*{small.test}"):
        small.rows("noon")


@pytest.mark.parametrize("task", [task for task, source in DATASETS.items() if source.splits == FOLDS])
def test_each_split_tests_another_fold(task, tmp_path):
    WRITERS[task](tmp_path)
    tested = []
    for split in range(FOLDS):
        dataset = load_dataset(task, tmp_path, split=split)
        check_conformance(dataset)
        tested += dataset.rows("test").tolist()
    assert sorted(tested) == [*range(len(dataset.tracks))]
    for split in (-1, FOLDS):
        with pytest.raises(UsageError, match=f"split {split}: these data have 10 folds, 0 to 9"):
            load_dataset(task, tmp_path, split=split)


def test_every_data_set_has_a_fixture():
    assert WRITERS.keys() == DATASETS.keys()


def parts_by_id(dataset: Dataset) -> dict[str, str]:
    return {dataset.tracks[row].id: part for part, rows in dataset.parts.items() for row in rows}


def tags_by_id(dataset: Dataset) -> dict[str, set[str]]:
    return {
        track.id: {tag for tag, on in zip(dataset.task.targets, row, strict=True) if on}
        for track, row in zip(dataset.tracks, dataset.targets, strict=True)
    }


@pytest.mark.parametrize("split", SPLITS)
def test_jamendo_reads_each_official_split(tmp_path, split):
    dataset = load_dataset("jamendo", write_jamendo(tmp_path), split=split)
    assert dataset.task.targets == SPLIT_TAGS
    known = {f"track_{song:07d}": (artist, {*tags} & {*SPLIT_TAGS}) for song, artist, tags in SONGS}
    expected = {song: (artist, tags) for song, (artist, tags) in known.items() if tags}
    assert tags_by_id(dataset) == {song: tags for song, (_, tags) in expected.items()}
    assert parts_by_id(dataset) == {song: official_part(artist, split) for song, (artist, _) in expected.items()}
    track = next(track for track in dataset.tracks if track.id == "track_0000012")
    assert (track.audio, track.key, track.duration_s, track.artist) == ("12/12.mp3", "12/12", 12.5, "artist_000001")


@pytest.mark.parametrize("split", SPLITS)
def test_jamendo_59_keeps_official_parts_and_deals_the_others_out_by_artist(tmp_path, split):
    official = parts_by_id(load_dataset("jamendo", write_jamendo(tmp_path), split=split))
    dataset = load_dataset("jamendo-59", tmp_path, split=split)
    assert dataset.task.targets == ("dark", "epic", "happy", "horror", "mellow")
    assert tags_by_id(dataset) == {f"track_{song:07d}": {*tags} for song, _, tags in SONGS}
    parts = parts_by_id(dataset)
    assert official.items() < parts.items()
    assert parts["track_0000031"] == official_part(1, split)  # its artist has official tracks
    # Artists 3 and 4 have none: where they go depends on nothing but themselves.
    assert [parts["track_0000030"], parts["track_0000041"]] == [
        jamendo._choose_part("artist_000003"),
        jamendo._choose_part("artist_000004"),
    ]


def test_a_jamendo_with_only_one_split_is_enough(tmp_path):
    write_jamendo(tmp_path)
    for split in SPLITS[1:]:
        for path in (folder := tmp_path / "splits" / f"split-{split}").iterdir():
            path.unlink()
        folder.rmdir()
    check_conformance(load_dataset("jamendo", tmp_path))
    check_conformance(load_dataset("jamendo-59", tmp_path))
    with pytest.raises(UsageError, match=r"split-3: no such split; `jamendo-mood splits"):
        load_dataset("jamendo", tmp_path, split=3)


def spoil(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))


def replace_in(path: Path, old: str, new: str) -> None:
    spoil(path, old.encode(), new.encode())


TEST_TSV = "splits/split-0/autotagging_moodtheme-test.tsv"  # artists 2 and 5: tracks 21, 22, 51


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"TRACK_ID\tARTIST_ID", b"id,artist", r"test\.tsv: not the expected table.*TRACK_ID \| ARTIST_ID"),
        (b"\t22.5\tmood/theme---dark", b"", r"test\.tsv, line 3: 4 cells, at least 6"),
        (b"\t22.5\t", b"\tlong\t", r"test\.tsv, line 3, DURATION: 'long' is not a number from 0"),
        (b"\t22.5\t", b"\tnan\t", r"test\.tsv, line 3, DURATION: 'nan' is not a number from 0"),
        (b"---dark", b"---gloomy", r"test\.tsv, line 2: the tag 'gloomy' .* moodtheme_split\.txt"),
        (b"TRACK_ID", b"\xff", r"test\.tsv, line 1: cannot be read as a table"),
    ],
    ids=["header", "cells", "duration", "nan", "tag", "text"],
)
def test_a_bad_table_is_refused_with_its_name_and_line(tmp_path, old, new, message):
    write_jamendo(tmp_path)
    write_tsv(tmp_path / TEST_TSV, [(21, 2, ("epic", "dark")), (22, 2, ("dark",))])
    spoil(tmp_path / TEST_TSV, old, new)
    with pytest.raises(DataError, match=message):
        load_dataset("jamendo", tmp_path)


def test_a_table_without_tracks_is_refused(tmp_path):
    write_jamendo(tmp_path)
    write_tsv(tmp_path / TEST_TSV, [])
    with pytest.raises(DataError, match=r"test\.tsv: the table has no tracks"):
        load_dataset("jamendo", tmp_path)


FILES = [(task, name) for task, source in DATASETS.items() for name in source.files if Path(name).suffix]


@pytest.mark.parametrize(("task", "name"), [*FILES, ("jamendo", TEST_TSV)])
def test_a_missing_file_is_named(tmp_path, task, name):
    (WRITERS[task](tmp_path) / name).unlink()
    with pytest.raises(DataError, match=Path(name).name):
        load_dataset(task, tmp_path)


@pytest.mark.parametrize("name", DATASETS)
def test_no_such_folder_is_wrong_usage(tmp_path, name):
    with pytest.raises(UsageError, match="nowhere: no such folder of data"):
        load_dataset(name, tmp_path / "nowhere")


def test_an_unknown_task_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(UsageError, match=r"unknown task 'jazz'.*jamendo-59.*audioset-moods"):
        load_dataset("jazz", tmp_path)


def test_audioset_holds_what_was_released(tmp_path):
    dataset = load_dataset("audioset", write_audioset(tmp_path))
    assert len(dataset.task.targets) == 527
    assert dataset.task.targets[5] == "Sound 5, kind of"
    written = {video_id: (frames, labels) for seed in (1, 2) for video_id, frames, labels in make_segments(seed)}
    with_sound = {video_id for video_id, (frames, _) in written.items() if len(frames)}
    assert {track.key for track in dataset.tracks} == with_sound == set(dataset.embeddings)
    for track, targets in zip(dataset.tracks, dataset.targets, strict=True):
        frames, labels = written[track.id]
        np.testing.assert_array_equal(dataset.embeddings[track.key], frames)
        np.testing.assert_array_equal(np.flatnonzero(targets), labels)
    parts = {(video_id[0], part) for video_id, part in parts_by_id(dataset).items()}
    assert parts == {("1", "bal_train"), ("1", "validation"), ("2", "eval_public")}


def test_audioset_moods_are_the_moods_of_the_music(tmp_path):
    everything = load_dataset("audioset", write_audioset(tmp_path))
    moods = load_dataset("audioset-moods", tmp_path)
    assert moods.task.targets == everything.task.targets[276:283]
    assert moods.task.targets[0] == "Happy music"
    music = everything.targets[:, everything.task.targets.index("Music")] == 1
    assert 0 < music.sum() < len(music)
    assert tags_by_id(moods) == {
        song: tags & {*moods.task.targets}
        for (song, tags), keep in zip(tags_by_id(everything).items(), music, strict=True)
        if keep
    }
    assert parts_by_id(moods).items() < parts_by_id(everything).items()


def test_tfrecords_load_to_the_same_as_npz(tmp_path):
    packed = load_dataset("audioset", write_audioset(tmp_path / "npz"))
    write_labels(tmp_path / "tf")
    write_tfrecords(tmp_path / "tf" / "bal_train", make_segments(1))
    write_tfrecords(tmp_path / "tf" / "eval_public", make_segments(2))
    records = load_dataset("audioset", tmp_path / "tf")
    assert records.tracks == packed.tracks
    assert records.task == packed.task
    np.testing.assert_array_equal(records.targets, packed.targets)
    assert parts_by_id(records) == parts_by_id(packed)
    for key, frames in packed.embeddings.items():
        np.testing.assert_array_equal(records.embeddings[key], frames)


def test_another_part_is_read_when_it_is_asked_for(tmp_path):
    write_audioset(tmp_path)
    write_npz(tmp_path / "extra.npz", make_segments(3))
    assert set(load_dataset("audioset", tmp_path).parts) == {"bal_train", "validation", "eval_public"}
    dataset = load_dataset("audioset", tmp_path, part="extra")
    keys = [dataset.tracks[row].key for row in dataset.rows("extra")]
    assert keys == [video_id for video_id, frames, _ in make_segments(3) if len(frames)]
    with pytest.raises(UsageError, match=r"no part 'nights' \(neither nights.npz nor nights/\*.tfrecord\)"):
        load_dataset("audioset", tmp_path, part="nights")


def test_a_folder_without_a_part_or_all_labels_is_refused(tmp_path):
    write_labels(tmp_path)
    with pytest.raises(DataError, match=r"no part of AudioSet's embeddings there \(such as bal_train.npz\)"):
        load_dataset("audioset", tmp_path)
    path = tmp_path / "class_labels_indices.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:500]))
    with pytest.raises(DataError, match=r"class_labels_indices\.csv: 499 labels, but AudioSet has 527"):
        load_dataset("audioset", tmp_path)


def harm(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(change(path.read_bytes()))


HARMS = {
    "cut": harm(lambda content: content[: len(content) // 2]),
    "empty": harm(lambda _: b""),
    "text": harm(lambda _: b"<html>404</html>"),
}


def flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes(255 - byte for byte in content[middle : middle + 100]) + content[middle + 100 :]


def change(**arrays: np.ndarray | None) -> Callable[[Path], None]:
    """Write an .npz again with other arrays, or, for None, without."""

    def write(path: Path) -> None:
        with np.load(path) as loaded:
            kept = {**loaded, **arrays}
        np.savez(path, **{name: array for name, array in kept.items() if array is not None})

    return write


@pytest.mark.parametrize(
    "damage",
    [
        *HARMS.values(),
        harm(flip),
        change(labels=None),
        change(embeddings=np.zeros((SEGMENTS, 10, 64), np.uint8)),
        change(embeddings=np.zeros((SEGMENTS - 1, 10, 128), np.uint8)),
        change(labels=np.zeros((SEGMENTS, 8), np.uint8)),
        change(video_id=np.array([None] * SEGMENTS)),
    ],
    ids=[*HARMS, "flipped", "no labels", "narrow", "short", "few labels", "pickle"],
)
def test_a_damaged_npz_is_refused_with_its_name(tmp_path, damage):
    damage(write_audioset(tmp_path) / "bal_train.npz")
    with pytest.raises(DataError, match=r"bal_train\.npz: not a part of AudioSet's embeddings"):
        load_dataset("audioset", tmp_path)


def write_junk_record(path: Path) -> None:
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(b"\xff no example \xff")


@pytest.mark.parametrize(
    ("segments", "damage"),
    [
        *((make_segments(1), damage) for damage in (*HARMS.values(), write_junk_record)),
        ([("abc", np.zeros((10, 64), np.uint8), [1])], lambda _: None),
        ([("abc", np.zeros((10, 128), np.uint8), [527])], lambda _: None),
    ],
    ids=[*HARMS, "junk", "half a frame", "label beyond the list"],
)
def test_damaged_tfrecords_and_those_that_do_not_fit_are_refused_with_their_folder(tmp_path, segments, damage):
    write_labels(tmp_path)
    write_tfrecords(tmp_path / "bal_train", segments)
    for path in (tmp_path / "bal_train").iterdir():
        damage(path)
    with pytest.raises(DataError, match="bal_train: not AudioSet's TFRecords"):
        load_dataset("audioset", tmp_path)


def test_only_the_ten_seconds_that_were_labelled_are_read(tmp_path):
    frames = np.arange(12 * 128).reshape(12, 128).astype(np.uint8)
    write_tfrecords(tmp_path / "long", [("abc", frames, [1])])
    segments = audioset.read_tfrecords(tmp_path / "long", 527)
    np.testing.assert_array_equal(segments.frames, [frames[:10]])


# ---- The real files.


REAL_FOLDERS = {"pmemo": "PMEmo2019", "emomusic": "emoMusic", "deam": "DEAM"}


@pytest.mark.shared
@pytest.mark.parametrize("task", toy_affect_sets.WRITERS)
def test_the_real_values_conform(task, shared):
    check_conformance(load_dataset(task, shared / "data/annotations" / REAL_FOLDERS[task.partition("-")[0]]))


SIZES_59 = {"train": 10_192, "validation": 3_851, "test": 4_443}
"""Of split 0: the official 9,949 / 3,802 / 4,231 and the 504 others."""


@pytest.fixture(scope="module")
def mtg(shared):
    return shared / "data" / "jamendo"


@pytest.mark.shared
@pytest.mark.parametrize(
    "split", [pytest.param(split, marks=pytest.mark.thorough if split else ()) for split in SPLITS]
)
def test_the_official_splits_conform(mtg, split):
    dataset = load_dataset("jamendo", mtg, split=split)
    check_conformance(dataset)
    assert dataset.targets.shape == (17_982, 56)
    lines = (mtg / "moodtheme_split.txt").read_text().splitlines()
    assert [f"mood/theme---{tag}" for tag in dataset.task.targets] == lines
    if split == 0:
        assert [len(dataset.rows(part)) for part in jamendo.PARTS] == [9_949, 3_802, 4_231]


@pytest.mark.shared
def test_the_test_part_is_the_official_ground_truth_row_for_row(mtg):
    dataset = load_dataset("jamendo", mtg)
    truth = np.load(mtg / "mediaeval" / "groundtruth.npy")
    np.testing.assert_array_equal(dataset.targets[dataset.rows("test")], truth)


@pytest.mark.shared
@pytest.mark.parametrize("split", [0, pytest.param(4, marks=pytest.mark.thorough)])
def test_all_59_tags_conform(mtg, split):
    dataset = load_dataset("jamendo-59", mtg, split=split)
    check_conformance(dataset)
    assert dataset.targets.shape == (18_486, 59)
    official = parts_by_id(load_dataset("jamendo", mtg, split=split))
    assert official.items() < parts_by_id(dataset).items()
    if split == 0:
        assert {part: len(rows) for part, rows in dataset.parts.items()} == SIZES_59


@pytest.mark.thorough
@pytest.mark.shared
def test_the_released_audioset_conforms(shared):
    dataset = load_dataset("audioset", shared / "data" / "audioset", part="tfrecords")
    sizes = {part: len(rows) for part, rows in dataset.parts.items()}
    assert sizes["bal_train"] + sizes["validation"] == 22_160 - 24  # whose sound is in eval_public too
    assert (sizes["eval_public"], sizes["tfrecords"]) == (10_327, 975)
    assert dataset.targets.shape[1] == 527
    moods = load_dataset("audioset-moods", shared / "data" / "audioset")
    check_conformance(moods)
    assert list(moods.task.targets) == MOODS
    assert dataset.task.targets[276:283] == moods.task.targets
