"""The command line: parses, calls the package, prints. Results go to stdout, progress and warnings to stderr."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from jamendo_mood import __version__
from jamendo_mood.cli import (
    commands,
    evaluation_commands,
    mood_commands,
    options,
    song_commands,
    store_commands,
    task_commands,
    vote_commands,
)
from jamendo_mood.cli.reports import DONE, SOME_FAILED
from jamendo_mood.util import plaintext, process
from jamendo_mood.util.errors import DiskFullError, MoodError

WRONG_USAGE = 2

AddOptions = Callable[[argparse.ArgumentParser], None]
Run = Callable[[argparse.Namespace], int]

EPILOG = """\
The usual way, from MP3s to tags:
  jamendo-mood splits   --out splits/
  jamendo-mood extract  audio/ --store embeddings/vggish --tracks splits/autotagging_moodtheme.tsv
  jamendo-mood train    --task jamendo --data splits/ --store embeddings/vggish --out taggers/jamendo \\
                        --leaks drop
  jamendo-mood evaluate taggers/jamendo --data splits/ --store embeddings/vggish
  jamendo-mood tag      song.mp3 --tagger taggers/jamendo
  jamendo-mood web      --tagger taggers/jamendo
`jamendo-mood demo` walks it in about a minute with music it makes itself.

exit status: 0 done, 1 some tracks failed (they are listed) or a disk is full, 2 wrong usage or a file that cannot be
used, 130 interrupted, 143 terminated."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    with process.caught():
        try:
            return _run(argv)
        except (KeyboardInterrupt, Exception) as error:
            if not process.is_meant(error):
                raise
            line, status = process.describe()
            print(line, file=sys.stderr)
            return status


def _run(argv: list[str] | None) -> int:
    arguments = build_parser().parse_args(argv)
    process.announce(KEPT.get(arguments.command, "the same command begins anew"))
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLineFormatter("warning: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader of our output, `head` say, has gone
        _drop_output()
        return DONE
    except (MoodError, OSError) as error:
        if process.is_meant(error):
            raise
        print(plaintext.show(f"jamendo-mood {arguments.command}: {_tell(error)}"), file=sys.stderr)
        try:
            sys.stdout.flush()
        except OSError:  # which may be the error
            _drop_output()
        full = isinstance(error, DiskFullError) or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        return SOME_FAILED if full else WRONG_USAGE


def _tell(error: MoodError | OSError) -> str:
    """An error in words; the system's own are of files that nobody expected to fail, or of the output."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def _drop_output() -> None:
    """Let Python end in peace where nothing more can be printed."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _OneLineFormatter(logging.Formatter):
    """Of warnings, which may name files of any name."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        return plaintext.show(super().formatMessage(record))


class _OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every other error is told."""

    def error(self, message: str) -> NoReturn:
        self.exit(WRONG_USAGE, f"{self.prog}: {plaintext.show(message)} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser with all commands."""
    parser = _OneLineParser(
        prog="jamendo-mood",
        description="Mood tags for music: MP3s in, VGGish embeddings cached once, tag scores out.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (add_options, run, summary) in COMMANDS.items():
        command = subparsers.add_parser(name, help=summary, description=summary)
        add_options(command)
        command.set_defaults(run=run)
    return parser


def _demo(arguments: argparse.Namespace) -> int:
    return commands.demo(arguments, main)


COMMANDS: dict[str, tuple[AddOptions, Run, str]] = {
    "extract": (
        options.add_extract,
        commands.extract,
        "Embed audio files into a store, one .npy a track; go on where an earlier run stopped.",
    ),
    "train": (
        options.add_train,
        commands.train,
        "Train a tagger on stored embeddings, and calibrate and grade it on the validation part.",
    ),
    "evaluate": (
        options.add_evaluate,
        evaluation_commands.evaluate,
        "Judge a tagger by a part of its data: headline figures and a row for each tag.",
    ),
    "cross-validate": (
        task_commands.add_cross_validate,
        task_commands.cross_validate,
        "Test every track once, on folds by artist: for data sets without official parts.",
    ),
    "compare": (
        options.add_compare,
        evaluation_commands.compare,
        "Say whether tagger A is better than B, by a paired bootstrap.",
    ),
    "vote": (
        vote_commands.add_vote,
        vote_commands.vote,
        "Judge several taggers on different inputs, and what the majority of them decides.",
    ),
    "score": (
        options.add_score,
        evaluation_commands.score,
        "Score predictions in .npy files, whoever made them, by the official figures.",
    ),
    "tag": (options.add_tag, song_commands.tag, "Tag audio files, folders of them, or a store."),
    "spectrogram": (
        options.add_spectrogram,
        song_commands.spectrogram,
        "Draw what the network hears of a song.",
    ),
    "similar": (options.add_similar, song_commands.similar, "Find the tracks of a library that sound like one."),
    "playlist": (
        options.add_playlist,
        song_commands.playlist,
        "Find tracks by mood, by emotion, or on a path of moods.",
    ),
    "history": (
        mood_commands.add_history,
        mood_commands.history,
        "Show the emotions that you asked for and had remembered, draw them as curves, or delete them.",
    ),
    "web": (options.add_web, song_commands.web, "Serve a page where anybody can upload a song and see its moods."),
    "export": (
        options.add_export,
        store_commands.export,
        "Write a store as Parquet files, for datasets, DuckDB or Spark.",
    ),
    "import": (options.add_import, store_commands.import_, "Put the embeddings of such Parquet files into a store."),
    "pack": (options.add_pack, store_commands.pack, "Write a store into one file to be memory-mapped, for training."),
    "verify": (
        options.add_verify,
        store_commands.verify,
        "Look at every file of a store for damage, and with --repair put it right.",
    ),
    "tasks": (
        task_commands.add_tasks,
        task_commands.tasks,
        "List the data sets and tasks: what each predicts, where to get it, what is missing here.",
    ),
    "splits": (options.add_splits, commands.splits, "Get MTG's official tables and splits, checked by SHA-256."),
    "demo": (options.add_demo, _demo, "Go the whole way in about a minute, with music made on the spot."),
}
"""Each command: what adds its options, what runs it, and its help."""

KEPT = {
    "extract": "what was finished is kept, the tracks in hand are not, and the same command goes on from there",
    "train": "a tagger that was there before still is, and the same command trains anew",
    "export": "the files that were finished are kept, and the same command goes on from there",
    "import": "the tracks that were finished are kept, and the same command goes on from there",
    "pack": "the embeddings are as they were, and the same command packs them anew",
    "splits": "the files that were finished are kept, and the same command goes on from there",
    "tag": "the same command begins anew; scores that a store has kept are not computed again",
}
"""What a command that was interrupted says of what it has done, and of how to go on."""
