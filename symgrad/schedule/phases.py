"""What the threads of a block do together with a tile of rows: products, elements.

See products.py for where they come from.
"""

from __future__ import annotations

from dataclasses import dataclass

from symgrad.graph import Index, Node
from symgrad.schedule.nest import Loop
from symgrad.schedule.statements import Statement


@dataclass(eq=False)
class Product:
    """``sum over along of left * right``, for all of ``down`` and ``across``.

    left: varies with ``down``, right: with ``across`` (None: a vector). negative: what
    is added is the negative product. One of the indices is that of the rows.
    """

    statement: Statement
    down: Index
    across: Index | None
    along: Index
    left: Node
    right: Node
    negative: bool = False


@dataclass(eq=False)
class Elements:
    """Values for every row and every turn of a loop, each on its own."""

    loop: Loop


Phase = Loop | Elements | Product
"""A loop over the rows with some of the items, one row a thread; or shared out."""
