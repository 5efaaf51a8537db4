"""KITTI object data -> one COCO dataset. The same as `drivetl convert-kitti`."""

import sys

from drivetl.cli import main

if __name__ == "__main__":
    sys.exit(main(["convert-kitti", *sys.argv[1:]]))
