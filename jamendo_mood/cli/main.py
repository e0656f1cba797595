"""The command line: parses, calls the package, prints. Results go to stdout, progress and warnings to stderr."""

from __future__ import annotations

import argparse
import logging
import os
import re
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Any, NoReturn

from jamendo_mood import __version__
from jamendo_mood.cli import demo, evaluate, extract, find, shared, store, tag, train
from jamendo_mood.cli.shared import DONE, SOME_FAILED, WRONG_USAGE, Command
from jamendo_mood.util import plaintext, process
from jamendo_mood.util.errors import AudioError, MoodError, need
from jamendo_mood.util.files import is_disk_full

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
    words = (sys.argv[1:] if argv is None else argv) or ["--help"]  # who types the name alone asks for help
    # A point such as -0.6,-0.4 would be taken for an option, but for a space before it.
    arguments = build_parser().parse_args([re.sub(r"^(?=-[\d.]+,-?[\d.]+$)", " ", word) for word in words])
    process.announce(COMMANDS[arguments.command].interrupted)
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
        # The system's own errors are of files that nobody expected to fail, or of the output.
        said = (error,) if isinstance(error, MoodError) else (error.filename, error.strerror or error)
        plaintext.note(f"jamendo-mood {arguments.command}: {': '.join(str(part) for part in said if part)}")
        try:
            sys.stdout.flush()
        except OSError:  # which may be the error
            _drop_output()
        return SOME_FAILED if isinstance(error, AudioError) or is_disk_full(error) else WRONG_USAGE


def _drop_output() -> None:
    """Let Python end in peace where nothing more can be printed."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _OneLineFormatter(logging.Formatter):
    """Of warnings, which may name files of any name."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        return plaintext.show(super().formatMessage(record))


class _OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line, as for every other error."""

    def error(self, message: str) -> NoReturn:
        self.exit(WRONG_USAGE, f"{self.prog}: {plaintext.show(message)} (see {self.prog} --help)\n")


def build_parser(option: type[argparse.Action] | None = None) -> argparse.ArgumentParser:
    """The parser with all commands; with an `option`, their options are of this class, and the commands have a help."""
    parser = _OneLineParser(
        prog="jamendo-mood",
        usage="%(prog)s [-h] [--version] COMMAND ...",
        description=f"Mood tags for music: MP3s in, embeddings cached once, tag scores out.\n{_list_commands()}",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", prog=parser.prog, help=None if option else argparse.SUPPRESS
    )
    for name, command in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=command.run.__doc__, description=command.run.__doc__)
        if option is not None:
            subparser.register("action", None, option)
        command.add_options(subparser)
        subparser.set_defaults(run=command.run, main=main)
    return parser


def _list_commands() -> str:
    """The commands in their groups, a line or two each."""
    columns = min(shutil.get_terminal_size().columns, 100) - 2
    lines = []
    for heading, names in GROUPS.items():
        lines += ["", f"{heading}:"]
        for name in names.split():
            text = f"  {name:15} {COMMANDS[name].run.__doc__}"
            lines += textwrap.wrap(text, columns, subsequent_indent=" " * 18, break_on_hyphens=False)
    return "\n".join(lines)


def _add_completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell that is to complete")


def completion(arguments: argparse.Namespace) -> int:
    """Let TAB complete commands and options in your shell."""
    # By a script, made once, so that no TAB waits for Python.
    need("completion", "completion", "shtab")
    import shtab

    class Option(argparse.Action):
        """What argparse makes of an option, with the word to shtab that it takes a file; it is never called."""

        def __init__(self, *names: Any, **settings: Any) -> None:
            super().__init__(*names, **settings)
            if self.type in (Path, shared.path_or_url):
                self.complete = shtab.FILE

    print(shtab.complete(build_parser(Option), arguments.shell))
    return DONE


GROUPS = {
    "Start": "demo tasks weights completion",
    "Make embeddings": "splits extract",
    "Learn and evaluate": "train cross-validate evaluate across compare vote score artists",
    "Use": "tag write web similar playlist library history spectrogram",
    "Keep": "verify pack export import push",
}
"""The commands in the order of the help."""

COMMANDS: dict[str, Command] = {
    **extract.COMMANDS,
    **train.COMMANDS,
    **evaluate.COMMANDS,
    **tag.COMMANDS,
    **find.COMMANDS,
    **store.COMMANDS,
    **demo.COMMANDS,
    "completion": Command(_add_completion, completion),
}
"""Each command by its name."""
