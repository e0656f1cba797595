"""The same as `jamendo-mood extract`."""

import sys

from jamendo_mood.cli.main import main

sys.exit(main(["extract", *sys.argv[1:]]))
