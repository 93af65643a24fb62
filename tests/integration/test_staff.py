"""Who of the staff is there, sample by sample."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from src.clients.mongo import Document
from src.engine.inline import Ran, run_to_end
from src.jobs import ALL_JOBS
from src.settings import Settings
from src.sync.staff import sample_staff
from tests.integration.threads import Body, Shop, shop

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 5, 14, 12, tzinfo=UTC)
AN, BINH = "u-an", "u-binh"


def user(user_id: str, *, is_online: bool | None, **more: Any) -> Body:
    """A member of the staff, as Pancake lists them."""
    return {"id": user_id, "name": user_id.title(), "status": "available", "is_online": is_online, **more}


def answering(page: Shop, *users: Body) -> None:
    """The page's staff from now on."""

    def change(request: httpx.Request, body: Body) -> Body:
        return {"success": True, "users": list(users)} if request.url.path.endswith("/users") else body

    page.wire.change = change


async def sample(page: Shop, minutes: int) -> int:
    """Look at them so many minutes after noon."""
    return await sample_staff(page.deps.pancake, page.deps.staff, page.page_id, NOON + timedelta(minutes=minutes))


async def stored(page: Shop) -> dict[str, Document]:
    """The staff as stored."""
    return await page.rows("staff", "userId")


async def test_last_seen_moves_only_while_somebody_is_there(settings: Settings) -> None:
    """Pancake tells of this moment alone; what came before is ours to remember."""
    async with shop(settings, customers=0) as page:
        answering(page, user(AN, is_online=True), user(BINH, is_online=None, status=None))
        assert await sample(page, 0) == 1
        answering(page, user(AN, is_online=False), user(BINH, is_online=False))
        assert await sample(page, 1) == 0
        an, binh = (await stored(page))[AN], (await stored(page))[BINH]
        assert (an["isOnline"], an["lastSeenOnlineAt"], an["sampledAt"]) == (False, NOON, NOON + timedelta(minutes=1))
        assert (binh["isOnline"], binh.get("lastSeenOnlineAt"), binh["status"]) == (False, None, "available")


async def test_who_is_no_longer_listed_is_removed_and_may_come_back(settings: Settings) -> None:
    """Their name stays known: reports of older days need it."""
    async with shop(settings, customers=0) as page:
        answering(page, user(AN, is_online=True), user(BINH, is_online=True))
        await sample(page, 0)
        answering(page, user(AN, is_online=True))
        await sample(page, 1)
        binh = (await stored(page))[BINH]
        assert (binh["isRemoved"], binh["isOnline"], binh["lastSeenOnlineAt"]) == (True, False, NOON)
        assert await page.deps.staff.names(page.page_id) == {AN: "U-An", BINH: "U-Binh"}
        answering(page, user(AN, is_online=True), user(BINH, is_online=False))
        await sample(page, 2)
        assert not (await stored(page))[BINH]["isRemoved"]


async def test_an_older_sample_that_is_stored_later_changes_nothing(settings: Settings) -> None:
    """Two workers may sample at once, and one of them be slow."""
    async with shop(settings, customers=0) as page:
        answering(page, user(AN, is_online=True))
        await sample(page, 5)
        before = await stored(page)
        answering(page, user(AN, is_online=False))
        await sample(page, 4)
        answering(page)
        await sample(page, 4)
        assert await stored(page) == before


async def run(page: Shop) -> Ran:
    """The job."""
    return await run_to_end(ALL_JOBS, page.deps, "sync_page_staff", {"page_id": page.page_id}, max_tries=1)


async def test_a_call_that_fails_makes_nobody_leave(settings: Settings) -> None:
    """Whoever was there stays there until an answer says otherwise."""
    async with shop(settings, customers=0) as page:
        assert (await run(page)).end.outcome == "sampled"
        before = await stored(page)
        assert sum(member["isOnline"] for member in before.values()) == 1
        page.wire.change = lambda _, __: {"success": False, "error_code": 999, "message": "no"}
        assert not (await run(page)).is_ok
        page.wire.change = lambda _, __: {"success": True, "users": [{"name": "nobody"}]}
        assert not (await run(page)).is_ok
        assert await stored(page) == before
