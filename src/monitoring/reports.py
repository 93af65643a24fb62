"""How long customers waited, worked out of the stored messages: of a day for everybody, of any stretch for who asks.

A stretch holds the episodes that began in it; an answer counts whenever it came, up to the moment of asking.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from ..alerts.notices import tell
from ..alerts.outgoing import IN_APP
from ..deps import Deps
from ..errors import Misuse
from ..rules.intervals import subtract
from ..rules.policy import Policy, applies
from ..rules.response_text import report_text
from ..rules.response_times import Follower, Row, Wait, report_of
from ..rules.waiting import Episode, Said
from ..store.reply_policies import PolicyBook
from ..sync.conversations import NAME as CONVERSATIONS

KIND = "response_times"
BATCH = 2_000  # messages, at least
LATE_S = 900  # what changed a moment ago is being read


def day_of(text: str | None, now: float, zone: ZoneInfo) -> date:
    """A civil day as `2026-05-14`; without one the last that is over in `zone`. Raises Misuse."""
    if text is None:
        return datetime.fromtimestamp(now, zone).date() - timedelta(days=1)
    try:
        return date.fromisoformat(text)
    except ValueError as e:
        raise Misuse(f"{text!r} is no day: write 2026-05-14") from e


def bounds(first: date, last: date, zone: ZoneInfo) -> tuple[int, int]:
    """The Unix seconds of the civil days `first` to `last`: (from, to before). A day has 23 to 25 hours."""
    ends = (first, last + timedelta(days=1))
    since, until = (int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()) for day in ends)
    return since, until


async def lacking(deps: Deps, page_ids: Sequence[str], since: int, until: int) -> list[str]:
    """Pages of which not everything that was said in [since, until), as far as that is over, has been read."""
    until = min(until, int(deps.now()) - LATE_S)
    return [page_id for page_id in page_ids if not await _is_whole(deps, page_id, since, until)]


async def report_day(deps: Deps, day: date) -> dict[str, list[Row]]:
    """Work out a day of every page and store it in the place of what is there; returns the rows by page."""
    book = await policies(deps)
    since, until = bounds(day, day, deps.settings.service.zone)
    found: dict[str, list[Row]] = {}
    for page_id in await deps.pages.to_sync(deps.settings.pancake.page_ids):
        found[page_id] = await page_report(deps, page_id, since, until, book)
        rows = [_document(row) for row in found[page_id]]
        await deps.reports.save(KIND, day.isoformat(), page_id, rows, since=since, until=until, asOf=deps.now())
    return found


async def page_report(deps: Deps, page_id: str, since: int, until: int, book: PolicyBook) -> list[Row]:
    """The rows of a page for [since, until), by day and staff. Reads only; nothing of the page is loaded whole."""
    waits = [wait async for wait in _waits(deps, page_id, since, until, book.of(page_id))]
    return report_of(waits)


async def policies(deps: Deps) -> PolicyBook:
    """Every page's policy: which time is business time, and which conversations are not watched."""
    return await deps.policies.load(deps.settings.alerts.policy(deps.settings.service.zone))


async def send_report(deps: Deps, day: date, pages: Mapping[str, Sequence[Row]], lacking: Sequence[str]) -> int:
    """Tell MONITOR_REPORT_TO, or else ALERT_OPERATIONS_TO; returns how many are told. Once a day and address.

    `lacking`: pages whose numbers are not the last word. A day without a customer is not told.
    """
    if not any(pages.values()):
        return 0
    book = await policies(deps)
    is_business = any(not book.of(page_id).calendar.is_always_open for page_id in pages)
    names = {page_id: await deps.pages.name(page_id) or page_id for page_id in pages}
    language = deps.settings.alerts.language
    title, text = report_text(
        day.isoformat(), pages, names, await deps.staff.names(), language, is_business=is_business, lacking=lacking
    )
    to = deps.settings.monitor.report_to or deps.settings.alerts.operations_to
    for address in to or (IN_APP,):
        await tell(deps, address, note_id=f"{KIND}:{day.isoformat()}", title=title, text=text)
    return len(to)


async def _is_whole(deps: Deps, page_id: str, since: int, until: int) -> bool:
    state = await deps.sync_states.load(CONVERSATIONS, page_id)
    if state.mark is None or state.mark < until - 1:
        return False
    # what was said then shows at the second its conversation last changed, which may be any later one
    is_read = not subtract([(since, state.mark)], state.covered)
    return is_read and not await deps.reports.has_unread(page_id, since, int(deps.now()) - LATE_S)


async def _waits(deps: Deps, page_id: str, since: int, until: int, policy: Policy) -> AsyncIterator[Wait]:
    zone = deps.settings.service.zone
    left_out: set[str] = set()
    if policy.left_out_tags or policy.left_out_types:
        left_out = await deps.reports.left_out(
            page_id, since, lambda type_, tags, names: not applies(policy, type_, tags, names)
        )
    follower = Follower(await deps.reports.waiting_before(page_id, since, until))
    batch: list[tuple[str, Said]] = []
    second = 0
    async for conversation_id, said in deps.reports.said(page_id, since, until):
        # a second is followed whole: within it the messages come in any order
        if said.at_us // 1_000_000 != second and len(batch) >= BATCH:
            for wait in _known(follower.follow(batch), policy, zone):
                yield wait
            batch = []
        second = said.at_us // 1_000_000
        if conversation_id not in left_out:
            batch.append((conversation_id, said))
    for wait in _known(follower.follow(batch), policy, zone):
        yield wait
    left = list(follower.open.values())
    answers = await deps.reports.first_answers([episode.message_id for episode in left], until)
    for wait in _known((_answered(episode, answers) for episode in left), policy, zone):
        yield wait


def _answered(episode: Episode, answers: Mapping[str, tuple[int, str | None]]) -> Episode:
    at, by = answers.get(episode.message_id, (None, None))
    return Episode(episode.message_id, episode.since_us, at, by)


def _known(episodes: Iterable[Episode], policy: Policy, zone: ZoneInfo) -> Iterator[Wait]:
    for episode in episodes:
        since = episode.since_us / 1e6
        day = datetime.fromtimestamp(since, zone).date().isoformat()
        if episode.replied_us is None:
            yield Wait(day, None, None, None)
            continue
        until = episode.replied_us / 1e6
        yield Wait(day, episode.replied_by, until - since, policy.calendar.elapsed(since, until))


def _document(row: Row) -> dict[str, Any]:
    """As stored: times in seconds, names in camelCase."""
    found: dict[str, Any] = {
        "staffId": row.staff_id,
        "isPage": row.is_page,
        "answered": row.answered,
        "unanswered": row.unanswered,
    }
    for name, times in (("times", row.times), ("businessTimes", row.business)):
        found[name] = {"medianS": times.median_s, "p90S": times.p90_s, "longestS": times.longest_s} if times else None
    return found
