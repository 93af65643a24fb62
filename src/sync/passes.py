"""One pass over one stream of one page. Safe to repeat, to kill at any moment and to run twice at once."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from loguru import logger

from ..rules.coverage import Coverage, Mode, Sweep, due_for_sweep, gaps, has_history, has_read
from ..rules.intervals import Interval, subtract
from ..settings import SyncSettings
from ..store.dead_letters import DeadLetters
from ..store.sync_state import SyncStates
from .filler import Filled, Filler
from .stream import Stream, readable, store_answer

SAVE_EVERY_S = 1.0  # a pass that dies reads at most this much again
DAY_S = 86_400
CLOCKS_S = 5  # how far our machines' clocks may be apart
DATED_S = 5  # how far behind the present, by Pancake's clock, an answer may be dated

#: Told how far a pass is: page id and what it did so far.
OnProgress = Callable[[str, Filled], None]


@dataclass(frozen=True, slots=True)
class PassResult:
    """What a pass did. `is_complete` is False where it was told to stop with gaps left; the next one goes on there.

    `suspected`, `deleted`: rows that one or two full re-reads missed. `audited`: rows of a random part of the history
    that were looked up, `lost`: those that were not stored as they are; anything but 0 is a fault of ours.
    """

    page_id: str
    mode: Mode
    calls: int
    rows: int
    set_aside: int
    is_complete: bool
    mark: int | None
    suspected: int = 0
    deleted: int = 0
    audited: int = 0
    lost: int = 0


class PagePass:
    """Runs passes of one stream on one page. Use a new one for each pass."""

    def __init__(
        self,
        stream: Stream,
        page_id: str,
        states: SyncStates,
        dead_letters: DeadLetters,
        settings: SyncSettings,
        *,
        server_now: Callable[[], int],
        stop: Callable[[], bool],
        on_progress: OnProgress | None = None,
    ) -> None:
        self._stream = stream
        self._page_id = page_id
        self._states = states
        self._settings = settings
        self._server_now = server_now
        self._dead_letters = dead_letters
        self._stop = stop
        self._random = random.Random()  # noqa: S311 - any part of the history will do
        self._on_progress = on_progress
        self._mode: Mode = "incremental"
        self._unsaved: list[tuple[Interval, int]] = []  # read and stored, but not in the state yet
        self._saved_at = time.monotonic()
        self._filler = Filler(stream, page_id, dead_letters, slices=settings.slices, on_read=self._note, stop=stop)

    async def run(self, mode: Mode) -> PassResult:
        """Read what `mode` asks for and save how far it came. Raises the first error; what was read stays read.

        `incremental` reads from the mark to now; `backfill` what lies before, down to 1970, and then a sweep when one
        is due or unfinished; `sweep` catches up and then reads everything again to find what was deleted.
        """
        if mode == "sweep":
            await self._fill("incremental")
            await self._change(self._with_sweep)
        elif mode == "incremental":
            await self._change(self._with_initial_from)
        await self._fill(mode)
        if mode == "backfill" and self._filled.is_complete:
            state = await self._change(self._with_sweep_if_due)
            if (
                state.sweep is not None and state.sweep.finished_at is None
            ):  # also one that died with nothing left to read
                await self._fill("sweep")
        if self._mode == "sweep" and self._filled.is_complete:
            await self._change(self._with_sweep_finished)
        suspected, deleted = await self._evaluate_sweep()
        audited, lost = await self._audit() if mode == "backfill" and self._filled.is_complete else (0, 0)
        state = await self._states.load(self._stream.name, self._page_id)
        return PassResult(
            page_id=self._page_id,
            mode=mode,
            calls=self._filled.calls,
            rows=self._filled.rows,
            set_aside=self._filled.set_aside,
            is_complete=self._filled.is_complete,
            mark=state.mark,
            suspected=suspected,
            deleted=deleted,
            audited=audited,
            lost=lost,
        )

    @property
    def _filled(self) -> Filled:
        return self._filler.filled

    async def _fill(self, mode: Mode) -> None:
        self._mode = mode
        state = await self._states.load(self._stream.name, self._page_id)
        todo = gaps(state, mode, self._server_now() + 1, initial_s=self._initial_s)
        try:
            await self._filler.fill(todo)
        finally:
            await self._save()  # also on the way out of a failed or cancelled pass: what is stored stays read

    async def _note(self, span: Interval, as_of: int) -> None:
        """An answer was stored: remember what it covers, and save that now and then."""
        self._unsaved.append((span, as_of))
        if self._on_progress:
            self._on_progress(self._page_id, self._filled)
        if time.monotonic() - self._saved_at >= SAVE_EVERY_S:
            await self._save()

    async def _save(self) -> None:
        self._saved_at = time.monotonic()
        reading, self._unsaved = self._unsaved, []
        if not reading:
            return
        mode = self._mode
        limits = {"settle_s": self._settings.settle_seconds, "overlap_s": self._settings.overlap_seconds}

        def with_reading(state: Coverage) -> Coverage:
            for span, as_of in reading:
                state = has_read(state, mode, span, as_of, **limits)
            return state

        await self._change(with_reading)

    async def _change(self, change: Callable[[Coverage], Coverage]) -> Coverage:
        return await self._states.change(self._stream.name, self._page_id, change)

    @property
    def _initial_s(self) -> int:
        return int(self._settings.initial_days * DAY_S)

    @property
    def _lag_s(self) -> int:
        """How late a row may show: what is older has settled."""
        return self._settings.settle_seconds + self._settings.overlap_seconds

    def _with_initial_from(self, state: Coverage) -> Coverage:
        if state.initial_from is not None:
            return state
        return replace(state, initial_from=max(self._server_now() - self._initial_s, 0))

    def _with_sweep_if_due(self, state: Coverage) -> Coverage:
        if state.swept_at is None and has_history(state):
            return replace(state, swept_at=self._server_now())
        is_due = due_for_sweep(state, self._server_now(), self._settings.sweep_days * DAY_S)
        return self._with_sweep(state) if is_due else state

    def _with_sweep(self, state: Coverage) -> Coverage:
        if state.sweep is not None:
            return state
        until = max(self._server_now() - self._lag_s - DATED_S, 0)
        return replace(state, sweep=Sweep(started_at=time.time() - CLOCKS_S, until=until))

    def _with_sweep_finished(self, state: Coverage) -> Coverage:
        if state.sweep is None or state.sweep.finished_at is not None or gaps(state, "sweep", 0, initial_s=0):
            return state
        return replace(state, sweep=replace(state.sweep, finished_at=self._server_now()))

    async def _audit(self) -> tuple[int, int]:
        """Look up one page of the history, anywhere: how many rows were compared, and how many we did not have.

        One call a day and page that measures what the whole method promises; what is found missing is stored.
        """
        state = await self._states.load(self._stream.name, self._page_id)
        if not has_history(state) or state.initial_from is None or self._stop():
            return 0, 0
        oldest = await self._stream.store.oldest(self._page_id)
        if oldest is None or oldest > state.initial_from:
            return 0, 0
        until = self._random.randint(oldest, state.initial_from)
        answer = await self._stream.read(self._page_id, since=0, until=until)
        rows = readable(self._stream, self._page_id, answer.rows)
        store = self._stream.store
        before = await store.count_current(rows)
        if before >= len(rows):
            return len(rows), 0
        await store_answer(self._stream, self._page_id, answer, self._dead_letters)
        lost = await store.count_current(rows) - before  # not counted: what cannot be stored, or came twice
        if lost:
            logger.error("audit found rows that were not stored", lost=lost, audited=len(rows), until=until)
        return len(rows), lost

    async def _evaluate_sweep(self) -> tuple[int, int]:
        """Mark what a finished sweep missed, once whatever changed during it has certainly been read again.

        A row that changed while the sweep ran left the range it reads, and is met by an incremental pass instead: so
        every second from the sweep's range to its end must have settled first.
        """
        state = await self._states.load(self._stream.name, self._page_id)
        sweep = state.sweep
        if sweep is None or sweep.finished_at is None:
            return 0, 0
        if subtract([(sweep.until, int(sweep.finished_at) + 1)], state.settled):
            return 0, 0
        started_at = datetime.fromtimestamp(sweep.started_at, UTC)
        marked = await self._stream.store.forget_missing(self._page_id, started_at, datetime.now(UTC))
        await self._change(
            lambda stored: replace(stored, sweep=None, swept_at=sweep.started_at) if stored.sweep == sweep else stored
        )
        return marked
