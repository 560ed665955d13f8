"""What an evaluation takes in memory besides the data, against the number of rows.

    python bench/memory.py [--rows 100000,1000000,10000000] [--json FILE]

For each loss the data are bound, loss and gradient are evaluated once on few rows, so
that code and libraries are loaded, and then over all rows for the first time.
"measured" is by how much the process grew meanwhile at its largest: the peak of its
resident memory, as Linux counts it, in pages that include the memory allocator's own.
"stated" is what ``f.explain()`` says: work memory of the call and of each thread. One
process per loss and number of rows.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])  # files here would shadow modules
    from bench.comparison import footprint

    footprint.main(__doc__ or "")
