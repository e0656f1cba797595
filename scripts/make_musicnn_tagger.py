"""Measure the tagger `musicnn` on real songs, and write its recipe and its card.

    python scripts/make_musicnn_tagger.py MIREX_DIR STORE

The MIREX-like data set has 903 clips in five clusters of moods; STORE has their embeddings (`jamendo-mood extract
AUDIO --embedder musicnn`). From the clips come, for each tag, the log-odds of a typical song and how far songs stray
from it, which make the scores of different tags comparable; and how well three tags rank the cluster whose adjectives
say the same, which is all that these clips can tell of them. None of the network's numbers is written.
"""

import json
import sys
from pathlib import Path

import numpy as np

from jamendo_mood import EmbeddingStore
from jamendo_mood.datasets import load_dataset
from jamendo_mood.embedders import musicnn
from jamendo_mood.tasks import metrics
from jamendo_mood.tasks.kind import log_odds
from jamendo_mood.training.model import RECIPE

TARGETS = ("happy", "sad", "Mellow", "chill", "party", "sexy", "beautiful", "catchy", "easy listening", "ambient")
STANDS_FOR = {
    "sad": (3, "literate, poignant, wistful, bittersweet, autumnal, brooding"),
    "happy": (2, "rollicking, cheerful, fun, sweet, amiable"),
    "party": (1, "passionate, rousing, confident, boisterous, rowdy"),
}
"""Tags, and the cluster, with its adjectives, that a song of that mood would most likely be in."""

ROUNDS = 1_000

CARD = """\
# Mood tagger: musicnn-moods

{count} of the 50 tags of `MSD_musicnn` (Pons and Serra, 2019), those that are moods or say one, by musicnn's own last
layer on rows of its own embeddings (200 numbers every 1 s). A track's score is the mean over its rows. The weights are
not part of this package: they are read from the wheel `musicnn` on PyPI, which the user's own pip fetches.

- Learned by its authors from the Million Song Dataset, with Last.fm's tags: what listeners wrote, mostly about Western
  popular music of before 2011
- Licence of the network: ISC, "Copyright (c) Music Technology Group, Universitat Pompeu Fabra 2019. Code developed by
  Jordi Pons", as the wheel states
- J. Pons, X. Serra: musicnn: Pre-trained convolutional neural networks for music audio tagging. ISMIR 2019,
  late-breaking demo

## What a score means

**It is not calibrated**, and no tag has a threshold: tags are ranked, and none is decided. musicnn's own outputs are
small for all moods and follow how often people write a tag (for "sad", {sad_median:.4f} of a typical song): ranked by
them, "sad" came first for {raw_sad} and "happy" for {raw_happy} of {clips} real clips. So each output is compared with
what those clips have: 0.5 is the typical clip, 0.73 one standard deviation of the log-odds above it. With that, "sad"
comes first for {sad} of them, "happy" for {happy}.

Left out: genres, decades, instruments and voices; "chillout", which says the same as "chill"; and "dance", which says
what to do rather than how it feels. There is no tag for anger, tension or fear: of an aggressive song it can only say
what it is not. For the same reason it says nothing of valence and arousal.

## How good it is

The {clips} clips of 30 s of the MIREX-like data set are in five clusters of adjectives. (We did not check whether
songs of them are in the Million Song Dataset.) ROC-AUC of a tag for the cluster whose adjectives are nearest to it, 0.5
being chance:

| tag | cluster | ROC-AUC | PR-AUC | prior | grade |
| --- | --- | --- | --- | --- | --- |
{rows}

In brackets: 95 % intervals by a bootstrap over artists. A cluster is not a tag: a song may be sad and in another
cluster. ROC-AUC of all tags for each cluster:

| tag | 1 rousing | 2 cheerful | 3 wistful | 4 witty | 5 aggressive |
| --- | --- | --- | --- | --- | --- |
{by_cluster}

All other tags are graded "unknown": nothing was measured.

## What it is for

Meant for: a first look at one's own music, where nothing has been trained yet.

It must not be used

- to conclude anything about a person: what they feel, their health, their character, who they are;
- to decide alone what is published, paid, removed or shown to children;
- as truth about music: tags are opinions of those who wrote them.
"""


def main(root: Path, store: Path) -> None:
    dataset, embeddings = load_dataset("mirex", root), EmbeddingStore(store)
    variables = musicnn.read_weights(musicnn.WEIGHTS.find())
    columns = [musicnn.TAGS.index(tag) for tag in TARGETS]
    kernel, bias = variables["dense_1/kernel"][:, columns], variables["dense_1/bias"][columns]
    outputs = np.array(
        [(1 / (1 + np.exp(-(embeddings[track.key] @ kernel + bias)))).mean(axis=0) for track in dataset.tracks]
    )
    odds = log_odds(outputs)
    typical, spread = np.median(odds, axis=0), odds.std(axis=0)
    calibration = np.stack([1 / spread, -typical / spread], axis=1).round(3)
    scores = (1 / (1 + np.exp(-(odds * calibration[:, 0] + calibration[:, 1])))).astype(np.float32)
    clusters, artists = dataset.targets > 0, [track.artist for track in dataset.tracks]

    grades, rows, measured = dict.fromkeys(TARGETS, "unknown"), [], {}
    for tag, (cluster, adjectives) in STANDS_FOR.items():
        truth, own = clusters[:, [cluster - 1]], scores[:, [TARGETS.index(tag)]]
        samples = metrics.bootstrap_tags(truth, own, artists, rounds=ROUNDS)
        low, high = np.nanquantile(samples.metrics["ROC-AUC-macro"], [0.025, 0.975])
        area, precision = metrics.roc_auc(truth, own)[0], metrics.average_precision(truth, own)[0]
        (grades[tag],) = metrics.grade_tags(truth, own)
        measured[tag] = [round(float(value), 3) for value in (area, low, high)]
        prior = truth.mean()
        rows.append(
            f"| {tag} | {cluster}: {adjectives} | {area:.3f} [{low:.3f}, {high:.3f}] | {precision:.3f} | {prior:.3f} "
            f"| {grades[tag]} |"
        )
    by_cluster = [
        f"| {tag} | {' | '.join(f'{metrics.roc_auc(clusters[:, [c]], scores[:, [t]])[0]:.2f}' for c in range(5))} |"
        for t, tag in enumerate(TARGETS)
    ]
    raw, compared = (np.argmax(values, axis=1) for values in (outputs, scores))
    sad, happy = TARGETS.index("sad"), TARGETS.index("happy")
    card = CARD.format(
        count=len(TARGETS),
        clips=len(outputs),
        sad_median=np.median(outputs[:, sad]),
        raw_sad=(raw == sad).sum(),
        raw_happy=(raw == happy).sum(),
        sad=(compared == sad).sum(),
        happy=(compared == happy).sum(),
        rows="\n".join(rows),
        by_cluster="\n".join(by_cluster),
    )
    recipe = {
        "name": "musicnn-moods",
        "targets": TARGETS,
        "calibration": dict(zip(TARGETS, calibration.tolist(), strict=True)),
        "grades": grades,
        "record": {
            "network": "MSD_musicnn, its own last layer",
            "citation": "J. Pons, X. Serra: musicnn: Pre-trained convolutional neural networks for music audio "
            "tagging. ISMIR 2019, late-breaking demo",
            "licence": "ISC (Music Technology Group, Universitat Pompeu Fabra)",
            "graded_on": f"{len(outputs)} clips of the MIREX-like data set, by clusters that stand for three tags",
            "ROC-AUC": measured,
        },
    }
    RECIPE.write_text(json.dumps(recipe, indent=2) + "\n", encoding="utf-8")
    RECIPE.with_name("README.md").write_text(card, encoding="utf-8")
    print(card)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
