"""Which seconds of a list have been read, and which are to be read next.

The mark is never derived from the data (a crash in the middle of a newest-first pass, a second writer, or a late row
would each hide rows behind it for ever); instead the state keeps the covered seconds themselves, as Airbyte's
concurrent cursor keeps slices. Two sets, because a row may show up late:

`settled`  read when the second was at least `settle + overlap` old: never read again. It only ever grows, and growing
           it twice changes nothing, so passes that run at the same time, or die at any moment, cannot harm it.
`recent`   read, but so early that a row stamped then may still have been hidden; the next pass reads it again.

`covered`, which others rely on, is both together.
"""

from dataclasses import dataclass, replace
from typing import Literal

from .intervals import Spans, clip, subtract, union

Mode = Literal["incremental", "backfill", "sweep"]


@dataclass(frozen=True, slots=True)
class Sweep:
    """A full re-read that looks for deleted rows. Times are Unix seconds; `until` is the newest second it reads."""

    started_at: float
    until: int
    settled: Spans = ()
    finished_at: float | None = None


@dataclass(frozen=True, slots=True)
class Coverage:
    """The state of one stream of one page. `initial_from`: where the first incremental pass began, or None."""

    settled: Spans = ()
    recent: Spans = ()
    initial_from: int | None = None
    sweep: Sweep | None = None
    swept_at: float | None = (
        None  # when everything was last read: start of the last evaluated sweep, or end of the backfill
    )

    @property
    def covered(self) -> Spans:
        """Every second that was read."""
        return union(self.settled, self.recent)

    @property
    def mark(self) -> int | None:
        """The newest second that was read, or None."""
        covered = self.covered
        return covered[-1][1] if covered else None


def gaps(state: Coverage, mode: Mode, now: int, *, initial_s: int) -> Spans:
    """What a pass of this mode has to read, oldest first; `now` is the present second of the other side's clock."""
    if mode == "incremental":
        start = state.initial_from if state.initial_from is not None else max(now - initial_s, 0)
        return subtract([(start, now)], state.settled)
    if mode == "backfill":
        end = now if state.initial_from is None else state.initial_from - 1
        return subtract([(0, end)], state.settled)
    if state.sweep is None or state.sweep.finished_at is not None:
        return ()
    return subtract([(0, state.sweep.until)], state.sweep.settled)


def has_read(
    state: Coverage, mode: Mode, span: tuple[int, int], as_of: int, *, settle_s: int, overlap_s: int
) -> Coverage:
    """The state after every row of `span` that Pancake knew of at second `as_of` was stored."""
    settled = clip([span], 0, as_of - settle_s - overlap_s)
    if mode == "sweep":
        sweep = state.sweep
        return state if sweep is None else replace(state, sweep=replace(sweep, settled=union(sweep.settled, settled)))
    recent = subtract(clip([span], 0, as_of - settle_s), settled)
    all_settled = union(state.settled, settled)
    return replace(state, settled=all_settled, recent=subtract(union(state.recent, recent), all_settled))


def has_history(state: Coverage) -> bool:
    """Whether everything before the first incremental pass was read."""
    return bool(state.settled) and not gaps(state, "backfill", 0, initial_s=0)


def due_for_sweep(state: Coverage, now: float, every_s: float) -> bool:
    """Whether a full re-read is to begin: the last one (at first, the end of the backfill) is long enough ago."""
    if not every_s or state.sweep is not None or state.swept_at is None:
        return False
    return has_history(state) and now - state.swept_at >= every_s
