"""Fine-tune a detector from a YAML config. The same as `drivetl finetune`."""

import sys

from drivetl.cli import main

if __name__ == "__main__":
    sys.exit(main(["finetune", *sys.argv[1:]]))
