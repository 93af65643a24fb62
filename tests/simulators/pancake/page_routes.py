"""Page-level answers: everything below `/api/public_api`."""

from collections.abc import Callable
from itertools import islice
from typing import Any, Final

from tests.simulators.pancake import replies, threads
from tests.simulators.pancake.call import BadParameterError, Call
from tests.simulators.pancake.clock import SECOND_US, iso
from tests.simulators.pancake.page import Page
from tests.simulators.pancake.replies import Reply
from tests.simulators.pancake.switches import Switches

Handler = Callable[[Call, Page, Switches], Reply]

DEFAULT_PAGE_SIZE: Final = 20  # undocumented
POSTS_PAGE_SIZE: Final = 30  # documented maximum
THREADS_PER_CALL: Final = 60  # documented, fixed
ORDERS: Final = ("inserted_at", "updated_at")


def answer(handler: Handler, call: Call, page: Page, switches: Switches) -> Reply:
    """Run a handler; a parameter it cannot take becomes success:false."""
    try:
        return handler(call, page, switches)
    except BadParameterError as e:
        return replies.refused(str(e))


def route(call: Call) -> tuple[str, Handler] | None:
    """Find the name and handler of `api/public_api/<version>/pages/<id>/...`; None is the HTML shell."""
    version, rest = call.path[2], call.path[5:]
    if call.method != "GET":
        return None
    if version == "v2":
        return ("conversations", conversations) if rest == ["conversations"] else None
    if version == "v1" and len(rest) == 3 and rest[0] == "conversations" and rest[2] == "messages":
        return "messages", messages
    name = "/".join(rest)
    handler = V1.get(name) if version == "v1" else None
    return (name, handler) if handler else None


def page_customers(call: Call, page: Page, switches: Switches) -> Reply:
    """List customers of a window, newest first, by pages counted at the time of the call."""
    since_s, until_s = call.window(required=True)
    order_by = call.text("order_by", "inserted_at")
    if order_by not in ORDERS:
        raise BadParameterError("order_by is invalid")
    number, size = _paging(call, DEFAULT_PAGE_SIZE, switches.page_size_cap)
    exclusive = switches.bounds == "exclusive"
    if page.huge is not None:
        total, rows = page.huge.page(since_s, until_s, exclusive=exclusive, number=number, size=size)
        bodies = page.huge.bodies(rows)
    else:
        total, rids = page.customers.page(
            order_by, since_s * SECOND_US, until_s * SECOND_US, exclusive=exclusive, number=number, size=size
        )
        bodies = page.customers.bodies(rids, switches.render_key())
    return replies.listing("customers", None if switches.drop_total else total, bodies)


def posts(call: Call, page: Page, switches: Switches) -> Reply:
    """List posts of a window by inserted_at, newest first, at most 30 a page."""
    lo_us, hi_us = call.window_us(required=True)
    number, size = _paging(call, POSTS_PAGE_SIZE, POSTS_PAGE_SIZE)
    exclusive = switches.bounds == "exclusive"
    total, rids = page.posts.page("inserted_at", lo_us, hi_us, exclusive=exclusive, number=number, size=size)
    bodies = page.posts.bodies(rids, switches.render_key())
    return replies.listing("posts", None if switches.drop_total else total, bodies)


def conversations(call: Call, page: Page, switches: Switches) -> Reply:
    """List 60 conversations below the cursor, with the measured quirks of the `type` parameter.

    `type[]` is HTTP 500, a repeated `type` an empty list, several `tags` mean all of them, `before_id` means nothing.
    """
    if "type[]" in call.query:
        return replies.server_error()
    kinds = call.query.get("type", [])
    order_by = call.text("order_by", "updated_at")
    if len(kinds) > 1 or order_by not in ORDERS:
        return replies.listing("conversations", None, [])
    lo_us, hi_us = call.window_us(required=False)
    cursor = "" if switches.v2_cursor_broken else call.text("last_conversation_id")
    below = page.threads.visible.get(cursor) if cursor else None
    if cursor and below is None:
        return replies.listing("conversations", None, [])
    wanted = {int(tag) for tag in call.text("tags").split(",") if tag.isdigit()}
    found = page.threads.older(order_by, lo_us, hi_us, below, exclusive=switches.bounds == "exclusive")
    if kinds or wanted:
        found = (t for t in found if (not kinds or t.kind == kinds[0]) and wanted.issubset(t.tags))
    if call.text("unread_first") == "true":
        found = iter(sorted(found, key=lambda thread: thread.seen))
    rids = [thread.rid for thread in islice(found, THREADS_PER_CALL)]
    return replies.listing("conversations", None, page.threads.bodies(rids, switches.render_key()))


def messages(call: Call, page: Page, switches: Switches) -> Reply:
    """List 30 messages of a conversation, counted back from the newest by `current_count`."""
    thread = page.threads.latest.get(call.path[6])
    if thread is None:
        return replies.refused("Conversation not found")
    current_count = max(0, call.number("current_count", 0))
    found = threads.batch(page.messages(thread.rid), current_count, switches.message_order)
    person = {"id": thread.customer_rid, "fb_id": thread.psid, "name": thread.name}
    return replies.ok(
        {
            "success": True,
            "conversation_id": thread.rid,
            "conv_from": threads.sender_json(page.facts, thread, "customer", switches),
            "messages": [threads.message_body(message, thread, page.facts, switches) for message in found],
            "customers": [person | {"can_inbox": True, "recent_phone_numbers": [], "personal_info": {}}],
            "conv_customers": [person],
            "can_inbox": True,
            "is_banned": False,
            "notes": None,
            "activities": [],
            "read_watermarks": None,
            "post": None,
            "comment_count": 0,
            "last_commented_at": False,
        }
    )


def users(_call: Call, page: Page, _switches: Switches) -> Reply:
    """List the page's agents; the last one is switched off."""
    *active, (gone_id, gone_name, gone_fb_id) = page.facts.agents
    rows = [
        {
            "id": uid,
            "name": name,
            "fb_id": fb_id,
            "status": "available",
            "status_in_page": "active",
            "is_online": number == 0,
            "page_permissions": {"permissions": [100, 71, 81]} if number else None,
        }
        for number, (uid, name, fb_id) in enumerate(active)
    ]
    return replies.ok(
        {
            "success": True,
            "users": rows,
            "disabled_users": [{"id": gone_id, "name": gone_name, "fb_id": gone_fb_id}],
            "round_robin_users": {"inbox": [active[0][0]], "comment": []},
        }
    )


def tags(_call: Call, page: Page, _switches: Switches) -> Reply:
    """List the page's tags; ids begin at 0."""
    rows = [
        {"id": number, "text": text, "color": "#4b5577", "lighten_color": "#c9ccd6"}
        for number, text in enumerate(page.facts.tags)
    ]
    return replies.ok({"success": True, "tags": rows})


def statistics_users(call: Call, page: Page, _switches: Switches) -> Reply:
    """Count per agent; `average_response_time` is in milliseconds."""
    if not call.text("date_range"):
        raise BadParameterError("date_range is required")
    names = ("inbox_count", "comment_count", "unique_inbox_count", "unique_comment_count", "private_reply_count")
    totals: dict[str, Any] = {}
    hours: dict[str, Any] = {}
    for number, (uid, name, fb_id) in enumerate(page.facts.agents, 1):
        counts = dict.fromkeys(names, number) | {"phone_number_count": number, "average_response_time": number * 61_000}
        totals[uid] = {"user_name": name, "user_fb_id": fb_id} | counts
        hours[uid] = [{"hour": "2026-05-14T09:00:00"} | counts]
    return replies.ok({"success": True, "data": {"statistics": hours, "users": totals}})


def statistics_pages(call: Call, _page: Page, _switches: Switches) -> Reply:
    """Count per hour of a window (31 days at most); `hour` is the page's local time, +07:00, as measured."""
    since_s, until_s = call.window(required=True)
    kinds = ("customer_inbox_count", "customer_comment_count", "page_inbox_count", "page_comment_count")
    more = ("inbox_interactive_count", "new_customer_count", "new_inbox_count", "phone_number_count")
    first_s = since_s - since_s % 3600
    rows = [
        {"hour": iso(at_s * SECOND_US, fraction=False, offset_h=7)} | dict.fromkeys(kinds + more, at_s // 3600 % 24)
        for at_s in range(first_s, min(until_s, first_s + 31 * 86_400), 3600)
    ]
    return replies.ok({"success": True, "data": rows})


def _paging(call: Call, default: int, cap: int) -> tuple[int, int]:
    size = call.number("page_size", default)
    return max(1, call.number("page_number", 1)), min(size if size > 0 else default, cap)


V1: Final[dict[str, Handler]] = {
    "page_customers": page_customers,
    "posts": posts,
    "users": users,
    "tags": tags,
    "statistics/users": statistics_users,
    "statistics/pages": statistics_pages,
}
