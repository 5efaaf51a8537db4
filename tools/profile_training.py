"""Profile 30 training steps: where the time of the host and of the device goes.

    python tools/profile_training.py --device cuda --out DIR

Writes DIR/profile.txt, the operations that take longest, and DIR/trace.json for chrome://tracing or perfetto.dev; on a
GPU also the number of times that a step really waits, as PyTorch itself warns of them.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import torch
from bench.training import Case, batch
from torch.profiler import ProfilerActivity, profile
from training_loops import OPTIM, our_step

from drivetl import console
from drivetl.files.write import write_atomically
from drivetl.models.build import build_model
from drivetl.models.gpu import choose_fused
from drivetl.models.precision import choose_precision
from drivetl.models.runtime import choose_device
from drivetl.training.optimizer import build_optimizer

STEPS = 30


def argument_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--arch", default="fasterrcnn_resnet50_fpn_v2", help="default: fasterrcnn_resnet50_fpn_v2")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"default: {STEPS}")
    parser.add_argument("--size", type=int, nargs=2, default=(1333, 402), help="default: 1333 402")
    return parser


def main() -> int:
    """Profile, and say what was written."""
    args = argument_parser().parse_args()
    device = choose_device(args.device)
    precision, _ = choose_precision("auto", device)
    case = Case(args.arch, *args.size, 4)
    model = build_model(case.spec()).to(device).to(memory_format=torch.channels_last).train()
    optimizer = build_optimizer(model, case.arch, OPTIM, fused=choose_fused(device)[0])
    images = batch(case.short, case.long, case.batch)
    for _ in range(3):
        our_step(model, images, optimizer, device, precision)
    args.out.mkdir(parents=True, exist_ok=True)
    waits = real_waits(lambda: our_step(model, images, optimizer, device, precision)) if device.type == "cuda" else None
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    with profile(activities=activities) as seen:
        for _ in range(args.steps):
            our_step(model, images, optimizer, device, precision)
    order = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
    table = seen.key_averages().table(sort_by=order, row_limit=40)
    write_atomically(args.out / "profile.txt", table if waits is None else f"{table}\nwaits of a step: {waits}\n")
    seen.export_chrome_trace(str(args.out / "trace.json"))
    console.wrote(args.out / "profile.txt")
    return 0


def real_waits(work: object) -> int:
    """How often PyTorch says that the host waits for the GPU in a step, the last wait of the bench not counted."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            work()  # type: ignore[operator]
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(item.message) for item in caught)


if __name__ == "__main__":
    sys.exit(main())
