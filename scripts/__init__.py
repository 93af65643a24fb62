"""Commands of a checkout: `start`, `test` and `check`; the modules beside them are theirs and the tests'.

This file is the first that any of them imports, so it must be readable for every Python 3.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036  whoever types the command may have any Python
    sys.stderr.write(
        "folkform-worker needs Python 3.11 or newer, and this is {}.{}: run it with another one, "
        "for example: python3.11 scripts/start\n".format(*sys.version_info[:2])
    )
    raise SystemExit(2)
