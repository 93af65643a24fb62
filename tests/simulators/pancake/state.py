"""Saving a world to a file and taking it up again, so that a demo shop survives a restart."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from tests.simulators.pancake import customers, threads
from tests.simulators.pancake.page import Page, Post
from tests.simulators.pancake.world import World

FORMAT = 1


def save(world: World, path: Path) -> None:
    """Write the world beside the file and put it in place at once: a crash leaves the old file whole."""
    pages = [_page_state(page) for page in world.pages.values() if page.huge is None]
    state = {"format": FORMAT, "seed": world.seed, "saved_us": world.now_us(), "pages": pages}
    draft = path.with_name(path.name + ".draft")
    draft.write_bytes(orjson.dumps(state))
    draft.replace(path)


def load(world: World, path: Path) -> bool:
    """Put saved pages in the place of the fresh ones of the same ids; False when there is no file.

    The world should be made with no customers of its own. Its life goes on from now, on other random numbers.
    """
    if not path.exists():
        return False
    state = orjson.loads(path.read_bytes())
    if state["format"] != FORMAT or state["seed"] != world.seed:
        raise ValueError(f"{path} holds another world (format or seed): remove it or start with its seed")
    world.rng.seed(f"world/{world.seed}/{state['saved_us']}")
    for saved in state["pages"]:
        page = world.find(saved["page_id"])
        if page is not None:
            _restore(page, saved)
    return True


def _page_state(page: Page) -> dict[str, Any]:
    return {
        "page_id": page.page_id,
        "generation": page.generation,
        "token": page.token,
        "superseded": sorted(page.superseded),
        "births": page.births,
        "deleted": page.deleted,
        "deleted_threads": page.deleted_threads,
        "deleted_posts": page.deleted_posts,
        "customers": [_plain(row) for row in page.customers.latest.values()],
        "threads": [_plain(row) for row in page.threads.latest.values()],
        "posts": [_plain(row) for row in page.posts.latest.values()],
        "messages": {rid: [asdict(m) for m in found] for rid, found in page.known_messages().items()},
    }


def _plain(row: customers.Customer | threads.Conversation | Post) -> dict[str, Any]:
    return {name: value for name, value in asdict(row).items() if name != "body"}


def _restore(page: Page, saved: dict[str, Any]) -> None:
    page.generation, page.token, page.births = saved["generation"], saved["token"], saved["births"]
    page.superseded, page.deleted = set(saved["superseded"]), saved["deleted"]
    page.deleted_threads, page.deleted_posts = saved.get("deleted_threads", []), saved.get("deleted_posts", [])
    page.customers.load(customers.Customer(**row) for row in saved["customers"])
    page.threads.load(threads.Conversation(**row | {"tags": tuple(row["tags"])}) for row in saved["threads"])
    page.posts.load(Post(**row) for row in saved["posts"])
    for rid, found in saved["messages"].items():
        page.set_messages(rid, [threads.Message(**message) for message in found])
