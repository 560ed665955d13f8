"""Rewriting graphs: rules as named data, three stages, a trace of what was done.

rule.py          what a rule is: Rule, Step, the wildcards, the guards
facts.py         facts about nodes, found out once
candidates.py    which rules can match a node at all
match.py         finding a pattern, filling in a template
order.py         the order of the arguments of commutative operations
rules.py         THE TABLE: the rules of the stages canonicalise, stabilise, specialise
steps.py         rewrites that are no pattern: folding, powers, sums
stable.py        the stable forms, with stable_*.py
driver.py        applying stages to graphs
trace.py         what was done, for people
"""

from symgrad.simplify.driver import Simplified, Simplifier, simplify
from symgrad.simplify.rule import (
    EXACT,
    REAL,
    STABLE,
    Guard,
    Rule,
    RuleError,
    Step,
    wild,
)
from symgrad.simplify.rules import STAGES
from symgrad.simplify.trace import Rewrite

__all__ = [
    "EXACT",
    "REAL",
    "STABLE",
    "STAGES",
    "Guard",
    "Rewrite",
    "Rule",
    "RuleError",
    "Simplified",
    "Simplifier",
    "Step",
    "simplify",
    "wild",
]
