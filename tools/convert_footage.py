"""Custom footage -> one COCO dataset. The same as `drivetl convert-footage`."""

import sys

from drivetl.cli import main

if __name__ == "__main__":
    sys.exit(main(["convert-footage", *sys.argv[1:]]))
