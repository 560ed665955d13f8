"""The commands of ``symgrad``, one module each: arguments in, text out.

A command module has ``EPILOG``, ``add_arguments(parser)`` and ``run(options)``, which
returns the exit code.
"""
