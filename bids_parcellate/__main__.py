"""``python -m bids_parcellate``."""

import sys

from bids_parcellate.cli import main

sys.exit(main())
