"""Clean plus held-out conditions: mPC, rPC and a report. The same as `drivetl eval-robustness`."""

import sys

from drivetl.cli import main

if __name__ == "__main__":
    sys.exit(main(["eval-robustness", *sys.argv[1:]]))
