"""What the command line prints: progress on stderr; tables, JSON and CSV on stdout; an exit status at the end."""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from jamendo_mood.metrics import LOWER_IS_BETTER

if TYPE_CHECKING:
    from jamendo_mood.bootstrap import Comparison
    from jamendo_mood.evaluation import Scores
    from jamendo_mood.extraction import ExtractReport
    from jamendo_mood.model import Tagger
    from jamendo_mood.prediction import Prediction
    from jamendo_mood.training import Epoch, TrainConfig

DONE, SOME_FAILED = 0, 1  # exit statuses
DOUBTFUL = {"weak", "unknown"}
SHOWN = (
    *("tag", "grade", "positives", "artists", "prior", "PR-AUC", "ROC-AUC"),
    *("precision", "recall", "F-score", "threshold", "ECE-all"),
)
"""Columns of the table of tags that fit on a screen; JSON and CSV have all."""
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What makes a spreadsheet take a cell for a formula."""

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
            self._bar.write(f"failed: {error}", file=sys.stderr)
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
    print(
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
    print(
        f"{out}: {heads} for {len(tagger.task.targets)} tags on {tagger.spec}; "
        f"best epoch {best}, validation {monitor} {tagger.scores[monitor]:.4f}"
    )


def print_quirks(quirks: Sequence[str]) -> None:
    """Say in what these figures are the published ones, and not what this project would compute."""
    for quirk in quirks:
        note(f"as published: {quirk}")


def note(message: str) -> None:
    """Say something that is no result."""
    print(message, file=sys.stderr)


def warn(message: str) -> None:
    """Print a warning."""
    note(f"warning: {message}")


def print_scores(scores: Scores, form: str) -> None:
    """Print the headline figures and the rows per tag."""
    if form == "json":
        _print_json(scores.to_json())
        return
    print(f"{scores.examples} examples, {len(scores.per_tag)} tags")
    for name, figure in scores.figures.items():
        print(f"{name:16} {figure:.6f}{_interval(scores.intervals.get(name))}")
    if scores.intervals:
        print("(in brackets: 95 % intervals by a bootstrap over artists)")
    print()
    table = scores.table()
    shown = [name for name in SHOWN if name in table]
    print(table[shown].to_string(index=False, na_rep="-", float_format=lambda value: f"{value:.4f}"))


def print_comparison(comparisons: list[Comparison], first: str, second: str, form: str) -> None:
    """Print for each figure by how much the first tagger is better, and how sure that is."""
    if form == "json":
        _print_json({row.figure: asdict(row) for row in comparisons})
        return
    print(f"A = {first}, B = {second}: A - B, with the 95 % interval of a paired bootstrap over artists")
    for row in comparisons:
        low, high = row.interval
        low, high = (-high, -low) if row.figure in LOWER_IS_BETTER else (low, high)
        verdict = "A is better" if low > 0 else "B is better" if high < 0 else "no clear difference"
        print(f"{row.figure:16} {row.difference:+.6f}{_interval(row.interval)}  A higher in {row.ahead:.0%}: {verdict}")


def _interval(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"  [{interval[0]:.4f}, {interval[1]:.4f}]"


def print_predictions(predictions: list[Prediction], form: str, count: int, *, timeline: bool) -> None:
    """Print the highest tags of each track, with `timeline` their scores over time too."""
    if form == "json":
        _print_json([prediction.to_json(count, timeline=timeline) for prediction in predictions])
    elif form == "csv":
        write_csv(predictions, count, sys.stdout, timeline=timeline)
    else:
        for prediction in predictions:
            _print_tags(prediction, count)
            if timeline:
                _print_timeline(prediction, count)


def _print_tags(prediction: Prediction, count: int) -> None:
    named = " - ".join(text for text in (prediction.artist, prediction.title) if text)
    minutes, seconds = divmod(round(prediction.duration_s), 60)
    print(f"{prediction.source}  {named}  ({minutes}:{seconds:02d})".replace("    ", "  "))
    for tag, score, decided in prediction.top(count):
        bar = "█" * round(score * 20)
        grade = prediction.grade(tag)
        doubt = f"  ({grade})" if grade in DOUBTFUL else ""
        print(f"  {tag:20} {score:.3f} {'*' if decided else ' '} {bar}".rstrip() + doubt)
    if prediction.decided.any():
        print("  (* reaches the tag's threshold)")
    else:
        print("  (no tag reaches its threshold: nothing here is sure enough to be called this song's mood)")
    if DOUBTFUL & {prediction.grade(tag) for tag, _, _ in prediction.top(count)}:
        print("  (weak: hardly told from chance when the tagger was graded; unknown: too few examples there to say)")
    print()


def _print_timeline(prediction: Prediction, count: int) -> None:
    tags = [tag for tag, _, _ in prediction.top(count)]
    columns = [prediction.targets.index(tag) for tag in tags]
    print("  seconds  " + "  ".join(tags))
    for start_s, row in zip(prediction.times_s, prediction.frame_scores[:, columns], strict=True):
        cells = (f"{score:{len(tag)}.2f}" for tag, score in zip(tags, row, strict=True))
        print(f"  {start_s:7.2f}  " + "  ".join(cells))
    print()


def write_csv(predictions: list[Prediction], count: int, file: IO[str], *, timeline: bool) -> None:
    """Write the highest tags of each track, or with `timeline` their scores over time, as a table for spreadsheets."""
    writer = csv.writer(file, lineterminator="\n")
    if timeline:
        writer.writerow(["file", "time_s", "tag", "score"])
        for prediction in predictions:
            for tag, _, _ in prediction.top(count):
                scores = prediction.frame_scores[:, prediction.targets.index(tag)]
                rows = zip(prediction.times_s.tolist(), scores.tolist(), strict=True)
                writer.writerows([harmless(prediction.source), f"{start_s:.2f}", tag, score] for start_s, score in rows)
        return
    writer.writerow(["file", "title", "artist", "duration_s", "tag", "score", "above_threshold", "reliability"])
    for prediction in predictions:
        described = [*map(harmless, (prediction.source, prediction.title, prediction.artist)), prediction.duration_s]
        writer.writerows(
            [*described, tag, score, int(decided), prediction.grade(tag)]
            for tag, score, decided in prediction.top(count)
        )


def harmless(cell: str | None) -> str | None:
    """A cell's text, with an apostrophe before what a spreadsheet would take for a formula."""
    return f"'{cell}" if cell is not None and cell.startswith(FORMULA_STARTS) else cell


def count(number: int, noun: str) -> str:
    """``1 file``, ``2 files``."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _print_list(heading: str, lines: list[str]) -> None:
    more = [f"  and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
    print("\n".join([heading, *lines[:LISTED], *more]), file=sys.stderr)


def _print_json(values: Any) -> None:
    print(json.dumps(values, indent=2, allow_nan=False, ensure_ascii=False))
