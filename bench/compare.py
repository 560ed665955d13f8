"""One loss-and-gradient call: symgrad against PyTorch, torch.compile, JAX and C.

    python bench/compare.py [--only logistic,mixture] [--more] [--dtype float64]
                            [--threads 1,2] [--rows 10000] [--isolated]
                            [--json FILE] [--png FILE]

Values and gradients of all are compared first, with PyTorch's in float64; who disagrees
is not timed. All are measured in one process on the same arrays: data are bound once,
parameters stay where they are. They take turns of many calls in a row, with a rest
before each turn in which the threads of the others fall asleep (see
``comparison/measure.py``); medians are given. With --isolated each is measured in a
process of its own. A number of threads below that of the processors binds the process
to as many of them. Who is not installed is left out. "x best" is how many times longer
the fastest of PyTorch, torch.compile and JAX takes, "x C" is C.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])  # files here would shadow modules
    from bench.comparison import command

    command.main(__doc__ or "")
