"""The same as `jamendo-mood splits`."""

import sys

from jamendo_mood.cli.main import main

sys.exit(main(["splits", *sys.argv[1:]]))
