"""User-level answers: everything below `/api/v1`."""

from typing import Any, Final

from tests.simulators.pancake import gate, replies
from tests.simulators.pancake.call import Call
from tests.simulators.pancake.page import Page
from tests.simulators.pancake.replies import Reply
from tests.simulators.pancake.world import World

CATEGORIES: Final = ("activated", "hidden", "inactivated", "nopermission")


def name_of(call: Call) -> str:
    """Name the route of a user-level call; empty is the HTML shell."""
    rest = call.path[2:]
    if call.method == "GET" and rest == ["pages"]:
        return "pages"
    if len(rest) == 4 and rest[0] == "pages" and rest[2] == "avatar":
        return "avatar"
    if call.method == "POST" and len(rest) == 3 and rest[2] == "generate_page_access_token":
        return "mint"
    return ""


def answer(name: str, call: Call, world: World) -> Reply:
    """Answer a user-level call by the name of its route."""
    if name == "avatar":  # needs no token
        return Reply(b"", 301, outcome="ok", headers=((b"location", b"https://cdn.invalid/avatar.jpg"),))
    refusal = gate.check_user(world, call.text("access_token"))
    if refusal is not None:
        return refusal
    return mint(call, world) if name == "mint" else list_pages(world)


def mint(call: Call, world: World) -> Reply:
    """Make a new page token; the old one answers 105 from now on."""
    page = world.find(call.path[3])
    if page is None:
        return replies.refused("Page not found")
    return replies.ok({"message": "Tạo mới token thành công", "page_access_token": page.rotate(), "success": True})


def list_pages(world: World) -> Reply:
    """List the user's pages in the documented or the measured shape."""
    pages = world.pages.values()
    if world.switches.pages_shape == "flat":
        return replies.ok({"success": True, "pages": [_short(page) for page in pages]})
    lists: dict[str, Any] = {
        category: [_full(page, world) for page in pages if page.category == category] for category in CATEGORIES
    }
    lists["activated_page_ids"] = [page["id"] for page in lists["activated"]]
    return replies.ok({"success": True, "categorized": lists})


def _short(page: Page) -> dict[str, Any]:
    return {
        "id": page.page_id,
        "platform": page.platform,
        "name": page.facts.name,
        "avatar_url": f"https://cdn.invalid/{page.page_id}.jpg",
    }


def _full(page: Page, world: World) -> dict[str, Any]:
    settings: dict[str, Any] = {"unread_first": True, "multi_tag": True, "allow_round_robin": False}
    if page.token_lot < world.switches.token_in_list_pct:
        settings["page_access_token"] = page.token
    return _short(page) | {
        "username": f"shop{page.number + 1}",
        "connected": True,
        "is_activated": page.category == "activated",
        "inserted_at": "2025-12-15T14:32:32",
        "timezone": 7.0,
        "country": "VN",
        "shop_id": 10_001 + page.number,
        "role_in_page": "ADMINISTER",
        "active_user_ids": [uid for uid, _, _ in page.facts.agents],
        "users": [
            {"user_id": uid, "fb_id": fb_id, "name": name, "page_id": page.page_id, "status": "active"}
            for uid, name, fb_id in page.facts.agents
        ],
        "permissions": {"is_enabled_permissions": False},
        "platform_extra_info": {},
        "is_silhouette": False,
        "business": None,
        "settings": settings,
    }
