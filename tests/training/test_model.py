import contextlib
import hashlib
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
from toy_examples import CURVES, DIM, OTHER_SPEC, SPEC, TASK, label_anew, make_examples, make_tagger

from jamendo_mood.tasks.kind import apply_platt
from jamendo_mood.training import model
from jamendo_mood.training.fit import TrainConfig, fit
from jamendo_mood.training.heads import HEADS, HeadConfig
from jamendo_mood.training.model import Tagger, check_tagger_folder, load_builtin
from jamendo_mood.util.errors import DataError, UsageError
from jamendo_mood.util.files import write_atomically

FRAMES = np.random.default_rng(5).standard_normal((14, DIM), dtype=np.float32)


IN_ORDER = ("conv1d", "gru")  # whose networks take the longest to build


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=pytest.mark.thorough if name in IN_ORDER else ())
        for name in HEADS
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
        thresholds=np.array([0.25, 0.5, 0.75]),
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
    np.testing.assert_allclose(
        tagger.score([FRAMES]), apply_platt(plain.score([FRAMES]), tagger.calibration), rtol=1e-4
    )
    assert np.abs(tagger.score([FRAMES]) - plain.score([FRAMES])).max() > 1e-3


def test_thresholds_are_inclusive(tagger):
    scores = np.array([[0.2, 0.5, 0.9], [0.3, 0.4, 0.0]], np.float32)
    thresholds = replace(tagger, thresholds=np.array([0.3, 0.4, np.inf]))
    assert thresholds.decide(scores).tolist() == [[False, True, False], [True, True, False]]


def test_loaded_again_it_is_the_same_tagger(tagger, saved):
    loaded = Tagger.load(saved)
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
    assert loaded.record["data"] == "toy"
    assert dict(loaded.scores) == dict(tagger.scores)


@pytest.mark.thorough
@pytest.mark.parametrize("tagger", ["mlp"], indirect=True)
def test_a_fresh_process_gives_the_same_scores(tagger, saved, tmp_path):
    X = [FRAMES, FRAMES[:12]]
    np.savez(tmp_path / "X.npz", *X)
    program = (
        "import sys, numpy; from jamendo_mood import Tagger; "
        "numpy.save(sys.argv[3], Tagger.load(sys.argv[1]).score([*numpy.load(sys.argv[2]).values()]))"
    )
    paths = [str(path) for path in (saved, tmp_path / "X.npz", tmp_path / "scores.npy")]
    subprocess.run([sys.executable, "-c", program, *paths], check=True, capture_output=True)
    np.testing.assert_array_equal(np.load(tmp_path / "scores.npy"), tagger.score(X))


def test_an_infinite_threshold_survives_as_none(tagger, tmp_path):
    thresholds = np.array([0.1 + 0.2, np.inf, 1e-30])
    replace(tagger, thresholds=thresholds).save(tmp_path)
    assert json.loads((tmp_path / "tagger.json").read_text())["thresholds"] == [0.1 + 0.2, None, 1e-30]
    np.testing.assert_array_equal(Tagger.load(tmp_path).thresholds, thresholds)


def test_saving_again_replaces_the_tagger(tagger, saved):
    before = weights_in(saved)
    other = tuple(tuple(array + 1 for array in own) for own in tagger.weights)
    replace(tagger, weights=other, scores={"PR-AUC-macro": 0.125}).save(saved)
    assert Tagger.load(saved).scores == {"PR-AUC-macro": 0.125}
    np.testing.assert_array_equal(Tagger.load(saved).weights[0][0], other[0][0])
    assert sorted(path.name for path in saved.iterdir()) == ["README.md", "tagger.json", weights_in(saved).name]
    assert weights_in(saved) != before


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
def test_a_tagger_that_is_replaced_is_whole_whenever_the_process_dies(tagger, saved, dying_after, monkeypatch, files):
    other = replace(tagger, weights=tuple(tuple(array + 1 for array in own) for own in tagger.weights))
    dying_after(files)
    with contextlib.suppress(KilledError):
        other.save(saved)
    expected = tagger if files < 2 else other
    np.testing.assert_array_equal(Tagger.load(saved).weights[0][0], expected.weights[0][0])
    monkeypatch.undo()
    other.save(saved)
    assert sorted(path.name for path in saved.iterdir()) == ["README.md", "tagger.json", weights_in(saved).name]
    np.testing.assert_array_equal(Tagger.load(saved).weights[0][0], other.weights[0][0])


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
    assert len(list((tmp_path / "new").iterdir())) == 3


@pytest.mark.parametrize("tagger", ["mlp"], indirect=True)
def test_of_taggers_that_are_saved_at_once_one_is_there_whole(tagger, tmp_path):
    """Each removes the weights of others, but not while those are being saved or read."""
    taggers = [replace(tagger, weights=tuple([a + n for a in own] for own in tagger.weights)) for n in range(4)]
    stop = threading.Event()

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
    huge = replace(
        tagger,
        weights=tuple([np.full_like(a, -3e38) if a.dtype == np.float32 else a for a in own] for own in tagger.weights),
    )
    with pytest.raises(DataError, match="give scores that are not numbers"):
        huge.score_track(np.ones((3, tagger.spec.dim), np.float32))


def test_weights_of_earlier_versions_are_read_and_replaced(tagger, saved, tmp_path):
    arrays = safetensors.numpy.load_file(weights_in(saved))
    np.savez(tmp_path / "weights.npz", **arrays)
    replace_weights(saved, (tmp_path / "weights.npz").read_bytes())
    np.testing.assert_array_equal(Tagger.load(saved).weights[0][0], tagger.weights[0][0])
    tagger.save(saved)
    assert not (saved / "weights.npz").exists()
    Tagger.load(saved)


def test_embeddings_of_another_spec_are_refused_naming_both(tagger):
    tagger.check_spec(SPEC)
    with pytest.raises(UsageError, match=r"needs embeddings of toy \(4 numbers.*these are of other \(4 numbers"):
        tagger.check_spec(OTHER_SPEC)


@pytest.mark.parametrize("name", ["thesis.txt", "weights.npz"])
def test_a_folder_that_holds_something_else_is_left_alone(tagger, tmp_path, name):
    (tmp_path / name).write_text("my only copy")
    with pytest.raises(UsageError, match="holds something other than a tagger"):
        tagger.save(tmp_path)
    with pytest.raises(UsageError, match="a file of this name is in the way"):
        tagger.save(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "my only copy"


def test_a_link_that_leads_nowhere_is_refused_before_a_training(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "not-mounted")
    with pytest.raises(UsageError, match="a link that leads nowhere is in the way"):
        check_tagger_folder(tmp_path / "link")


def test_a_folder_without_a_tagger_is_wrong_usage(tmp_path):
    with pytest.raises(UsageError, match=r"no tagger there \(no tagger.json\); `jamendo-mood train` makes one"):
        Tagger.load(tmp_path)


def weights_in(folder):
    (path,) = folder.glob("weights-*.safetensors")
    return path


@pytest.mark.parametrize("place", [0, 0.5, 1], ids=["first byte", "middle", "last byte"])
def test_one_flipped_byte_of_the_weights_is_noticed(saved, place):
    path = weights_in(saved)
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"weights-[0-9a-f]{12}\.safetensors: damaged, or of another training"):
        Tagger.load(saved)
    path.unlink()
    with pytest.raises(DataError, match=r"weights-[0-9a-f]{12}\.safetensors"):
        Tagger.load(saved)


class Bomb:
    """Unpickling it would leave a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def replace_weights(folder, content):
    """Put other weights in, with a right checksum: what someone would do who means harm."""
    for path in folder.glob("weights-*.safetensors"):
        path.unlink()
    (folder / "weights.npz").write_bytes(content)
    edit(folder, weights_sha256=hashlib.sha256(content).hexdigest())


def test_a_pickle_among_the_weights_is_not_opened_nor_what_is_no_npz(saved, tmp_path):
    crater = tmp_path / "crater"
    np.savez(tmp_path / "bomb.npz", np.array([Bomb(crater)], dtype=object))
    bomb, torn = (tmp_path / "bomb.npz").read_bytes(), b"PK\x03\x04 not really"
    for content, message in ((bomb, r"not a tagger's weights, or damaged.*allow_pickle"), (torn, "damaged")):
        replace_weights(saved, content)
        with pytest.raises(DataError, match=message):
            Tagger.load(saved)
    assert not crater.exists()


def test_weights_of_another_head_or_of_other_shapes_are_refused(tagger, tmp_path):
    replace(tagger, head=HeadConfig("mlp", hidden=5, layers=1)).save(tmp_path)
    with pytest.raises(DataError, match="the weights do not fit the head, which has"):
        Tagger.load(tmp_path)
    turned = tuple(tuple(array.reshape(-1) for array in own) for own in tagger.weights)
    replace(tagger, weights=turned).save(tmp_path)
    with pytest.raises(DataError, match="the weights do not fit the head"):
        Tagger.load(tmp_path).score_track(FRAMES)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"format": 99}, "a tagger of format 99, this version reads 2"),
        ({"thresholds": [0.5]}, "not a tagger, or damaged"),
        ({"calibration": [[1, 0]]}, "not a tagger, or damaged"),
        ({"thresholds": ["high", 1, 1]}, "not a tagger, or damaged"),
        ({"head": {"name": "mlp", "wings": 2}}, "not a tagger, or damaged.*wings"),
        ({"task": {}}, "not a tagger, or damaged"),
        ({"embedder": None}, "not a tagger, or damaged"),
    ],
)
def test_a_damaged_manifest_is_refused_with_its_name(saved, values, message):
    edit(saved, **values)
    with pytest.raises(DataError, match=rf"tagger\.json: {message}"):
        Tagger.load(saved)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe"])
def test_a_manifest_that_is_no_tagger_is_refused_with_its_name(saved, content):
    (saved / "tagger.json").write_bytes(content)
    with pytest.raises(DataError, match=r"tagger\.json: not a tagger, or damaged"):
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
    trained = fit(*parts, CURVES, SPEC, config)
    trained.save(tmp_path)
    tagger = Tagger.load(tmp_path)
    assert tagger.task == CURVES
    assert (dict(tagger.scores), dict(tagger.intervals)) == (dict(trained.scores), dict(trained.intervals))
    assert dict(tagger.record) == json.loads(json.dumps(trained.record))
    songs = [FRAMES, FRAMES[:3]]
    found = tagger.score_tracks(songs)
    np.testing.assert_allclose(found, [tagger.score_track(song) for song in songs], rtol=1e-5)
    np.testing.assert_allclose(found[0], tagger.score_frames(FRAMES).mean(axis=0), rtol=1e-5)
    assert np.abs(found - tagger.score(songs)).max() > 1e-4
    assert ((found >= -1) & (found <= 1)).all()
