"""Every failure we raise on purpose, by what the caller should do next.

ServiceError
├── Transient          try again later                       -> job retried, tries are spent
│   └── RateLimited    the same, and the page's rate falls
├── Snooze             not a failure: run me again later      -> job rerun, no try is spent
└── Permanent          same answer every time                 -> dead letter, a human reads it
    ├── Malformed      an answer or a row we cannot read
    ├── TokenRejected  Pancake refuses the token
    ├── PageUnavailable  this page only: subscription over, no seat, no permission
    └── Misuse         wrong job name, wrong argument, wrong setting

A message names method, path and status and says what to do; never a token, never a customer's data.
"""


class ServiceError(Exception):
    """Root; caught only at the job boundary and at the edges (command line, worker start)."""


class Transient(ServiceError):
    """A later attempt may succeed. `retry_after_s`: the other side's own hint in seconds, or None.

    `is_exact`: the hint has its jitter already and is kept to.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None, is_exact: bool = False) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.is_exact = is_exact


class RateLimited(Transient):
    """Refused for volume (HTTP 429, or Pancake's `error_code` 429 in a 200)."""


class Snooze(ServiceError):
    """The work is not finished but nothing failed; run the job again after `after_s` seconds, behind what waits now.

    `is_usual`: it may happen to thousands of jobs, and the log is not to tell of each.
    """

    def __init__(self, message: str, *, after_s: float = 1.0, is_usual: bool = False) -> None:
        super().__init__(message)
        self.after_s = after_s
        self.is_usual = is_usual


class Permanent(ServiceError):
    """Retrying cannot help; a human, a setting or a code change must."""


class Malformed(Permanent):
    """The other side answered with something we cannot read."""


class TokenRejected(Permanent):
    """Pancake refuses the token, and no other one is to be had."""


class PageUnavailable(Permanent):
    """Pancake refuses this page whatever the token; other pages are not concerned."""


class Misuse(Permanent):
    """What we were asked to do is wrong in itself; the message says how to ask."""
