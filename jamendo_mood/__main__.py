"""``python -m jamendo_mood``, and ``jamendo-mood``, are the command line."""

import sys

from jamendo_mood import interruption


def main() -> int:
    """Run the command line; signals are heard while its modules are still being imported, and not after its end."""
    interruption.catch()
    try:
        from jamendo_mood import cli

        return cli.main()
    finally:
        interruption.ignore()


if __name__ == "__main__":
    sys.exit(main())
