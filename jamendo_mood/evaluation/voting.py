"""Several taggers of one task, each on an input of its own, decide together: by the majority of what each decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from jamendo_mood.evaluation.evaluate import Evaluation, judge
from jamendo_mood.tasks.bootstrap import ROUNDS
from jamendo_mood.training.data import Examples
from jamendo_mood.training.model import Tagger
from jamendo_mood.util.errors import UsageError

VOTE = "vote"
"""What the taggers together are called in a table of results."""


def vote(members: Mapping[str, tuple[Tagger, Examples]], *, rounds: int = ROUNDS) -> dict[str, Evaluation]:
    """Judge taggers, and what they decide together, by the same tracks.

    The scores of the vote are the means of the members' scores; what it decides is by the kind of task: tags that more
    than half of the members decide; the class that most of them decide, of equals the one with the higher mean score.

    Parameters
    ----------
    members : mapping of str to (Tagger, Examples)
        Two or more, by any names: taggers for the same targets; the same tracks in the same order with the embeddings
        that each needs.
    rounds : int
        As for `evaluate.evaluate`.

    Returns
    -------
    dict of Evaluation
        By the members' names in their order, the last being ``vote``.

    Raises
    ------
    UsageError
        There are less than two members, or targets or tracks differ.
    DataError
        There is nothing to measure.
    """
    _check(list(members.values()), list(members))
    task = next(iter(members.values()))[0].task
    scores = [tagger.score(examples.frames) for tagger, examples in members.values()]
    decisions = [tagger.decide(own) for (tagger, _), own in zip(members.values(), scores, strict=True)]
    found = {
        name: judge(task, examples, own, decided, tuned=tagger.tuned, rounds=rounds)
        for (name, (tagger, examples)), own, decided in zip(members.items(), scores, decisions, strict=True)
    }
    mean = np.asarray(np.mean(scores, axis=0), np.float32)
    together = task.rules.vote(np.stack(decisions), mean)
    some = next(iter(members.values()))[1]
    return {**found, VOTE: judge(task, some, mean, together, rounds=rounds)}


def _check(members: Sequence[tuple[Tagger, Examples]], names: Sequence[str]) -> None:
    if len(members) < 2:
        raise UsageError("a vote needs two taggers or more")
    if VOTE in names:
        raise UsageError(f"no tagger can be called {VOTE!r} here: that is what they decide together")
    (first, examples), *others = members
    for name, (tagger, own) in zip(names[1:], others, strict=True):
        if tagger.task != first.task:
            raise UsageError(f"{names[0]} and {name} are for different tasks and cannot vote together")
        if [track.key for track in own.tracks] != [track.key for track in examples.tracks]:
            raise UsageError(
                f"{names[0]} and {name} are not judged by the same tracks: they were trained on different splits, or "
                "tracks are missing in a store"
            )
