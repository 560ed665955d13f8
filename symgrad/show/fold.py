"""Which steps of a long graph are drawn as one card: repeated blocks, terms alike.

A group is a set of steps that are shown as one. Groups are convex (no path leaves one
and comes back), so the graph of groups has no cycle.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from symgrad.show.trace import Step

LIMIT = 60
"""Graphs of up to so many steps are drawn whole."""
MOST = 180
"""So many cards are drawn at most; what is far from the loss becomes one card."""
_PERIOD = 24  # steps along the longest path that a block may have
_REPEATS = 4  # from here on, repeated blocks are folded


@dataclass(frozen=True)
class Group:
    """Steps drawn as one card. ``note``: what they are; empty for a single step."""

    steps: tuple[int, ...]
    note: str = ""


def fold(steps: Sequence[Step], limit: int = LIMIT, most: int = MOST) -> list[Group]:
    """The cards of a drawing, arguments before their users."""
    hidden: dict[int, int] = {}  # step -> number of its group
    notes: list[str] = []

    def hide(found: set[int], note: str) -> None:
        hidden.update(dict.fromkeys(found, len(notes)))
        notes.append(note)

    if len(steps) > limit:
        for found, note in _terms_alike(steps):
            if not any(k in hidden for k in found):
                hide(found, note)
        while len(steps) - len(hidden) > limit:
            block = _repeated(steps, hidden)
            if block is None:
                break
            hide(*block)
    shown = [k for k in range(len(steps)) if k not in hidden]
    if len(shown) > most:
        first = shown[-most]
        far = {k for k in range(first) if _touches_only(k, first, hidden)}
        hide(far, f"{len(far)} more steps")
    return _groups(len(steps), hidden, notes, steps)


def _touches_only(k: int, first: int, hidden: dict[int, int]) -> bool:
    """Is this step, with all of its group, before ``first``?"""
    group = hidden.get(k)
    return group is None or all(m < first for m, g in hidden.items() if g == group)


def _groups(
    count: int, hidden: dict[int, int], notes: list[str], steps: Sequence[Step]
) -> list[Group]:
    """All groups in an order in which arguments come first."""
    members: dict[int, list[int]] = {}
    for k, group in hidden.items():
        members.setdefault(group, []).append(k)
    owner = {k: -1 - hidden[k] if k in hidden else k for k in range(count)}
    made = {
        key: Group((key,)) if key >= 0 else _group(members[-1 - key], notes[-1 - key])
        for key in dict.fromkeys(owner.values())
    }
    needs = {
        key: {owner[a] for k in g.steps for a in steps[k].args} - {key}
        for key, g in made.items()
    }
    result: list[Group] = []
    done: set[int] = set()
    pending = [owner[count - 1]]
    while pending:
        top = pending[-1]
        missing = sorted(needs[top] - done, reverse=True) if top not in done else []
        if missing:
            pending.extend(missing)
            continue
        pending.pop()
        if top not in done:
            done.add(top)
            result.append(made[top])
    return result


def _group(members: list[int], note: str) -> Group:
    return Group(tuple(sorted(members)), note)


# --- what steps belong together -------------------------------------------------------


def _users(steps: Sequence[Step]) -> list[list[int]]:
    users: list[list[int]] = [[] for _ in steps]
    for k, step in enumerate(steps):
        for a in step.args:
            users[a].append(k)
    return users


def _with_owned(
    steps: Sequence[Step], core: set[int], kept: Iterable[int] = ()
) -> set[int]:
    """``core``, all between its members, and what only these use, but not ``kept``."""
    users = _users(steps)
    low, high = min(core), max(core)
    below, above = set(core), set(core)
    for k in range(low, high + 1):
        if any(a in below for a in steps[k].args):
            below.add(k)
    for k in range(high, low - 1, -1):
        if any(u in above for u in users[k]):
            above.add(k)
    found = core | (below & above)
    others = set(kept)
    for k in range(high, -1, -1):
        if k not in others and users[k] and all(u in found for u in users[k]):
            found.add(k)
    return found


def _terms_alike(steps: Sequence[Step]) -> list[tuple[set[int], str]]:
    """Terms of one long sum that are computed in the same way, but the first two and
    the last."""
    users = _users(steps)
    shape: list[int] = []
    known: dict[object, int] = {}
    for k, step in enumerate(steps):
        inner = tuple(shape[a] if len(users[a]) == 1 else -1 for a in step.args)
        leaf = step.kind != "operation"
        key = (step.kind, len(step.axes)) if leaf else (step.symbol, step.axes, inner)
        shape.append(known.setdefault(key, len(known)))
        assert len(shape) == k + 1
    result = []
    for step in steps:
        alone = [a for a in step.args if len(users[a]) == 1]
        for kind, count in Counter(shape[a] for a in alone).items():
            if count < _REPEATS + 1:
                continue
            alike = [a for a in alone if shape[a] == kind][2:-1]
            found = set().union(*(_with_owned(steps, {a}) for a in alike))
            result.append((found, f"{len(alike)} more terms"))
    return result


def _repeated(
    steps: Sequence[Step], hidden: dict[int, int]
) -> tuple[set[int], str] | None:
    """The middle of the longest run of equal blocks on the longest path."""
    path = _longest_path(steps)
    labels = [
        f"{k}" if k in hidden else f"{steps[k].symbol}|{len(steps[k].args)}"
        for k in path
    ]
    best = (0, 0, 0, 0)  # steps hidden, start, period, repeats
    for period in range(1, _PERIOD + 1):
        run = 0
        for k in range(len(path) - period - 1, -2, -1):
            if k >= 0 and labels[k] == labels[k + period]:
                run += 1
                continue
            repeats = run // period + 1
            if repeats >= _REPEATS:
                found = ((repeats - 2) * period, k + 1, period, repeats)
                best = max(best, found, key=lambda b: (b[0], -b[2]))
            run = 0
    _, start, period, repeats = best
    if not repeats:
        return None
    core = set(path[start + period : start + (repeats - 1) * period])
    found = _with_owned(steps, core, path[: start + period]) - set(hidden)
    words = [steps[k].symbol for k in path[start : start + period]]
    return found, f"{repeats - 2} times: {', '.join(words)}"


def _longest_path(steps: Sequence[Step]) -> list[int]:
    """The steps on the longest way from an input to the loss."""
    depth = [0] * len(steps)
    for k, step in enumerate(steps):
        depth[k] = 1 + max((depth[a] for a in step.args), default=0)
    path = [len(steps) - 1]
    while steps[path[-1]].args:
        path.append(max(steps[path[-1]].args, key=depth.__getitem__))
    return path[::-1]
