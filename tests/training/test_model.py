import contextlib
import hashlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
from toy_examples import CURVES, DIM, NETWORKS, OTHER_SPEC, SPEC, TASK, label_anew, make_examples, make_tagger

from jamendo_mood.tasks.kind import apply_platt
from jamendo_mood.training import model
from jamendo_mood.training.fit import TrainConfig, fit
from jamendo_mood.training.heads import HeadConfig
from jamendo_mood.training.model import Tagger, load_builtin
from jamendo_mood.util.errors import DataError, UsageError
from jamendo_mood.util.files import write_atomically

FRAMES = np.random.default_rng(5).standard_normal((14, DIM), dtype=np.float32)
IN_ORDER = ("conv1d", "gru")  # whose networks take the longest to build


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=pytest.mark.thorough if name in IN_ORDER else ())
        for name in NETWORKS
        if name != "cnn"  # which wants patches: test_cnn
    ],
)
def tagger(request):
    """Two heads with weights from seeds: what is done with a tagger does not hang on its training."""
    first, second = (make_tagger(TASK, config=HeadConfig(request.param, hidden=8, layers=1), seed=n) for n in (0, 1))
    return replace(
        first,
        weights=first.weights + second.weights,
        calibration=np.array([[1.5, -0.5], [0.75, 0.25], [2.0, 0.1]]),
        thresholds=np.array([0.1 + 0.2, np.inf, 1e-30]),
        grades=("good", "weak", "fair"),
        record={"data": "toy", "tracks": {"train": 80, "validation": 40}, "best_epochs": (1, 2)},
        scores={"PR-AUC-macro": 0.5, "ROC-AUC-macro": 0.1 + 0.2},
        intervals={"PR-AUC-macro": (0.25, 0.6)},
    )


@pytest.fixture
def saved(tagger, tmp_path):
    folder = tmp_path / "tagger"
    tagger.save(folder)
    return folder


@pytest.fixture
def other(tagger):
    """Another tagger, to be saved in place of the first."""
    return replace(tagger, weights=tuple(tuple(array + 1 for array in own) for own in tagger.weights))


def check_there(folder, tagger):
    """That the folder has this tagger, and nothing else."""
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "tagger.json", weights_in(folder).name]
    np.testing.assert_array_equal(Tagger.load(folder).weights[0][0], tagger.weights[0][0])


def edit(folder, **values):
    """Change the tagger's JSON."""
    path = folder / "tagger.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_tracks_and_frames_are_scored_by_their_neighbourhood(tagger):
    np.testing.assert_allclose(tagger.score_track(FRAMES), tagger.score([FRAMES, FRAMES[:3]])[0], rtol=1e-5)
    over_time = tagger.score_frames(FRAMES)
    assert over_time.shape == (len(FRAMES), len(TASK.targets))
    np.testing.assert_allclose(over_time[0], tagger.score_track(FRAMES[:10]), rtol=1e-4)
    np.testing.assert_allclose(over_time[-1], tagger.score_track(FRAMES[-10:]), rtol=1e-4)
    assert (over_time[0] != over_time[-1]).all()
    alone = tagger.score_track(FRAMES[:1])  # one frame is a track
    assert alone.shape == (len(TASK.targets),)
    assert np.isfinite(alone).all()
    np.testing.assert_allclose(tagger.score_frames(FRAMES[:1]), [alone], rtol=1e-5)


@pytest.mark.parametrize("tagger", ["mlp"], indirect=True)
def test_an_ensemble_is_the_mean_of_its_heads_then_calibrated(tagger):
    plain = replace(tagger, calibration=np.tile([1.0, 0.0], (3, 1)))
    alone = [replace(plain, weights=(own,)).score([FRAMES]) for own in tagger.weights]
    assert len(alone) == 2
    assert np.abs(alone[0] - alone[1]).max() > 1e-3
    np.testing.assert_allclose(plain.score([FRAMES]), np.mean(alone, axis=0), rtol=1e-4)
    calibrated = apply_platt(plain.score([FRAMES]), tagger.calibration)
    np.testing.assert_allclose(tagger.score([FRAMES]), calibrated, rtol=1e-4)
    assert np.abs(calibrated - plain.score([FRAMES])).max() > 1e-3


def test_loaded_again_it_is_the_same_tagger(tagger, saved):
    loaded = Tagger.load(saved)
    assert json.loads((saved / "tagger.json").read_text())["thresholds"] == [0.1 + 0.2, None, 1e-30]
    X = make_examples(30, seed=9).frames
    np.testing.assert_array_equal(loaded.score(X), tagger.score(X))
    assert tagger.score(X).std() > 0.01
    np.testing.assert_array_equal(loaded.thresholds, tagger.thresholds)
    np.testing.assert_array_equal(loaded.calibration, tagger.calibration)
    assert loaded.grades == tagger.grades
    assert dict(loaded.intervals) == dict(tagger.intervals)
    assert tagger.intervals["PR-AUC-macro"][0] < tagger.scores["PR-AUC-macro"]
    assert (loaded.task, loaded.spec, loaded.head) == (tagger.task, tagger.spec, tagger.head)
    assert dict(loaded.record) == json.loads(json.dumps(tagger.record))
    assert dict(loaded.scores) == dict(tagger.scores)


class KilledError(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def dying_after(monkeypatch):
    """Let the process end after so many files that `save` writes; 0.5 is: with the first of them half written."""

    def arrange(files):
        written = []

        def write(path, content):
            if len(written) + 0.5 == files:
                path.parent.mkdir(exist_ok=True)
                path.with_name(f".{path.name}-{'5a' * 8}.tmp").write_bytes(b"half")
            if len(written) + 0.5 >= files:
                raise KilledError
            write_atomically(path, content)
            written.append(path)

        monkeypatch.setattr(model, "write_atomically", write)

    return arrange


@pytest.mark.parametrize("tagger", ["mlp"], indirect=True)
@pytest.mark.parametrize("files", [0.5, 1, 1.5, 2, 2.5, 3])
def test_a_tagger_that_is_replaced_is_whole_whenever_the_process_dies(
    tagger, other, saved, dying_after, monkeypatch, files
):
    dying_after(files)
    with contextlib.suppress(KilledError):
        other.save(saved)
    expected = tagger if files < 2 else other
    np.testing.assert_array_equal(Tagger.load(saved).weights[0][0], expected.weights[0][0])
    monkeypatch.undo()
    other.save(saved)
    check_there(saved, other)


@pytest.mark.parametrize("tagger", ["mlp"], indirect=True)
@pytest.mark.parametrize("files", [0.5, 1, 1.5])
def test_a_first_save_that_was_killed_is_begun_again(tagger, dying_after, monkeypatch, tmp_path, files):
    dying_after(files)
    with pytest.raises(KilledError):
        tagger.save(tmp_path / "new")
    with pytest.raises(UsageError, match="no tagger there"):
        Tagger.load(tmp_path / "new")
    monkeypatch.undo()
    tagger.save(tmp_path / "new")
    check_there(tmp_path / "new", tagger)


@pytest.mark.parametrize("tagger", ["mlp"], indirect=True)
def test_of_taggers_that_are_saved_at_once_one_is_there_whole(tagger, other, tmp_path):
    """Each removes the weights of others, but not while those are being saved or read."""
    taggers, stop = [tagger, other, tagger, other], threading.Event()

    def save_again_and_again(own):
        while not stop.is_set():
            own.save(tmp_path / "t")

    def load_again_and_again():
        try:
            for _ in range(100):
                Tagger.load(tmp_path / "t")
        finally:
            stop.set()

    taggers[0].save(tmp_path / "t")
    with ThreadPoolExecutor() as pool:  # a lock is held by who opened the folder, so threads are as good as processes
        saving = [pool.submit(save_again_and_again, own) for own in taggers]
        failed = [work.exception() for work in (pool.submit(load_again_and_again), *saving)]
    assert not any(failed)
    assert len(list((tmp_path / "t").iterdir())) == 3


def test_weights_that_give_no_numbers_are_told_of(tagger):
    huge = [[np.full_like(a, -3e38) if a.dtype == np.float32 else a for a in own] for own in tagger.weights]
    with pytest.raises(DataError, match="give scores that are not numbers"):
        replace(tagger, weights=huge).score_track(np.ones((3, tagger.spec.dim), np.float32))


def test_weights_of_earlier_versions_are_read_and_replaced(tagger, saved):
    np.savez(saved / "weights.npz", **safetensors.numpy.load_file(weights_in(saved)))
    weights_in(saved).unlink()
    edit(saved, weights_sha256=hashlib.sha256((saved / "weights.npz").read_bytes()).hexdigest())
    np.testing.assert_array_equal(Tagger.load(saved).weights[0][0], tagger.weights[0][0])
    tagger.save(saved)
    check_there(saved, tagger)


def test_embeddings_of_another_spec_are_refused_naming_both(tagger):
    with pytest.raises(UsageError, match=r"needs embeddings of toy \(4 numbers.*these are of other \(4 numbers"):
        tagger.check_spec(OTHER_SPEC)


@pytest.mark.parametrize("name", ["thesis.txt", "weights.npz"])
def test_a_folder_that_holds_something_else_is_left_alone(tagger, tmp_path, name):
    (tmp_path / name).write_text("my only copy")
    with pytest.raises(UsageError, match=r"no tagger there \(no tagger.json\); `jamendo-mood train` makes one"):
        Tagger.load(tmp_path)
    with pytest.raises(UsageError, match="holds something other than a tagger"):
        tagger.save(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "not-mounted")
    for path in (tmp_path / name, tmp_path / "link"):
        with pytest.raises(UsageError, match="is in the way of the tagger's folder"):
            tagger.save(path)
    assert {path.name for path in tmp_path.iterdir()} == {name, "link"}
    assert (tmp_path / name).read_text() == "my only copy"


def weights_in(folder):
    (path,) = folder.glob("weights-*.safetensors")
    return path


def test_one_flipped_byte_of_the_weights_is_noticed(saved):
    path = weights_in(saved)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"weights-[0-9a-f]{12}\.safetensors: damaged, or of another training"):
        Tagger.load(saved)
    path.unlink()
    with pytest.raises(DataError, match=r"weights-[0-9a-f]{12}\.safetensors"):
        Tagger.load(saved)


def test_weights_of_another_head_or_of_other_shapes_are_refused(tagger, tmp_path):
    replace(tagger, head=HeadConfig("mlp", hidden=5, layers=1)).save(tmp_path)
    with pytest.raises(DataError, match="the weights do not fit the head"):
        Tagger.load(tmp_path)
    turned = tuple(tuple(array.reshape(-1) for array in own) for own in tagger.weights)
    replace(tagger, weights=turned).save(tmp_path)
    with pytest.raises(DataError, match="the weights do not fit the head"):
        Tagger.load(tmp_path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"format": 99}, "a tagger of format 99, this version reads 2"),
        ({"thresholds": [0.5]}, "not a tagger, or damaged"),
        ({"head": {"name": "mlp", "wings": 2}}, "not a tagger, or damaged.*wings"),
    ],
)
def test_a_damaged_manifest_is_refused_with_its_name(saved, values, message):
    edit(saved, **values)
    with pytest.raises(DataError, match=rf"tagger\.json: {message}"):
        Tagger.load(saved)


def test_half_precision_weights_are_read_as_any(tagger, tmp_path):
    halves = tuple(tuple(array.astype(np.float16) for array in own) for own in tagger.weights)
    replace(tagger, weights=halves).save(tmp_path)
    loaded = Tagger.load(tmp_path)
    assert {array.dtype for own in loaded.weights for array in own} == {np.dtype(np.float16)}
    np.testing.assert_allclose(loaded.score([FRAMES]), tagger.score([FRAMES]), atol=0.01)


def test_the_tagger_that_comes_with_the_package_knows_seven_moods():
    tagger = load_builtin()
    assert tagger.task.targets == tuple(
        f"{mood} music" for mood in ["Happy", "Funny", "Sad", "Tender", "Exciting", "Angry", "Scary"]
    )
    assert (tagger.spec.name, tagger.spec.weights_sha256) == ("vggish-pca", "released")
    scores = tagger.score_track(np.random.default_rng(0).integers(0, 256, (30, 128)).astype(np.float32))
    assert ((scores > 0) & (scores < 1)).all()
    assert tagger.record["tested"]["part"] == "eval_public"


def test_a_dynamic_tagger_scores_a_library_as_it_scores_a_song(tmp_path):
    config = TrainConfig(HeadConfig("mlp", "mean+std", hidden=8, layers=1), ensemble=1, epochs=2, batch=32)
    parts = [label_anew(make_examples(count, seed), CURVES) for seed, count in enumerate((80, 40))]
    fit(*parts, CURVES, SPEC, config).save(tmp_path)
    tagger = Tagger.load(tmp_path)
    assert tagger.task == CURVES
    songs = [FRAMES, FRAMES[:3]]
    found = tagger.score_tracks(songs)
    np.testing.assert_allclose(found, [tagger.score_track(song) for song in songs], rtol=1e-5)
    np.testing.assert_allclose(found[0], tagger.score_frames(FRAMES).mean(axis=0), rtol=1e-5)
    assert np.abs(found - tagger.score(songs)).max() > 1e-4
    assert ((found >= -1) & (found <= 1)).all()
