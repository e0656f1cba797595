"""``python -m jamendo_mood``, and ``jamendo-mood``, are the command line."""

import sys

from jamendo_mood.util import process


def main() -> int:
    """Run the command line; signals are heard while its modules are still being imported, and not after its end."""
    process.open_streams()
    process.catch()
    try:
        from jamendo_mood.cli import main

        return main.main()
    finally:
        process.ignore()


if __name__ == "__main__":
    sys.exit(main())
