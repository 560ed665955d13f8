"""From a text to the first gradient: latency, by size and beside JAX; warm starts.

    python bench/compile.py [--parts start,losses,sizes] [--sizes 100,1000,10000]
                            [--only logistic,mixture] [--torch] [--repeat 3]
                            [--json FILE]

start   A new process: what `import symgrad` and the first gradient take more than
        importing NumPy, with the disk cache empty and filled.
losses  The first call of the losses of compare.py, over few rows, in a process that has
        compiled another loss before: symgrad without a disk cache, the same from disk,
        JAX (`jit(value_and_grad)`) and, with --torch, torch.compile without its cache.
sizes   Losses of growing size, by stage. The work should grow no faster than the size.

Every number is the best of ``repeat``; torch.compile is measured once.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])  # files here would shadow modules
    from bench.comparison import latency

    latency.main(__doc__ or "")
