"""What all rooms count: plain dictionaries, which `engine/metrics` turns into Prometheus' shape when it asks.

Counting costs a dictionary's look-up, and needs nothing that is installed. Each meter is written by one thread, that of
the event loop, and may be read by any. What each means to the one who watches is in docs/metrics.md.
"""

from bisect import bisect_left
from itertools import accumulate

from .rules.recipients import CHANNELS

MOST = 300  # combinations of labels of one meter; what comes after them is counted as `other`
OTHER = "other"
SECONDS = (  # upper bounds of the buckets: calls take milliseconds, passes minutes, and what is late may wait for hours
    *(0.001, 0.005, 0.01, 0.05, 0.1, 0.5),
    *(1.0, 5.0, 15.0, 30.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0),
)


class Meter:
    """Counts things by labels. `known`: combinations that stand at 0 from the start, so that a first one is a rise."""

    def __init__(self, name: str, text: str, labels: tuple[str, ...], *known: tuple[str, ...]) -> None:
        self.name, self.text, self.labels = name, text, labels
        self._counts: dict[tuple[str, ...], float] = dict.fromkeys(known, 0)

    def add(self, *values: str, by: float = 1) -> None:
        """Count `by` more under these values, one for each label."""
        if values not in self._counts and len(self._counts) >= MOST:
            values = (OTHER,) * len(self.labels)
        self._counts[values] = self._counts.get(values, 0) + by

    def items(self) -> list[tuple[tuple[str, ...], float]]:
        """Each combination with its count."""
        return list(self._counts.items())


class Times:
    """How long things took, by labels, in the buckets of `SECONDS`."""

    def __init__(self, name: str, text: str, labels: tuple[str, ...]) -> None:
        self.name, self.text, self.labels = name, text, labels
        self._rows: dict[tuple[str, ...], list[float]] = {}  # a count per bucket, one beyond the last, the sum

    def add(self, values: tuple[str, ...], seconds: float) -> None:
        """Count one. A clock that was set back makes no time negative: a sum that falls reads as a restart."""
        row = self._rows.get(values)
        if row is None:
            if len(self._rows) >= MOST:
                values = (OTHER,) * len(self.labels)
            row = self._rows.setdefault(values, [0] * (len(SECONDS) + 1) + [0.0])
        if seconds > 0:
            row[bisect_left(SECONDS, seconds)] += 1
            row[-1] += seconds
        else:
            row[0] += 1

    def counts(self) -> list[tuple[tuple[str, ...], int]]:
        """Each combination with how many there were."""
        return [(values, int(sum(row[:-1]))) for values, row in list(self._rows.items())]

    def items(self) -> list[tuple[tuple[str, ...], list[float], float]]:
        """Each combination with how many took at most so long, bucket by bucket, and the sum of all."""
        rows = [(values, row.copy()) for values, row in list(self._rows.items())]
        return [(values, list(accumulate(row[:-1])), row[-1]) for values, row in rows]


RETRIES = Meter("folkform_job_retries", "Tries that failed and are made again, by what was at fault.", ("job", "cause"))
PANCAKE_CALLS = Meter("folkform_pancake_calls", "Calls to Pancake by how they ended.", ("endpoint", "outcome"))
PANCAKE_SECONDS = Times("folkform_pancake_call_duration_seconds", "How long calls to Pancake took.", ("endpoint",))
ROWS = Meter("folkform_rows", "Rows of Pancake by what became of them.", ("collection", "result"))
WEBHOOK_CALLS = Meter(
    "folkform_webhook_calls",
    "Calls to merchants' endpoints by what followed.",
    ("outcome",),
    *((outcome,) for outcome in ("delivered", "retry", "dead", "parked", "ours")),
)
WEBHOOK_SECONDS = Times("folkform_webhook_call_duration_seconds", "How long merchants' endpoints took.", ())
GATES_CLOSED = Meter("folkform_webhook_gate_closings", "How often an endpoint was left alone for a while.", (), ())
ALERTS = Meter(
    "folkform_alert_messages",
    "Messages of alerts by what became of them.",
    ("channel", "outcome"),
    *((channel, outcome) for channel in CHANNELS for outcome in ("sent", "retry", "failed")),
)

#: All of them, for whoever shows them.
METERS = (RETRIES, PANCAKE_CALLS, ROWS, WEBHOOK_CALLS, GATES_CLOSED, ALERTS)
TIMES = (PANCAKE_SECONDS, WEBHOOK_SECONDS)
