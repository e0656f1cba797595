"""Our places of MTG-Jamendo's tags beside those of another table: what docs/emotions.md says of both.

    python scripts/compare_places.py moodtag_va_scores.csv autotagging_moodtheme.tsv

Which table is nearer to the music is judged by a tag's companions: all other tags of the tracks that have it, a tag as
often as it is there.
"""

import sys
from pathlib import Path

import numpy as np

from jamendo_mood.datasets.jamendo import read_tracks
from jamendo_mood.tagging.emotions import PLACES, describe_place, read_places

FAR = 0.5  # apart on the plane
DECIMALS = 9  # 0.85 in decimals must not be more in binary
AXES = ("valence", "arousal")


def correlate(one, other):
    """Pearson's of valence, and of arousal: (tags, 2) and (tags, 2) -> (2,)."""
    return [np.corrcoef(*pair)[0, 1] for pair in zip(one.T, other.T, strict=True)]


def find_companions(tagged, tags, places):
    """The mean place of the tags that stand beside each tag, (tags, 2)."""
    has = np.array([[tag in own for tag in tags] for own in tagged], float)
    together = has.T @ has
    np.fill_diagonal(together, 0)
    return together @ places / together.sum(axis=1, keepdims=True)


def print_table(head, rows):
    """Rows: a name, how numbers are written, numbers or texts."""
    print(f"\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for name, form, *cells in rows:
        print(f"| {name} | {' | '.join(cell if isinstance(cell, str) else f'{cell:{form}}' for cell in cells)} |")


def main(table, tracks):
    their_places = read_places(table)
    tags = [tag for tag in PLACES if tag in their_places]
    ours, theirs = (np.array([places[tag] for tag in tags]) for places in (PLACES, their_places))
    apart = (ours - theirs).round(DECIMALS)
    facts = [
        ("correlation (Pearson) of our places with theirs", ".3f", *correlate(ours, theirs)),
        ("mean absolute difference", ".3f", *np.abs(apart).mean(axis=0)),
        ("ours less theirs, in the mean", "+.3f", *apart.mean(axis=0)),
        ("standard deviation of ours", ".3f", *ours.std(axis=0)),
        ("standard deviation of theirs", ".3f", *theirs.std(axis=0)),
    ]
    print_table(("", *AXES), facts)
    same = sum(
        describe_place(*one).quadrant == describe_place(*other).quadrant
        for one, other in zip(ours, theirs, strict=True)
    )
    print(f"\n{same} of the {len(tags)} are in the same quadrant.")
    tagged = [names for _, names in read_tracks(tracks)]
    by_ours, by_theirs = (find_companions(tagged, tags, places) for places in (ours, theirs))
    judged = [
        ("ours, companions placed by Music2Emotion's table", ".3f", *correlate(ours, by_theirs)),
        ("theirs, companions placed by ours", ".3f", *correlate(theirs, by_ours)),
        ("theirs, companions placed by theirs", ".3f", *correlate(theirs, by_theirs)),
    ]
    print_table(("correlation of a tag's place with the mean place of its companions", *AXES), judged)
    distance = np.hypot(*apart.T)
    far = [tag for tag in np.argsort(-distance) if distance[tag] >= FAR]
    places = [f"{valence:.1f}, {arousal:.1f}" for valence, arousal in ours]
    above = [[f"{value:+.2f}" for value in pair] for pair in by_theirs - theirs.mean(axis=0)]
    rows = [(tags[tag], "+.1f", places[tag], *apart[tag], *above[tag]) for tag in far]
    signed = [f"{axis}, ours less theirs" for axis in AXES]
    print_table(("tag", "ours", *signed, *(f"companions' {axis}" for axis in AXES)), rows)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
