"""What the command line prints: progress on stderr; tables, JSON and CSV on stdout; an exit status at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from jamendo_mood.tagging.emotions import describe_place
from jamendo_mood.tasks.metrics import LOWER_IS_BETTER
from jamendo_mood.tasks.task import KINDS
from jamendo_mood.util import plaintext
from jamendo_mood.util.plaintext import note, note_all, say

if TYPE_CHECKING:
    from jamendo_mood.evaluation.cross_validation import CrossValidation
    from jamendo_mood.evaluation.evaluate import Scores
    from jamendo_mood.extraction.streaming import ExtractReport
    from jamendo_mood.tagging.prediction import Prediction
    from jamendo_mood.tasks.bootstrap import Comparison
    from jamendo_mood.training.fit import Epoch, TrainConfig
    from jamendo_mood.training.model import Tagger

DONE, SOME_FAILED = 0, 1  # exit statuses
NUMBER_WIDTH = 5  # of a score over time, with a sign and two decimals
DOUBTFUL = {"weak", "unknown"}
SHOWN = (
    *("tag", "class", "value", "grade", "positives", "artists", "prior", "decided", "PR-AUC", "ROC-AUC"),
    *("precision", "recall", "F-score", "threshold", "ECE-all", "CCC", "Pearson", "R2", "RMSE", "mean", "sd"),
)
"""Columns of the table of targets that fit on a screen; JSON and CSV have all."""
LISTED = 10  # tracks named before "and N more"


class TrackProgress:
    """A progress bar: tracks, x real time, failures, time left; with a `verb` there is a line at the end, too."""

    def __init__(self, total: int, verb: str = "") -> None:
        self._total, self._verb, self._audio_s, self._failed = total, verb, 0.0, 0

    def __enter__(self) -> TrackProgress:
        from tqdm import tqdm

        # A log file gets a line now and then, a terminal a bar that moves.
        interval_s = 0.1 if sys.stderr.isatty() else 10.0
        self._bar = tqdm(
            total=self._total,
            unit="track",
            file=sys.stderr,
            mininterval=interval_s,
            dynamic_ncols=True,
            disable=self._total == 0,
        )
        self._started = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.leave = self._bar.n > 0  # a run that could not start leaves its error alone on the screen
        self._bar.close()
        if self._verb and kind is None:
            wall_s = time.perf_counter() - self._started
            speed = self._audio_s / wall_s
            note(f"{self._audio_s:.0f} s of sound {self._verb} in {wall_s:.2f} s ({speed:.0f}x real time)")

    def advance(self, duration_s: float, error: str = "") -> None:
        """Count one more track; a failure is told at once."""
        self._audio_s += duration_s
        if error:
            self._failed += 1
            self._bar.write(plaintext.show(f"failed: {error}"), file=sys.stderr)
        speed = self._audio_s / (time.perf_counter() - self._started)
        self._bar.set_postfix_str(f"{speed:.0f}x real time, {self._failed} failed", refresh=False)
        self._bar.update()


class CountProgress:
    """A progress bar of tracks scored, exported or the like; none appears where there is nothing to do."""

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._bar: Any = None

    def __call__(self, done: int, total: int) -> None:
        """Say how many tracks are done, of how many."""
        from tqdm import tqdm

        if self._bar is None:
            interval_s = 0.1 if sys.stderr.isatty() else 10.0
            self._bar = tqdm(
                total=total, desc=self._doing, unit="track", file=sys.stderr, mininterval=interval_s, leave=False
            )
        self._bar.update(done - self._bar.n)
        if done == total:
            self._bar.close()


def print_extraction(report: ExtractReport, missing: list[str], store: Path | str) -> None:
    """Say what became of a run, and list what failed."""
    speed = f" ({report.audio_s / report.wall_s:.0f}x real time)" if report.done else ""
    say(
        f"{store}: {report.done} tracks embedded, {report.skipped} were there already, {len(report.failed)} failed; "
        f"{report.audio_s / 60:.1f} min of sound in {report.wall_s:.1f} s{speed}"
    )
    if report.failed:
        lines = [f"  {key}: {error}" for key, error in report.failed.items()]
        listed = store / "failures.tsv" if isinstance(store, Path) else f"{store}/_failures/"
        _print_list(f"failed, see {listed}; --retry-failed tries them again:", lines)
    if missing:
        _print_list(f"{len(missing)} tracks of the table have no audio file:", [f"  {key}" for key in missing])


class EpochLines:
    """One line of training progress for each epoch."""

    def __init__(self, config: TrainConfig) -> None:
        self._config, self._started = config, time.perf_counter()

    def __call__(self, epoch: Epoch) -> None:
        """Print the line of an epoch."""
        members, epochs = self._config.ensemble, self._config.epochs
        head = f"head {epoch.member + 1}/{members}, " if members > 1 else ""
        done = epoch.member * epochs + epoch.number
        left_s = (time.perf_counter() - self._started) / done * (members * epochs - done)
        mark = "  best so far" if epoch.best else ""
        print(
            f"{head}epoch {epoch.number:2d}/{epochs}  loss {epoch.loss:.4f}  "
            f"validation {epoch.monitor} {epoch.figure:.4f}  {left_s:.0f} s left{mark}",
            file=sys.stderr,
        )


def print_training(tagger: Tagger, out: Path) -> None:
    """Say how training ended and where the tagger is."""
    monitor = tagger.task.rules.monitor
    heads = (
        f"{tagger.head.name} head" if len(tagger.weights) == 1 else f"{len(tagger.weights)} {tagger.head.name} heads"
    )
    best = ", ".join(map(str, tagger.record["best_epochs"]))
    say(
        f"{out}: {heads} for {len(tagger.task.targets)} {tagger.task.rules.plural} on {tagger.spec}; "
        f"best epoch {best}, validation {monitor} {tagger.scores[monitor]:.4f}"
    )


def print_quirks(quirks: Sequence[str]) -> None:
    """Say in what these figures are the published ones, and not what this project would compute."""
    for quirk in quirks:
        note(f"as published: {quirk}")


def print_scores(scores: Scores, form: str) -> None:
    """Print the headline figures and the rows per target."""
    if form == "json":
        _print_json(scores.to_json())
        return
    print(f"{scores.examples} examples, {len(scores.per_target)} {KINDS[scores.kind].plural}")
    for name, figure in scores.figures.items():
        number = str(figure) if isinstance(figure, int) else f"{figure:.6f}"  # a count, or a figure
        print(f"{name:16} {number}{_interval(scores.intervals.get(name))}")
    if scores.intervals:
        print("(in brackets: 95 % intervals by a bootstrap over artists)")
    print()
    table = scores.table()
    shown = [name for name in SHOWN if name in table]
    text = table[shown].to_string(index=False, na_rep="-", float_format=lambda value: f"{value:.4f}")
    print(plaintext.show_lines(text))


def print_folds(found: CrossValidation, form: str) -> None:
    """Print what a cross-validation found: the figures of all folds together, and their spread."""
    if form == "json":
        _print_json(found.to_json())
        return
    print_scores(found.pooled, form)
    print(f"\nover {len(found.folds)} folds, mean and standard deviation:")
    for name, (mean, sd) in found.spread().items():
        print(f"{name:16} {mean:.6f}  {sd:.6f}")


def print_comparison(comparisons: list[Comparison], first: str, second: str, form: str) -> None:
    """Print for each figure by how much the first tagger is better, and how sure that is."""
    if form == "json":
        _print_json({row.figure: asdict(row) for row in comparisons})
        return
    say(f"A = {first}, B = {second}: A - B, with the 95 % interval of a paired bootstrap over artists")
    for row in comparisons:
        low, high = row.interval
        low, high = (-high, -low) if row.figure in LOWER_IS_BETTER else (low, high)
        verdict = "A is better" if low > 0 else "B is better" if high < 0 else "no clear difference"
        print(f"{row.figure:16} {row.difference:+.6f}{_interval(row.interval)}  A higher in {row.ahead:.0%}: {verdict}")


def print_vote(found: Mapping[str, Scores], form: str) -> None:
    """Print the figures of several taggers, and of what they decide together, side by side."""
    if form == "json":
        _print_json({name: scores.to_json() for name, scores in found.items()})
        return
    *members, together = found
    letters = [chr(ord("A") + number) for number in range(len(members))]
    for letter, name in zip(letters, members, strict=True):
        say(f"{letter} = {name}")
    scores = found[together]
    print(f"{scores.examples} examples, {len(scores.per_target)} {KINDS[scores.kind].plural}")
    print(" " * 17 + "".join(f"{name:>10}" for name in [*letters, together]))
    for name in scores.figures:
        figures = [own.figures.get(name) for own in found.values()]  # one that is not defined is not there
        print(f"{name:17}" + "".join("         -" if figure is None else f"{figure:10.4f}" for figure in figures))


def _interval(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"  [{interval[0]:.4f}, {interval[1]:.4f}]"


def print_predictions(predictions: list[Prediction], form: str, count: int, *, timeline: bool) -> None:
    """Print the highest tags or classes of each track, or its values; with `timeline` over time too."""
    if form == "json":
        _print_json([prediction.to_json(count, timeline=timeline) for prediction in predictions])
    elif form == "csv":
        from jamendo_mood.tagging.prediction import write_csv

        write_csv(predictions, count, sys.stdout, timeline=timeline)
    else:
        for prediction in predictions:
            _print_targets(prediction, count)
            if timeline:
                _print_timeline(prediction, count)


def _print_targets(prediction: Prediction, count: int) -> None:
    named = " - ".join(text for text in (prediction.artist, prediction.title) if text)
    minutes, seconds = divmod(round(prediction.duration_s), 60)
    say(f"{prediction.source}  {named}  ({minutes}:{seconds:02d})".replace("    ", "  "))
    *_, decides = KINDS[prediction.kind].columns
    for target, score, decided in prediction.top(count):
        bar = "█" * round(20 * prediction.share(score))
        grade = prediction.grade(target)
        doubt = f"  ({grade})" if grade in DOUBTFUL else ""
        say(f"  {target:20} {score:.3f} {'*' if decides and decided else ' '} {bar}".rstrip() + doubt)
    any_decided, none_decided = KINDS[prediction.kind].footnotes
    note_below = any_decided if prediction.decided.any() else none_decided
    print(f"  ({note_below.format(*prediction.scale or ())})")
    if DOUBTFUL & {prediction.grade(tag) for tag, _, _ in prediction.top(count)}:
        print("  (weak: hardly told from chance when the tagger was graded; unknown: too few examples there to say)")
    if prediction.place is not None:
        print(f"  {describe_place(*prediction.place)}")
    print()


def _print_timeline(prediction: Prediction, count: int) -> None:
    columns = prediction.order[:count]
    widths = [max(len(prediction.targets[column]), NUMBER_WIDTH) for column in columns]
    named = zip(columns, widths, strict=True)
    say("  seconds  " + "  ".join(f"{prediction.targets[column]:>{width}}" for column, width in named))
    for start_s, row in zip(prediction.times_s, prediction.frame_scores[:, columns], strict=True):
        cells = (f"{score:{width}.2f}" for width, score in zip(widths, row, strict=True))
        print(f"  {start_s:7.2f}  " + "  ".join(cells))
    print()


def _print_list(heading: str, lines: list[str]) -> None:
    more = [f"  and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
    note_all([heading, *lines[:LISTED], *more])


def _print_json(values: Any) -> None:
    print(plaintext.to_json(values))
