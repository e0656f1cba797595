"""``python -m jamendo_mood`` is the command line."""

import sys

from jamendo_mood.cli import main

sys.exit(main())
