"""Operations of the table as Python text for Numba: one row per operation.

Every operation of the table has a text here, also those that kernels expand. Functions
that neither Python nor NumPy has are helpers, whose text is printed where one is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from symgrad import graph
from symgrad.graph import Call, Const

# How strongly an expression binds, weakest first; from Python's grammar.
CHOICE, OR, AND, NOT, COMPARE, SUM, PRODUCT, UNARY, POWER, ATOM = range(10)

Piece = tuple[str, int]
"""Text and how strongly it binds."""

_INFIX: dict[str, tuple[str, int, int, int]] = {
    # op: (operator, own rank, least rank of the left operand, of the right one)
    "add": ("+", SUM, SUM, PRODUCT),
    "sub": ("-", SUM, SUM, PRODUCT),
    "mul": ("*", PRODUCT, PRODUCT, UNARY),
    "div": ("/", PRODUCT, PRODUCT, UNARY),
    "mod": ("%", PRODUCT, PRODUCT, UNARY),
    "floor_divide": ("//", PRODUCT, PRODUCT, UNARY),
    "pow": ("**", POWER, ATOM, UNARY),
    "lt": ("<", COMPARE, SUM, SUM),
    "le": ("<=", COMPARE, SUM, SUM),
    "gt": (">", COMPARE, SUM, SUM),
    "ge": (">=", COMPARE, SUM, SUM),
    "eq": ("==", COMPARE, SUM, SUM),
    "ne": ("!=", COMPARE, SUM, SUM),
    "and": ("and", AND, AND, AND),
    "or": ("or", OR, OR, OR),
}

_FUNCTIONS: dict[str, str] = {
    "exp": "math.exp",
    "exp2": "np.exp2",
    "expm1": "math.expm1",
    "log": "math.log",
    "log2": "math.log2",
    "log10": "math.log10",
    "log1p": "math.log1p",
    "sqrt": "math.sqrt",
    "cbrt": "np.cbrt",
    "hypot": "math.hypot",
    "abs": "abs",
    "floor": "np.floor",
    "ceil": "np.ceil",
    "trunc": "np.trunc",
    "round": "np.rint",
    "sin": "math.sin",
    "cos": "math.cos",
    "tan": "math.tan",
    "asin": "math.asin",
    "acos": "math.acos",
    "atan": "math.atan",
    "atan2": "math.atan2",
    "sinh": "math.sinh",
    "cosh": "math.cosh",
    "tanh": "math.tanh",
    "asinh": "math.asinh",
    "acosh": "math.acosh",
    "atanh": "math.atanh",
    "erf": "math.erf",
    "erfc": "math.erfc",
    "lgamma": "math.lgamma",
    "logaddexp": "np.logaddexp",
    "minimum": "np.minimum",
    "maximum": "np.maximum",
    "isnan": "math.isnan",
    "isinf": "math.isinf",
    "isfinite": "math.isfinite",
}

_TEMPLATES: dict[str, tuple[str, int, tuple[int, ...]]] = {
    # op: (text, own rank, least rank of each argument)
    "neg": ("-{0}", UNARY, (UNARY,)),
    "not": ("not {0}", NOT, (NOT,)),
    "where": ("{1} if {0} else {2}", CHOICE, (OR, OR, CHOICE)),
    "fma": ("{0} * {1} + {2}", SUM, (PRODUCT, UNARY, PRODUCT)),
    "relu": ("np.maximum({0}, 0.0)", ATOM, (CHOICE,)),
    "clip": ("np.minimum(np.maximum({0}, {1}), {2})", ATOM, (CHOICE,) * 3),
    "stop_gradient": ("{0}", ATOM, (ATOM,)),
}

HELPERS: dict[str, str] = {
    "sigmoid": '''\
def sigmoid(x):
    """1 / (1 + exp(-x)); the exponential cannot overflow."""
    if x >= 0.0:
        return 1.0 / (1.0 + math.exp(-x))
    e = math.exp(x)
    return e / (1.0 + e)
''',
    "softplus": '''\
def softplus(x):
    """log(1 + exp(x)); the exponential cannot overflow."""
    if x > 0.0:
        return x + math.log1p(math.exp(-x))
    return math.log1p(math.exp(x))
''',
    "log1mexp": '''\
def log1mexp(x):
    """log(1 - exp(x)) for x < 0."""
    if x > -0.6931471805599453:
        return np.log(-math.expm1(x))
    return math.log1p(-math.exp(x))
''',
    "sigmoid_tail": '''\
def sigmoid_tail(x):
    """sigmoid(-abs(x))."""
    e = math.exp(-abs(x))
    return e / (1.0 + e)
''',
    "tanh_tail": '''\
def tanh_tail(x):
    """1 - tanh(abs(x)) without cancellation."""
    e = math.exp(-2.0 * abs(x))
    return 2.0 * e / (1.0 + e)
''',
    "tanh_of_tail": '''\
def tanh_of_tail(x, tail):
    """tanh(x), where tail = tanh_tail(x)."""
    if abs(x) > 0.625:
        return math.copysign(1.0 - tail, x)
    return math.tanh(x)
''',
    "exprel": '''\
def exprel(x):
    """(exp(x) - 1)/x; 1 at 0."""
    if x == 0.0 or x == math.inf:
        return 1.0 + x
    return math.expm1(x) / x
''',
    "spherical_j0": '''\
def spherical_j0(x):
    """sin(x)/x; 1 at 0."""
    if x == 0.0:
        return 1.0
    return 0.0 if abs(x) == math.inf else math.sin(x) / x
''',
    "erfcx": '''\
def erfcx(x):
    """exp(x*x)*erfc(x); a continued fraction in the tail (DLMF 7.9.1)."""
    if x < -27.0:
        return math.inf
    if x < 2.0:
        return math.exp(x * x) * math.erfc(x)
    below = x
    for k in range(120, 0, -1):
        below = x + 0.5 * k / below
    return 0.5641895835477563 / below
''',
    "logerfc": '''\
def logerfc(x):
    """log(erfc(x)), also where erfc is 0; a continued fraction in the tail."""
    if x < 2.0:
        return math.log1p(-math.erf(x))
    below = x
    for k in range(120, 0, -1):
        below = x + 0.5 * k / below
    return math.log(0.5641895835477563 / below) - x * x if x < math.inf else -x
''',
    "loghalferfc": '''\
def loghalferfc(x):
    """log(erfc(x)/2), also where erfc is 0; a continued fraction in the tail."""
    if x < 2.0:
        return math.log1p(-0.5 * math.erfc(-x))
    below = x
    for k in range(120, 0, -1):
        below = x + 0.5 * k / below
    return math.log(0.28209479177387814 / below) - x * x if x < math.inf else -x
''',
    "sign": '''\
def sign(x):
    """-1.0, 0.0 or 1.0; nan stays nan."""
    if x > 0.0:
        return 1.0
    if x < 0.0:
        return -1.0
    return abs(x)
''',
    "integer_mod": '''\
def integer_mod(a, b):
    """a % b of integers, 0 where b is 0."""
    return 0 if b == 0 or b == -1 else a % b
''',
    "integer_floor_divide": '''\
def integer_floor_divide(a, b):
    """a // b of integers, 0 where b is 0; -2**63 // -1 is -2**63."""
    return 0 if b == 0 else -a if b == -1 else a // b
''',
    "digamma": '''\
def digamma(x):
    """The derivative of lgamma: reflection, recurrence, series (DLMF 5.5, 5.11)."""
    if x == 0.0:
        return -1.0 / x
    if x < 0.0 and x == np.floor(x):
        return math.nan
    result = 0.0
    if x < 0.0:
        result = -math.pi / math.tan(math.pi * x)
        x = 1.0 - x
    while x < 10.0:
        result -= 1.0 / x
        x += 1.0
    z = 1.0 / (x * x)
    series = 1 / 240 - z * (1 / 132 - z * (691 / 32760 - z * (1 / 12)))
    series = z * (1 / 12 - z * (1 / 120 - z * (1 / 252 - z * series)))
    return result + math.log(x) - 0.5 / x - series
''',
    "polygamma": '''\
def polygamma(n, x):
    """Derivative n > 0 of digamma: recurrence, then a series (DLMF 5.15)."""
    reflected, factor = 0.0, math.gamma(n + 1.0)
    if x < 0.0 and n == 1:
        if x == math.floor(x):
            return math.inf if x > -math.inf else math.nan
        reflected = (math.pi / math.sin(math.pi * x)) ** 2
        factor = -1.0
        x = 1.0 - x
    elif x < 0.0:
        return math.nan
    total = 0.0
    while x < 15.0 + n:
        total += x ** -(n + 1.0)
        x += 1.0
    total += x**-n / n + 0.5 * x ** -(n + 1.0)
    term = 0.5 * (n + 1.0) * x ** -(n + 2.0)
    k = 2
    for b in (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6):
        total += b * term
        term *= (k + n) * (k + n + 1.0) / ((k + 1.0) * (k + 2.0) * x * x)
        k += 2
    return reflected + (factor if n % 2 == 1 else -factor) * total
''',
}

RESERVED = frozenset(
    {"np", "math", "njit", "f32", "kernel", "range", "float", "abs", "min", "max"}
    | {"IndexError", "ValueError", "__debug__"}
    | HELPERS.keys()
)
"""Names that the printed text uses itself."""


def literal(node: Const, single: bool) -> Piece:
    """A constant; in float32 where that is the compute type."""
    if node.type != graph.FLOAT:
        return str(node.value), ATOM if node.value >= 0 else UNARY
    value = float(node.value)
    text = repr(value)
    if not math.isfinite(value):
        text = f"math.{text}" if value != -math.inf else "-math.inf"
    if single:
        return f"f32({text})", ATOM
    return text, UNARY if text.startswith("-") else ATOM


def operation(
    node: Call, args: Sequence[Piece], single: bool, helpers: set[str]
) -> Piece:
    """``node`` with its arguments as text; helpers that it calls are noted.

    Raises:
        NotImplementedError: an operation that has no row here.
    """
    op = node.op
    if op == "cast":
        return _cast(node, args[0], single)
    if op in ("mod", "floor_divide", "minimum", "maximum") and node.type == graph.INT:
        return _integer(node, args, helpers)
    if op in ("add", "sub"):
        return _signed(op, *args)
    if op in _INFIX:
        return _infix(*_INFIX[op], *args)
    if op in _TEMPLATES:
        template, rank, least = _TEMPLATES[op]
        parts = (enclosed(a, r) for a, r in zip(args, least, strict=True))
        return template.format(*parts), rank
    if op == "polygamma" and isinstance(node.args[0], Const) and not node.args[0].value:
        op, args = "digamma", args[1:]
    if op in HELPERS:
        helpers.add(op)
        text = _applied(op, args)
        return f"f32({text})" if single else text, ATOM
    if op in _FUNCTIONS:
        return _applied(_FUNCTIONS[op], args), ATOM
    raise NotImplementedError(f"{op} has no Python text in numba_operations.py")


def enclosed(piece: Piece, least: int) -> str:
    """Text in parentheses if it binds more weakly than ``least``."""
    text, rank = piece
    return text if rank >= least else f"({text})"


def _applied(function: str, args: Sequence[Piece]) -> str:
    return f"{function}({', '.join(text for text, _ in args)})"


def _infix(
    operator: str, rank: int, least_left: int, least_right: int, a: Piece, b: Piece
) -> Piece:
    left, right = enclosed(a, least_left), enclosed(b, least_right)
    return f"{left} {operator} {right}", rank


def _signed(op: str, a: Piece, b: Piece) -> Piece:
    """a + -b is printed as a - b, and a - -b as a + b: the same in IEEE arithmetic."""
    if b[1] == UNARY and b[0].startswith("-"):
        op, b = ("sub" if op == "add" else "add"), (b[0][1:], UNARY)
    return _infix(*_INFIX[op], a, b)


def _cast(node: Call, arg: Piece, single: bool) -> Piece:
    if node.args[0].type == graph.BOOL:
        one, zero = ("f32(1.0)", "f32(0.0)") if single else ("1.0", "0.0")
        return f"{one} if {enclosed(arg, OR)} else {zero}", CHOICE
    return f"{'f32' if single else 'float'}({arg[0]})", ATOM


def _integer(node: Call, args: Sequence[Piece], helpers: set[str]) -> Piece:
    """Integer operations that differ from floating-point ones."""
    if node.op in ("minimum", "maximum"):
        return _applied(node.op[:3], args), ATOM
    divisor = node.args[1]
    if isinstance(divisor, Const) and divisor.value != 0:
        return _infix(*_INFIX[node.op], *args)
    name = f"integer_{node.op}"
    helpers.add(name)
    return _applied(name, args), ATOM


IDENTITY = {"sum": "0.0", "prod": "1.0", "min": "math.inf", "max": "-math.inf"}
"""What a reduction starts from."""

_Update = Callable[[str, str], str]
_UPDATE: dict[str, _Update] = {
    "sum": lambda target, value: f"{target} += {value}",
    "prod": lambda target, value: f"{target} *= {value}",
    "min": lambda target, value: f"{target} = np.minimum({target}, {value})",
    "max": lambda target, value: f"{target} = np.maximum({target}, {value})",
}


def update(kind: str, target: str, value: Piece) -> str:
    """One turn of a reduction as an assignment."""
    text, rank = value
    if kind == "sum" and rank == UNARY and text.startswith("-"):
        return f"{target} -= {_opened(text[1:])}"
    return _UPDATE[kind](target, text)


def _opened(text: str) -> str:
    """``text`` without parentheses around all of it."""
    depth = 0
    for k, c in enumerate(text):
        depth += (c == "(") - (c == ")")
        if depth == 0:
            whole = k > 0 and k == len(text) - 1 and text[0] == "("
            return text[1:-1] if whole else text
    return text
