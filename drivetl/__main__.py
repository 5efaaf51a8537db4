"""`python -m drivetl`: the `drivetl` command."""

import sys

from drivetl.cli import main

sys.exit(main())
