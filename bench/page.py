"""The performance page of the documentation: measures, and rewrites its tables.

    python bench/page.py [--run compare,more,latency,memory] [--threads 1,2] [--passive]

Without --run the tables are written from the JSON files in docs/performance, which are
what the benchmarks wrote there. With it those benchmarks are run first (all of them
take about half an hour on two processors that are otherwise idle); each is a command
of its own: compare.py, compile.py and memory.py in this folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])  # files here would shadow modules
    from bench.comparison import page

    page.main(__doc__ or "")
