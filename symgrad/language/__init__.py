"""Formulas: text to syntax tree to graph, and SymPy on both sides.

Order of the files, each using only what stands above it::

    syntax, names          the tree, and the functions there are
    tokens, precedence, calls, grammar, messages, parser        text -> tree
    tensor, shapes, ..., build                                   tree -> graph
    heads, function_heads, sympy_*, sympy_bridge                 tree <-> SymPy
    letters, graph_to_sympy                                      graph -> SymPy
"""
