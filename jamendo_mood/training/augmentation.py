"""Altered examples: sound changed before it is embedded, copies of training tracks in a store of their own, mixing.

A store of copies holds copy 2 of track ``48/948`` under ``48/948~2``, and its spec says how they were altered, so that
nothing takes it for a store of tracks. Copies are looked up by the keys of the tracks that are trained on: whatever a
store holds, a copy of another track stays out.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jamendo_mood.audio import ffmpeg
from jamendo_mood.audio.decoding import SAMPLE_RATE_HZ, Wave
from jamendo_mood.datasets.dataset import Dataset
from jamendo_mood.embedders.registry import Embedder, EmbedderSpec
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.training.data import Array, Examples, check_finite, thin
from jamendo_mood.util.errors import AudioError, UsageError

RANGES = {"snr_db": (15.0, 40.0), "shift_s": (0.0, 5.0), "gain_db": (-9.0, 3.0), "pitch_semitones": (-2.0, 2.0)}
"""How a copy is altered, the least and the most of each: white noise, so far below the sound; what is left out at the
start; louder or softer; up or down, at the same tempo."""
SEED = 0  # of what is drawn from these ranges
MARK = "~"
AUGMENTED = "augmented: "

_LEAD_SAMPLES = 512  # by which ffmpeg's atempo is early at 16 kHz: half its window
_TAIL_SAMPLES = 4_096  # more than what it keeps back at the end

log = logging.getLogger(__name__)


def draw(key: str, number: int) -> tuple[dict[str, float], np.random.Generator]:
    """How copy `number` (from 1) of a track is altered, and the generator that its noise is to come from."""
    digest = int.from_bytes(hashlib.sha256(key.encode()).digest(), "big")
    # PCG64 by its name: numpy's default generator may become another.
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([SEED, number, digest])))
    low, high = np.array([*RANGES.values()]).T
    return dict(zip(RANGES, (low + rng.random(len(RANGES)) * (high - low)).tolist(), strict=True)), rng


def alter(key: str, waves: Iterator[Wave]) -> Iterator[Wave]:
    """Alter the sound of the copy that has this key, stretch by stretch: a `StreamConfig.alter`.

    The pitch comes first, noise last, so that the noise is as far below as is said. The stretches, float32 (samples,)
    at 16 kHz in [-1, 1], are a minute each, whatever is to follow. What gain makes louder than full scale is clipped.
    """
    drawn, rng = draw(*split_key(key))
    for number, wave in enumerate(waves):
        # At the start at most half is left out. What an embedder sees as a window then begins elsewhere.
        left_out = min(round(drawn["shift_s"] * SAMPLE_RATE_HZ), len(wave) // 2) if number == 0 else 0
        altered = shift_pitch(wave[left_out:], drawn["pitch_semitones"]) * np.float32(10 ** (drawn["gain_db"] / 20))
        yield np.clip(add_noise(altered, drawn["snr_db"], rng), -1, 1)


def add_noise(wave: Wave, snr_db: float, rng: np.random.Generator) -> Wave:
    """Add white noise whose power is `snr_db` below the wave's; silence stays silent."""
    if not len(wave):
        return wave
    level = np.sqrt(np.mean(np.square(wave), dtype=np.float64)) * 10 ** (-snr_db / 20)
    return np.asarray(wave + np.float32(level) * rng.standard_normal(len(wave), dtype=np.float32))


def shift_pitch(wave: Wave, semitones: float) -> Wave:
    """Move the pitch of a wave at the same tempo and length, by ffmpeg: faster sound, slowed down again.

    Sounds of the wave, float32 (samples,) at 16 kHz, lie where they were but for some 20 ms: ffmpeg looks for places
    where the wave fits itself (WSOLA). Upwards, the highest octaves go beyond 8 kHz and are lost; downwards, the top
    stays empty. Raises `AudioError` if ffmpeg fails.

    References
    ----------
    Verhelst and Roelands, "An overlap-add technique based on waveform similarity (WSOLA) for high quality time-scale
    modification of speech", ICASSP 1993.
    """
    faster_hz = round(SAMPLE_RATE_HZ * 2 ** (semitones / 12))
    if faster_hz == SAMPLE_RATE_HZ or not len(wave):
        return wave
    filters = f"asetrate={faster_hz},aresample={SAMPLE_RATE_HZ},atempo={SAMPLE_RATE_HZ / faster_hz:.9f}"
    raw = ("-f", "f32le", "-ar", str(SAMPLE_RATE_HZ), "-ac", "1")
    padded = np.pad(wave, (_LEAD_SAMPLES, _TAIL_SAMPLES)).astype("<f4").tobytes()
    done = ffmpeg.run("-v", "error", *raw, "-i", "-", "-af", filters, *raw, "-", fed=padded)
    if done.status != 0:
        raise AudioError(f"ffmpeg cannot shift the pitch ({done.report.strip()})")
    shifted = np.frombuffer(done.output, "<f4")[: len(wave)].astype(np.float32)
    return np.pad(shifted, (0, len(wave) - len(shifted)))


def make_key(key: str, number: int) -> str:
    """The key of copy `number`, from 1, of a track."""
    return f"{key}{MARK}{number}"


def split_key(copy: str) -> tuple[str, int]:
    """The track's key and the copy's number; ``("", 0)`` if it is no key of a copy."""
    key, _, number = copy.rpartition(MARK)
    return (key, int(number)) if key and number.isdecimal() and number[0] != "0" else ("", 0)


def list_copies(tracks: Mapping[str, Any], count: int) -> dict[str, Any]:
    """So many copies of each track, by their keys, with the tracks' files; first copy 1 of all."""
    return {make_key(key, number): file for number in range(1, count + 1) for key, file in tracks.items()}


def training_keys(dataset: Dataset) -> list[str]:
    """The keys of the tracks that copies may be made of, those of the training part; raises as `check_whole` does."""
    check_whole(dataset)
    return [dataset.tracks[row].key for row in dataset.rows(dataset.train)]


def check_whole(dataset: Dataset) -> None:
    """`UsageError` for data that know moments of their tracks: in a copy, these are elsewhere."""
    if dataset.curves is not None:
        raise UsageError(
            f"task {dataset.task.name!r} has labels for moments, which a copy that starts later does not have where "
            "the track has them: copies are for labels of whole tracks"
        )


def mark_embedder(embedder: Embedder) -> Embedder:
    """The embedder, with a spec that says that what it embeds are copies, and how they are altered."""
    drawn = ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in RANGES.items())
    usual, variant = embedder.spec.variant, f"{AUGMENTED}{drawn}, seed {SEED}"
    return replace(embedder, spec=replace(embedder.spec, variant=f"{usual}; {variant}" if usual else variant))


def plain_spec(spec: EmbedderSpec) -> EmbedderSpec:
    """The spec of the tracks that copies of this spec belong to; `UsageError` if it is not the spec of copies."""
    usual, marked, _ = spec.variant.partition(AUGMENTED)
    if not marked:
        raise UsageError(f"these are not copies but embeddings of {spec}; `jamendo-mood extract --augment` makes some")
    return replace(spec, variant=usual.removesuffix("; "))


def add_copies(train: Examples, spec: EmbedderSpec, copies: EmbeddingStore) -> Examples:
    """The training part, and after it the copies of its tracks; each goes by the name and artist of its track.

    `spec` is what the tracks are embedded by. Raises `UsageError` if the store holds no copies, copies of other
    embeddings, or none of these tracks; `DataError` if an embedding holds NaN or infinity.
    """
    if not spec.accepts(plain_spec(copies.spec)):
        raise UsageError(f"the tracks are embedded by {spec}, their copies by {copies.spec}")
    numbers: dict[str, list[int]] = {}
    for key, number in sorted(map(split_key, copies)):
        numbers.setdefault(key, []).append(number)
    made = [(row, number) for row, track in enumerate(train.tracks) for number in numbers.get(track.key, ())]
    rows = [row for row, _ in made]
    keys = [make_key(train.tracks[row].key, number) for row, number in made]
    frames = [check_finite(key, copies[key]) for key in keys]
    if missing := len(train) - len(set(rows)):
        if not rows:
            raise UsageError(f"none of the {missing} training tracks has a copy in the store of copies")
        log.warning("%d of %d training tracks have no copy", missing, len(train))
    tracks = (*train.tracks, *(train.tracks[row] for row in rows))
    return replace(train, frames=(*train.frames, *frames), Y=np.concatenate([train.Y, train.Y[rows]]), tracks=tracks)


Batch = tuple[tuple[Array, Array], Array]


@dataclass(frozen=True)
class Augmentation:
    """What is done to examples before a head learns from them."""

    crop: int = 5  #: rows taken of a track, each drawn at random from one of as many stretches of equal length
    #: examples are mixed in pairs, inputs and targets alike, with a share drawn from Beta(mixup, mixup); 0 mixes none
    #: (Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018)
    mixup: float = 0.0
    frame_dropout: float = 0.0  #: share of rows that are masked, in [0, 1); one row of a track always stays
    #: targets 0 and 1 of tags become s / 2 and 1 - s / 2, s in [0, 1); of k classes, s / k and 1 - s + s / k. It is
    #: done before batches are drawn, see `tasks.kind.Kind.smooth`.
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        shares = (self.frame_dropout, self.smoothing)
        if self.crop < 1 or not 0 <= self.mixup < np.inf or not all(0 <= share < 1 for share in shares):
            raise UsageError("crop must be from 1 up, mixup from 0 up, frame dropout and smoothing in [0, 1)")


def draw_batches(
    tracks: Sequence[Array], Y: Array, size: int, augment: Augmentation, rng: np.random.Generator
) -> Iterator[Batch]:
    """Yield batches ((rows, mask), targets) for ever, from one pass over all tracks after another, each in a new order.

    From n float32 arrays (rows, width) and (n, targets) to float32 (size, r, width), (size, r) and (size, targets): r
    is the crop, or the longest track if that is shorter. A batch may begin in one pass and end in the next: all have
    one shape, since Keras compiles a step anew for each.
    """
    count = min(augment.crop, max(map(len, tracks)))
    order = np.empty(0, np.intp)
    while True:
        while len(order) < size:
            order = np.concatenate([order, rng.permutation(len(tracks))])
        chosen, order = order[:size], order[size:]
        rows, mixed = thin([tracks[row] for row in chosen], count, rng), Y[chosen]
        if augment.mixup:
            share = rng.beta(augment.mixup, augment.mixup, (size, 1)).astype(np.float32)
            wide, other = share[..., None], rng.permutation(size)
            rows, mixed = wide * rows + (1 - wide) * rows[other], share * mixed + (1 - share) * mixed[other]
        mask = np.ones((size, count), np.float32)
        if augment.frame_dropout:
            mask[rng.random(mask.shape) < augment.frame_dropout] = 0
            mask[np.arange(size), rng.integers(0, count, size)] = 1
        yield (rows, mask), mixed
