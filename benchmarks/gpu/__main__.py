"""Check and measure training on one GPU.

    python -m benchmarks.gpu                              # at most 8 minutes; downloads nothing
    python -m benchmarks.gpu --device cpu --size small    # the same on a CPU, over gloo

Checks every learner's gradient against the CPU's in float64; theta after a few outer steps of one
worker under ZeRO 0 to 3 with nccl, offloaded and in bf16, against torch's own optimiser; and a
resumed run against an uninterrupted one. Measures outer steps a second of configs/large-100m.yaml
and of a LoRA over a backbone of SDXL's shape with random weights, the TFLOP/s of their inner loops,
their peak of memory beside the plan's, and the share of a step that waits for data on the local
disk.
Exits with 1 where a check fails.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import torch
import torch.distributed as dist

from benchmarks.gpu.check import Check
from benchmarks.gpu.gradients import gradient_checks
from benchmarks.gpu.runs import engine_checks, resume_check
from benchmarks.gpu.speed import HEADS, large_100m, row, sdxl_lora
from benchmarks.provenance import commit, hardware
from metatrain.base.device import device_of
from metatrain.base.errors import UserError
from metatrain.base.tables import aligned


def main() -> None:
    """Run all checks, then all measurements."""
    options = _options()
    device = device_of(options.device)
    # DeepSpeed chooses its accelerator when it is imported, and its device by the local rank.
    os.environ |= {"DS_ACCELERATOR": device.type, "LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "1"}
    started = time.monotonic()
    print(f"{hardware()}, torch {torch.__version__}, commit {commit()[:12]}", flush=True)
    with tempfile.TemporaryDirectory(prefix="metatrain-gpu-") as folder:
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, f"file://{folder}/meeting", rank=0, world_size=1)
        try:
            failed = [
                *_shown(gradient_checks(device)),
                *_shown(engine_checks(device)),
                *_shown([resume_check(device)]),
            ]
            measure(options.size, device, Path(folder), options.seconds)
        finally:
            dist.destroy_process_group()
    print(f"{time.monotonic() - started:.0f} s in all")
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def _shown(checks: Iterable[Check]) -> list[str]:
    """Print each check as it ends; return the names of those that failed."""
    failed = []
    for check in checks:
        verdict = "ok    " if check.passed else "FAILED"
        print(f"{verdict} {check.name}: {check.error:.1e} (at most {check.limit:.0e})", flush=True)
        failed += [] if check.passed else [check.name]
    return failed


def measure(size: str, device: torch.device, folder: Path, seconds: float) -> None:
    """Print the table of measurements."""
    rows = [row("large-100m", large_100m(size, folder / "100m"), device, seconds)]
    rows.append(row("SDXL LoRA", sdxl_lora(size, folder / "lora", device), device, seconds))
    print(aligned([HEADS, *rows], justify="right"))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cuda or cpu (cuda)")
    parser.add_argument("--size", choices=("full", "small"), default="full", help="small for a CPU")
    parser.add_argument("--seconds", type=float, default=60, help="of each measurement (60)")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(str(error)) from None
