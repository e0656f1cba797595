"""However sound is cut on its way, and with whatever it shares a batch: its embedding is that of the whole at once."""

import contextlib
import itertools
import tempfile
import wave as wav_files
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from trying import tries

from jamendo_mood.audio import decoding
from jamendo_mood.embedders.registry import Embedder, EmbedderOptions, EmbedderSpec, load_embedder
from jamendo_mood.extraction import streaming
from jamendo_mood.extraction.streaming import Chunk, StreamConfig, decode, embed_chunks
from jamendo_mood.util.errors import LimitError, MoodError, NoSoundError

cuts = st.lists(st.integers(0, 400), max_size=12)
lengths = st.integers(0, 60) | st.integers(300, 1_500)


FIGURES = [
    (
        "Waves of any length, cut anyhow, through windows and hops of any size, in batches of any size with others",
        "{waves:,} waves, {cuts:,} ways to cut",
        "{rows:,} rows are those of the whole wave at once, {broken:,} tracks that broke off cost the others nothing; "
        "logmel's blocks differ from the whole by at most {rounding:.1g}",
    )
]


def make_embedder(window, hop, whole=False):
    """Rows that tell which samples they are of, exactly: the first, the last and the sum of whole numbers."""

    def frontend(wave):
        assert len(wave) >= window
        if whole:
            assert len(wave) <= hop
            return np.array([[wave[0], wave[-1], wave.sum(dtype=np.float64)]])
        windows = np.lib.stride_tricks.sliding_window_view(wave, window)[::hop]
        return np.stack([windows[:, 0], windows[:, -1], windows.sum(axis=1, dtype=np.float64)], axis=1)

    spec = EmbedderSpec("toy", "", 16_000, None if whole else window / 16_000, None if whole else hop / 16_000, 3)
    return Embedder(spec, frontend, lambda rows: rows.astype(np.float32), window, hop)


embedders = st.one_of(
    st.builds(make_embedder, st.integers(1, 40), st.integers(1, 120)),
    st.builds(make_embedder, st.integers(100, 400), st.integers(1, 9)),
    st.builds(lambda least, more: make_embedder(least, least + more, whole=True), st.integers(1, 40), lengths),
)


def count_up(length):
    return np.arange(1, length + 1, dtype=np.float32)


def split(wave, where):
    """A wave in pieces, some of them empty."""
    return iter(np.split(wave, sorted(min(place, len(wave)) for place in where)))


@contextlib.contextmanager
def playing(waves, where, block_frames):
    """A decoder that gives these waves by the name of the file, cut anyhow."""

    def read(path, _scratch, _remark):
        yield from split(waves[path.name], where)

    with mock.patch.dict(decoding.DECODERS, {"toy": read}), mock.patch.object(streaming, "BLOCK_FRAMES", block_frames):
        yield


def chunks_of(key, embedder):
    """What a thread that decodes makes of a track."""
    try:
        yield from decode(key, Path(key), embedder, None, StreamConfig(decoder="toy"))
    except MoodError as error:
        yield Chunk(key, error=error)


def shuffle(data, streams):
    """The chunks of several tracks in the order in which threads may give them."""
    while streams := [stream for stream in streams if stream]:
        yield streams[data.draw(st.integers(0, len(streams) - 1))].pop(0)


@tries(75, 1_500)
@given(data=st.data(), embedder=embedders, where=cuts, block_frames=st.integers(1, 70), batch=st.integers(1, 80))
def test_every_track_is_embedded_as_the_whole_at_once(tried, data, embedder, where, block_frames, batch):
    """Whatever the others are like, one that breaks off anywhere among them."""
    sizes = data.draw(st.lists(lengths, min_size=1, max_size=4))
    waves, seen = {str(number): count_up(size) + 2_000 * number for number, size in enumerate(sizes)}, set()

    def network(rows):
        seen.add(len(rows))
        return embedder.network(rows)

    watched = replace(embedder, network=network)
    with playing(waves, where, block_frames):
        streams = [list(chunks_of(key, watched)) for key in waves]
        broken = data.draw(st.booleans())
        if broken:
            cut_at = data.draw(st.integers(0, len(streams[0]) - 1))
            streams[0][cut_at:] = [Chunk("0", error=NoSoundError("the file ends here"))]
        results = list(embed_chunks(shuffle(data, streams), watched, batch))
    assert sorted(result.key for result in results) == sorted(waves)  # each once
    for result in results:
        wave = waves[result.key]
        if broken and result.key == "0":
            assert result.error == "the file ends here"
            tried["broken"] += 1
        elif len(wave):
            heard = wave[: embedder.hop_samples] if embedder.spec.hop_s is None else wave
            np.testing.assert_array_equal(result.frames, embedder.embed(heard))
            assert result.duration_s == len(wave) / 16_000
            tried["rows"] += len(result.frames)
        else:
            assert isinstance(result.cause, NoSoundError)
    assert seen <= {1 if embedder.spec.hop_s is None else batch}
    tried["waves"] += len(waves)
    tried["cuts"] += 1


@tries(40, 1_000)
@given(size=lengths, where=cuts, block=st.integers(1, 400), share=st.floats(0, 0.999), limit=st.none() | lengths)
@example(size=1001, where=[], block=1, share=0.0, limit=1001)  # exactly as long as allowed, in a number not exact
def test_blocks_are_the_wave_and_what_a_wav_file_gives(tried, size, where, block, share, limit):
    wave, overlap = count_up(size), int(block * share)
    limits = {} if limit is None else {"max_s": limit / 16_000}
    found = decoding.cut(split(wave, where), Path("wave"), block, overlap, **limits)
    if size == 0 or (limit is not None and size > limit):
        with pytest.raises(LimitError if size else NoSoundError):
            list(found)
        return
    blocks = list(found)
    assert all(len(each) == block for each in blocks[:-1])
    assert (overlap if len(blocks) > 1 else 0) < len(blocks[-1]) <= block
    for before, after in itertools.pairwise(blocks):
        np.testing.assert_array_equal(before[block - overlap :], after[:overlap])
    np.testing.assert_array_equal(np.concatenate([blocks[0], *(each[overlap:] for each in blocks[1:])]), wave)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.wav")
        with wav_files.open(str(path), "wb") as file:
            file.setparams((1, 2, 16_000, size, "NONE", ""))
            file.writeframes(wave.astype("<i2").tobytes())
        of_file = list(decoding.read_blocks(path, block, overlap))
    for ours, theirs in itertools.zip_longest(blocks, of_file, fillvalue=np.zeros(0)):
        np.testing.assert_array_equal(ours, theirs * np.float32(decoding.PCM_SCALE))
    tried["cuts"] += 1


@tries(10, 150)
@given(
    hop_frames=st.integers(1, 250),
    samples=st.integers(1, 16_000) | st.integers(40_000, 90_000),
    seed=st.integers(0, 99),
    where=st.lists(st.integers(0, 90_000), max_size=5),
    block_frames=st.integers(1, 6),
)
def test_logmel_hears_no_borders(tried, hop_frames, samples, seed, where, block_frames):
    embedder = load_embedder("logmel", EmbedderOptions(hop_s=hop_frames / 100))
    wave = np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)
    found = []
    for places in (where, []):
        with playing({"a": wave}, places, block_frames):
            (result,) = embed_chunks(chunks_of("a", embedder), embedder, 16)
        found.append(result.frames)
    assert found[0].tobytes() == found[1].tobytes()  # however it comes, the same blocks
    expected = embedder.embed(wave)
    assert found[0].shape == expected.shape
    tried["rounding"] = max(tried["rounding"], float(np.abs(found[0] - expected).max()))
    assert tried["rounding"] < 1e-5
    tried["waves"] += 1
    tried["rows"] += len(expected)
