"""Random losses for as long as you like, each compared with other opinions.

    python bench/fuzz.py --count 20000 --jobs 4
    python bench/fuzz.py --seconds 3600 --every torch=1,jax=1 --minimise
    python bench/fuzz.py --count 1 --seed 60010 --every numba=1

An opinion is a check of ``tests/random_oracles.py``; each is asked about one loss in so
many (``--every``), because some take a thousand times as long as others. Prints each
loss that fails, with what it takes to reproduce it, and the tally. A seed always gives
the same loss: ``random_losses.random_loss(seed)``. A loss is rejected where rounding
errors decide what its gradient is, or where an opinion does not apply; a disagreement
is excused where the kernel agrees with mpmath in 60 digits. To find out
whether memory is used before it is written, set ``MALLOC_PERTURB_=1`` (glibc).
"""

import argparse
import collections
import functools
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# without this folder, whose cuda.py stands in the way of the package of that name
sys.path[:] = [p for p in sys.path if p != str(ROOT / "bench")]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from random_checks import Verdict, attempt, minimise  # noqa: E402
from random_losses import RandomLoss, random_loss  # noqa: E402
from random_oracles import CHECKS, excused  # noqa: E402

EVERY = {
    "torch": 1, "interpreter": 1, "float32": 4, "threads": 5, "digits": 10, "hvp": 10,
    "sympy": 20, "jax": 40, "numba": 100,
}  # fmt: skip
"""How often each is asked: about one loss in so many."""

GROUP = 50
"""Losses that a process is given at a time."""

Tally = collections.Counter[tuple[str, str]]


def main() -> int:
    """Run; the exit status is 1 if any loss failed."""
    options = _options()
    tally: Tally = collections.Counter()
    start, losses = time.perf_counter(), 0
    try:
        for count, found, texts in _run(options, start):
            losses += count
            tally += found
            print("".join(texts), end="", flush=True)
            if options.progress and losses % options.progress < count:
                print(_summary(losses, start, tally), flush=True)
    except KeyboardInterrupt:
        print("interrupted")
    print(_summary(losses, start, tally))
    good = ("right", "rejected", EXCUSED.kind)
    return int(any(kind not in good for _, kind in tally))


Found = tuple[int, Tally, list[str]]


def _run(options: argparse.Namespace, start: float) -> Iterator[Found]:
    """The results of all groups of seeds, as they come."""
    end = options.seed + options.count if options.count else sys.maxsize
    firsts = range(options.seed, end, GROUP)
    groups = (range(first, min(first + GROUP, end)) for first in firsts)
    judge = functools.partial(judged, options=options)
    if options.jobs == 1:
        for group in groups:
            yield judge(group)
            if _late(options, start):
                return
        return
    # a process dies after some groups: what leaks shall not add up
    context = get_context("spawn")
    with ProcessPoolExecutor(options.jobs, context, max_tasks_per_child=20) as pool:
        waiting: set[Future[Found]] = set()
        for group in groups:
            waiting.add(pool.submit(judge, group))
            if len(waiting) >= 2 * options.jobs:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
            if _late(options, start):
                break
        yield from (future.result() for future in waiting)


def _late(options: argparse.Namespace, start: float) -> bool:
    return 0 < options.seconds < time.perf_counter() - start


def judged(seeds: Iterable[int], options: argparse.Namespace) -> Found:
    """The verdicts on some losses: how many losses, a tally, and what failed."""
    _one_thread()
    tally: Tally = collections.Counter()
    texts: list[str] = []
    losses = 0
    for seed in seeds:
        loss = random_loss(seed, options.budget, options.rows)
        losses += 1
        for position, (name, every) in enumerate(options.every.items()):
            if (seed + position) % every:
                continue
            check = functools.partial(verdict_of, name)
            found = check(loss)
            if found.kind == "wrong":
                found = second_opinion(loss, found)
            tally[name, found.kind] += 1
            if found.failed and found != EXCUSED:
                texts.append(f"\n{name}: {found.kind.upper()}: {found.detail}{loss}\n")
                if options.minimise:
                    texts.append(f"-- minimised:{minimise(loss, check)}\n")
    return losses, tally, texts


EXCUSED = Verdict("excused")
"""The kernel is right by mpmath; what it was compared with has lost digits."""


def second_opinion(loss: RandomLoss, found: Verdict) -> Verdict:
    """Excused, or the same as before."""
    return attempt(lambda: EXCUSED if excused(loss) else found)


def verdict_of(name: str, loss: RandomLoss) -> Verdict:
    """What a check says, or the exception that it raises."""
    return attempt(lambda: CHECKS[name](loss))


def _summary(losses: int, start: float, tally: Tally) -> str:
    seconds = time.perf_counter() - start
    lines = [f"{losses} losses in {seconds:.0f} s"]
    for name in dict.fromkeys(name for name, _ in tally):
        kinds = {kind: n for (other, kind), n in tally.items() if other == name}
        shown = ", ".join(f"{kind} {n}" for kind, n in sorted(kinds.items()))
        lines.append(f"  {name:12} {shown}")
    return "\n".join(lines)


def _one_thread() -> None:
    """PyTorch's threads only get in the way of tensors this small."""
    import torch

    torch.set_num_threads(1)


def _every(text: str) -> dict[str, int]:
    """``"torch=1,jax=5"`` as a dict."""
    chosen = {}
    for part in text.split(","):
        name, _, number = part.partition("=")
        if name not in CHECKS or not (number or "1").isdecimal() or number == "0":
            raise argparse.ArgumentTypeError(f"{part!r}: one of {', '.join(CHECKS)}")
        chosen[name] = int(number or 1)
    return chosen


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=0, help="losses; 0: no end")
    parser.add_argument("--seconds", type=float, default=0, help="stop after so many")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--budget", type=int, default=14, help="operations, roughly")
    parser.add_argument("--rows", type=int, default=0, help="of long axes; 0: any")
    parser.add_argument("--minimise", action="store_true", help="cut failures down")
    parser.add_argument("--progress", type=int, default=1000, help="report so often")
    parser.add_argument(
        "--every", type=_every, default=EVERY, help="checks, as torch=1,jax=5"
    )
    options = parser.parse_args()
    if not options.count and not options.seconds:
        options.count = 1000
    return options


if __name__ == "__main__":
    sys.exit(main())
