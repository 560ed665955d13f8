"""The functions of the language: names, aliases, arguments, and the nearest name.

One row of ``FUNCTIONS`` is one function under its canonical name; ``ALIASES`` gives the
spellings of NumPy, the array API, Python's ``math``, SciPy and SymPy. What a function
means is not said here (that is ``ops.py`` and ``build``), only how it may be called.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Function:
    """How a function may be called.

    Attributes:
        name: the canonical name, used in ``syntax.Apply``.
        least, most: number of positional arguments; ``most`` None is any number.
        keywords: names of the keyword arguments, whose values are literals.
        axis_at: position at which NumPy takes the axis without its name, or None.
    """

    name: str
    least: int
    most: int | None
    keywords: tuple[str, ...] = ()
    axis_at: int | None = None

    def arity(self) -> str:
        """The number of arguments in words."""
        if self.most is None:
            return f"at least {_count(self.least)}"
        if self.least == self.most:
            return _count(self.most)
        return f"{self.least} to {_count(self.most)}"


def _count(number: int) -> str:
    return f"{number} argument" + ("" if number == 1 else "s")


_UNARY = """
    exp exp2 expm1 log log2 log10 log1p sqrt cbrt abs sign floor ceil trunc round
    sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh
    log1mexp exprel spherical_j0 erfcx logerfc loghalferfc
    sigmoid softplus relu erf erfc lgamma digamma isnan isinf isfinite not neg pos
    len trace diag eye arange transpose square reciprocal
""".split()

_BINARY = """
    add sub mul div pow mod floor_divide lt le gt ge eq ne and or
    atan2 hypot logaddexp minimum maximum polygamma dot outer matmul shape
""".split()

_AXIS = ("axis", "keepdims")

_OTHER = [
    Function("where", 3, 3),
    Function("clip", 3, 3),
    Function("tril", 1, 2),
    Function("triu", 1, 2),
    Function("einsum", 2, None),
    Function("sum", 1, 1, _AXIS, axis_at=1),
    Function("mean", 1, 1, _AXIS, axis_at=1),
    Function("prod", 1, 1, _AXIS, axis_at=1),
    Function("min", 1, 1, _AXIS),
    Function("max", 1, 1, _AXIS),
    Function("norm", 1, 1, _AXIS),
    Function("logsumexp", 1, 1, _AXIS, axis_at=1),
    Function("var", 1, 1, (*_AXIS, "ddof"), axis_at=1),
    Function("std", 1, 1, (*_AXIS, "ddof"), axis_at=1),
    Function("softmax", 1, 1, ("axis",), axis_at=1),
    Function("log_softmax", 1, 1, ("axis",), axis_at=1),
]

FUNCTIONS: dict[str, Function] = {
    **{name: Function(name, 1, 1) for name in _UNARY},
    **{name: Function(name, 2, 2) for name in _BINARY},
    **{function.name: function for function in _OTHER},
}

_SPELLINGS = """
    asin: arcsin            acos: arccos             atan: arctan
    asinh: arcsinh          acosh: arccosh           atanh: arctanh
    atan2: arctan2          pow: power float_power   abs: absolute fabs Abs
    lgamma: gammaln loggamma                         digamma: psi
    sigmoid: expit logistic                          log: ln
    ceil: ceiling           trunc: fix               round: rint around
    min: amin               max: amax                sign: sgn
    mod: remainder          mul: multiply            sub: subtract
    div: divide true_divide                          neg: negative
    pos: positive           lt: less                 le: less_equal
    gt: greater             ge: greater_equal        eq: equal
    ne: not_equal           and: logical_and         or: logical_or
    not: logical_not        clip: clamp              prod: product
    transpose: permute_dims                          var: variance
"""

NOT_CALLED = frozenset({"and", "or", "not", "shape"})
"""Canonical names that are operators or attributes, not to be written as a call."""

KEYWORD_ALIASES = {"dim": "axis", "keepdim": "keepdims", "correction": "ddof"}
"""PyTorch's and the array API's names of keyword arguments."""


def _read_spellings(rows: str) -> dict[str, str]:
    result, target = {}, ""
    for word in rows.split():
        if word.endswith(":"):
            target = word[:-1]
        else:
            result[word] = target
    return result


ALIASES: dict[str, str] = _read_spellings(_SPELLINGS)


def lookup(name: str) -> Function | None:
    """The function called ``name``, or None if the language has none of that name."""
    name = ALIASES.get(name, name)
    return FUNCTIONS.get(name)


@lru_cache(maxsize=256)
def nearest(name: str, cutoff: float = 0.7) -> str | None:
    """The function whose name is nearest to ``name``, in case it was a slip.

    Letters in another order (``tahn``) count as nearer than a letter too few.
    """
    lowered = name[:40].lower()
    known = sorted({*FUNCTIONS, *ALIASES} - NOT_CALLED)
    if lowered in known:
        return lowered
    found = get_close_matches(lowered, known, n=5, cutoff=cutoff)
    swapped = [word for word in found if sorted(word) == sorted(lowered)]
    return next(iter(swapped or found), None)


def add_function(function: Function) -> None:
    """Make a user's own function known (``sg.define``)."""
    FUNCTIONS[function.name] = function
    nearest.cache_clear()
