"""The contenders of `scripts.bench.lanes`: one module each, run by an interpreter that has that contender installed.

Only the standard library, `_protocol` and the contender itself may be imported by such a module, and its name is the
contender's. `ours` alone runs in the project's own environment.
"""
