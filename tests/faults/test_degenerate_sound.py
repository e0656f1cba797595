"""Sound that is hardly sound, from file to score: every number that comes out is finite, or the track is refused."""

import itertools

import numpy as np
import pytest
from toy_examples import CLASSES, NETWORKS, TASK, VALUES, make_tagger
from trying import refusing

from jamendo_mood.audio.decoding import DECODERS
from jamendo_mood.embedders.registry import EMBEDDERS, Embedder, EmbedderOptions, EmbedderSpec, load_embedder
from jamendo_mood.extraction.streaming import StreamConfig, embed_files, extract
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.tagging.analysis import Limits, analyse, explain_error
from jamendo_mood.tagging.prediction import predict, predict_files
from jamendo_mood.training.heads import HeadConfig
from jamendo_mood.util.errors import AudioError

RATE_HZ = 16_000
HEAVY = {"vggish", "vggish-pca", "handcrafted"}  # 288 MB of weights, a compiler: in `make test-slow` alone
USUAL = {"logmel", "mel-patches"}  # small and soon ready
SPEC = EmbedderSpec("toy", "", RATE_HZ, 0.05, 0.05, 3)

time_s = np.arange(round(2.5 * RATE_HZ)) / RATE_HZ
noise = np.random.default_rng(0).standard_normal(len(time_s))
SOUNDS = {
    "silence": 0 * time_s,
    "negative silence": -0.0 * time_s,
    "clipping": np.sign(np.sin(2 * np.pi * 440 * time_s)),
    "DC": 0 * time_s + 1.0,
    "one sample": np.array([0.5]),
    "one click": np.eye(1, len(time_s), 7_000)[0],
    "1 Hz": np.sin(2 * np.pi * time_s),
    "8 kHz": np.cos(np.pi * np.arange(len(time_s))),
    "denormal": 1e-42 * np.sign(noise),
    "faint": 1e-20 * noise,
    "loudest noise": np.clip(10 * noise, -1, 1),
    "a step": np.sign(time_s - 1.2),
}
BROKEN = {
    "one NaN": np.where(np.arange(len(time_s)) == 9_000, np.nan, 0.1 * noise),
    "NaN alone": time_s * np.nan,
    "infinity": np.where(np.arange(len(time_s)) % 999 == 0, np.inf, 0.1 * noise),
    "both infinities": np.where(noise > 0, np.inf, -np.inf),
    "beyond float32": np.where(noise > 1, 3e38, 0.1 * noise),
    "a hundred times full scale": 100 * noise,
}


FIGURES = [
    (
        "Silence, clipping, DC, one sample, 1 Hz, 8 kHz, denormals, NaN and infinity, through embedders and heads",
        "{sounds:,} sounds, {heads:,} heads",
        "{numbers:,} numbers of embeddings and {scores:,} scores, all finite and on their scales; "
        "{files:,} broken files were scored, {refused:,} refused in one line",
    )
]


def mark(name):
    mark = pytest.mark.slow if name in HEAVY else pytest.mark.thorough
    return pytest.param(name, marks=() if name in USUAL else mark)


@pytest.fixture(scope="module", params=map(mark, EMBEDDERS))
def embedder(request):
    if request.param == "handcrafted":
        pytest.importorskip("librosa", reason="needs the extra `classical`")
    weights = {"vggish": "seeded_module", "yamnet": "seeded_yamnet_module", "musicnn": "seeded_musicnn_wheel"}
    seeded = weights.get(request.param.partition("-")[0])
    options = EmbedderOptions(
        weights=seeded and request.getfixturevalue(seeded),
        pca=request.getfixturevalue("seeded_pca") if request.param == "vggish-pca" else None,
        allow_untrained=True,
    )
    return load_embedder(request.param, options)


@pytest.fixture(scope="module")
def embeddings(embedder, tried):
    """Of each sound, by its name."""
    with np.errstate(all="raise", under="ignore"):
        found = {name: embedder.embed(wave.astype(np.float32)) for name, wave in SOUNDS.items()}
    tried["sounds"] += len(found)
    return found


def check_scores(scores, task):
    low, high = task.scale or (0.0, 1.0)
    assert low <= scores.min() <= scores.max() <= high


def test_embeddings_are_finite(embeddings, embedder, tried):
    for name, frames in embeddings.items():
        assert (frames.dtype, frames.ndim) == (np.float32, 2), name
        assert len(frames), name
        assert np.isfinite(frames).all(), name
        tried["numbers"] += frames.size


def test_scores_are_finite_and_on_their_scale(embeddings, embedder, amount, tried):
    of_patches = embedder.spec.name.endswith("-patches")
    fit = [name for name in NETWORKS if name != "cnn" or of_patches]
    choices = itertools.product((TASK, CLASSES, VALUES), fit, ("frames", "mean+std"))
    for task, head, pooling in itertools.islice(choices, amount(1, 100)):
        tagger = make_tagger(task, embedder.spec, HeadConfig(head, pooling, hidden=8, layers=1))
        for name, frames in embeddings.items():
            for scores in (tagger.score_track(frames), tagger.score_frames(frames)):
                check_scores(scores, task)
                assert tagger.decide(scores).shape == scores.shape, name
                tried["scores"] += scores.size
        tried["heads"] += 1


@pytest.fixture(scope="module")
def logmel_tagger():
    logmel = load_embedder("logmel")
    return logmel, make_tagger(TASK, logmel.spec)


def write_sounds(sounds, make_audio, folder):
    """Float WAVs by name: they keep what no other format can hold."""
    options = ("-c:a", "pcm_f32le")
    return {
        name: make_audio(folder / f"{name}.wav", wave.astype(np.float32), RATE_HZ, options)
        for name, wave in sounds.items()
    }


@pytest.mark.parametrize("decoder", DECODERS)
def test_files_of_it_are_scored_or_refused(decoder, logmel_tagger, make_audio, amount, tried, tmp_path):
    embedder, tagger = logmel_tagger
    chosen = dict(itertools.islice((BROKEN | SOUNDS).items(), amount(len(BROKEN) + 1, 100)))
    paths = [*write_sounds(chosen, make_audio, tmp_path).values()]
    config = StreamConfig(scratch=tmp_path / "scratch", decoder=decoder)
    for _, prediction in predict_files(paths, tagger, embedder, config):
        if refused := isinstance(prediction, str):
            assert "\n" not in prediction
        else:
            check_scores(prediction.track_scores, TASK)
            check_scores(prediction.frame_scores, TASK)
        tried["refused" if refused else "files"] += 1
    for path in paths:
        with refusing() as refused:
            analysis = analyse(path, tagger, embedder, Limits(scratch=tmp_path / "scratch"))
            check_scores(analysis.prediction.track_scores, TASK)
        tried["refused" if refused else "files"] += 1
        if path.stem in ("silence", "negative silence", "denormal", "faint", "one sample"):
            assert refused, "what is no music gets no moods where somebody waits for them"


def cut_windows(wave):
    return np.lib.stride_tricks.sliding_window_view(wave, 800)[::800, :3].copy()


@pytest.fixture(params=[np.nan, np.inf, -np.inf])
def failing(request):
    """An embedder whose network makes a number that is none of loud sound, as one in bfloat16 may."""
    return Embedder(SPEC, cut_windows, lambda rows: np.where(rows > 0.9, np.float32(request.param), rows), 800, 800)


def test_an_embedding_that_is_not_finite_is_a_failed_track_and_the_others_go_on(failing, make_audio, tried, tmp_path):
    files = {
        name: make_audio(tmp_path / f"{name}.wav", np.full(16_000, level, np.float32), RATE_HZ)
        for name, level in (("a loud", 1.0), ("b soft", 0.5), ("c loud", 1.0))
    }
    store = EmbeddingStore(tmp_path / "store", SPEC)
    report = extract(files, failing, store, StreamConfig(batch=7, scratch=tmp_path / "scratch"))
    assert list(store) == ["b soft"]
    assert np.isfinite(store["b soft"]).all()
    assert report.failed == store.failures()
    assert report.failed.keys() == {"a loud", "c loud"}
    assert all("NaN or infinity" in error and "\n" not in error for error in report.failed.values())
    tried["refused"] += 2


def test_nobody_is_shown_scores_of_it(failing, make_audio, tmp_path):
    path = make_audio(tmp_path / "loud.wav", np.ones(16_000, np.float32), RATE_HZ)
    tagger = make_tagger(TASK, SPEC)
    with pytest.raises(AudioError, match="NaN or infinity"):
        predict(path, tagger, failing)
    with refusing() as refused:
        analyse(path, tagger, failing, Limits(scratch=tmp_path / "scratch"))
    assert "NaN or infinity" in refused[0]
    assert all(explain_error(Exception(refused[0]), "loud.wav", Limits()))


def test_sound_that_is_not_finite_never_reaches_a_front_end(make_audio, tmp_path):
    heard = []

    def frontend(wave):
        heard.append(wave)
        return cut_windows(wave)

    watching = Embedder(SPEC, frontend, lambda rows: rows, 800, 800)
    files = write_sounds(BROKEN, make_audio, tmp_path)
    for decoder in DECODERS:
        list(embed_files(files, watching, StreamConfig(scratch=tmp_path / "scratch", decoder=decoder)))
    assert len(heard) == len(files) * len(DECODERS)
    for wave in heard:
        assert np.isfinite(wave).all()
        assert np.abs(wave).max() <= 1
