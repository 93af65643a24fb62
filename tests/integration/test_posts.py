"""The stream of posts against a simulated page."""

from typing import Any

import pytest

from src.settings import Settings
from tests.integration.threads import START_S, Shop, shop
from tests.simulators.pancake.clock import SECOND_US
from tests.simulators.pancake.page import Post

pytestmark = pytest.mark.anyio


def publish(page: Shop, posts: int, at_s: int) -> None:
    """Posts of one and the same second."""
    for number in range(posts):
        at_us = at_s * SECOND_US
        post = Post(f"{page.page_id}_{at_s}{number:03}", "Hàng mới về", at_us, at_us)
        page.page.posts.put(post, at_us, page.world.now_us())


async def missing(page: Shop) -> set[str]:
    """Posts that are not stored."""
    return set(page.page.posts.latest) - set(await page.rows("posts", "postId"))


@pytest.mark.parametrize("switches", [{}, {"drop_total": True}, {"bounds": "exclusive"}], ids=str)
async def test_every_post_arrives(switches: dict[str, Any], settings: Settings) -> None:
    """New ones and old ones, and those of a second fuller than an answer."""
    async with shop(settings, **switches) as page:
        publish(page, 75, START_S - 40 * 86_400)
        publish(page, 31, START_S - 3_600)
        ran = await page.run_all("posts")
        assert [each.end.outcome for each in ran] == ["synced", "synced"]
        assert await missing(page) == set()
        stored = next(iter((await page.rows("posts", "postId")).values()))
        assert stored["panCakeData"]["id"] == stored["postId"]
        assert (stored["pageId"], stored["type"]) == (page.page_id, "photo")


async def test_what_is_published_later_comes_with_the_next_pass(settings: Settings) -> None:
    """In one call, as a quiet pass takes."""
    async with shop(settings) as page:
        await page.run_all("posts")
        await page.later(600)
        page.wire.paths.clear()
        assert (await page.run("incremental", "posts")).end.outcome == "unchanged"
        assert page.wire.calls("/posts") == 1
        publish(page, 3, START_S + 590)
        await page.later(30)
        assert (await page.run("incremental", "posts")).end.outcome == "synced"
        assert await missing(page) == set()
