"""Random losses for as long as you like: compiled gradients against PyTorch's.

    python bench/fuzz.py --count 5000 --seed 1000 --minimise

Prints each loss that fails, with what it takes to reproduce it, and the tally. A seed
always gives the same loss: ``random_losses.random_loss(seed)`` in ``tests/``. To find
out whether memory is used before it is written, set ``MALLOC_PERTURB_=1`` (glibc).
"""

import argparse
import collections
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from random_checks import minimise, verdict
from random_losses import RandomLoss, random_loss


def main() -> int:
    """Run; the exit status is 1 if any loss failed."""
    options = _options()
    _one_thread()
    tally: collections.Counter[str] = collections.Counter()
    start = time.perf_counter()
    for seed in range(options.seed, options.seed + options.count):
        loss = random_loss(seed, options.budget, options.rows)
        found = verdict(loss)
        tally[found.kind] += 1
        if found.failed:
            report(loss, found.kind, found.detail, options.minimise)
        if options.progress and seed % options.progress == 0:
            print(f"{seed}: {dict(tally)}", flush=True)
    seconds = time.perf_counter() - start
    print(f"{options.count} losses in {seconds:.0f} s: {dict(tally)}")
    return int(any(kind not in ("right", "rejected") for kind in tally))


def report(loss: RandomLoss, kind: str, detail: str, smaller: bool) -> None:
    """Print a failure so that it can be reproduced."""
    print(f"\n{kind.upper()}: {detail}{loss}", flush=True)
    if smaller:
        print(f"-- minimised:{minimise(loss)}", flush=True)


def _one_thread() -> None:
    """PyTorch's threads only get in the way of tensors this small."""
    import torch

    torch.set_num_threads(1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="number of losses")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--budget", type=int, default=14, help="operations, roughly")
    parser.add_argument("--rows", type=int, default=0, help="of long axes; 0: any")
    parser.add_argument("--minimise", action="store_true", help="cut failures down")
    parser.add_argument("--progress", type=int, default=0, help="report every so many")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
