"""Every way to make the simulated vendor behave differently from its default.

Defaults follow what was measured on the live API where a measurement exists.
"""

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

Percent = float


@dataclass(slots=True)
class Switches:
    """One object shared by world and server; set a field or send JSON to `update` and the next call obeys.

    Fields ending in `_pct` are percent of calls (0-100), in `_s` or `_seconds` seconds, in `_ms` milliseconds.
    """

    #: How many page-level calls per second one page takes before 429; 0 takes all. The vendor documents 5.
    rate_limit: int = 5
    #: What a 429 looks like: nobody has documented it. `body_code` is HTTP 200 with error_code 429.
    rate_limit_form: Literal["empty", "html", "json", "body_code"] = "empty"
    #: `Retry-After` header of a 429 in seconds; 0 sends none, as measured.
    retry_after: int = 0
    #: Whether a rejected call takes room in the window too, so that a client which hammers stays shut out.
    rejected_calls_count: bool = False

    #: Whether since/until of customers, posts and conversations belong to the window.
    bounds: Literal["inclusive", "exclusive"] = "inclusive"
    #: Largest page_size of page customers; a larger one is cut to it without a word.
    page_size_cap: int = 100
    #: Leave `total` out of paged lists.
    drop_total: bool = False
    #: Write customers' times with `.000000`.
    stamp_fraction: bool = False
    #: Hours added to each time written in JSON (7 = a vendor writing local time). Windows stay UTC.
    tz_offset_hours: float = 0.0
    #: How far the vendor's `Date` header runs ahead of its stamps.
    clock_skew_s: float = 0.0
    #: A change becomes visible in lists up to this long after its stamp; until then the old row is shown.
    visibility_lag_s: float = 0.0
    #: Percent of customers born with a row a strict reader cannot take; chosen at birth.
    malformed_pct: Percent = 0.0
    #: The same of conversations, messages and posts.
    malformed_threads_pct: Percent = 0.0
    malformed_messages_pct: Percent = 0.0
    malformed_posts_pct: Percent = 0.0
    #: Whether rows are ever deleted by the world's own life.
    deletes: bool = True
    #: With a virtual clock: mean time that passes with each page-level call.
    advance_s_per_call: float = 0.5

    #: Which shape the list of pages has: the documented (flat) or the measured one.
    pages_shape: Literal["categorized", "flat"] = "categorized"
    #: Percent of pages whose list entry carries `settings.page_access_token`.
    token_in_list_pct: Percent = 20.0
    #: Answer auth failures with HTTP 401 instead of 200.
    auth_as_401: bool = False
    #: Refuse the user token (102), as after its 90 days.
    expire_user_token: bool = False
    #: Page ids whose subscription has run out (122); `*` = all.
    expire_page_subscription: list[str] = field(default_factory=list)
    #: Supersede every page token at the next call (old ones answer 105); falls back to false by itself.
    rotate_token_now: bool = False

    #: Order of messages inside a batch; `asc` was measured, `desc` is documented.
    message_order: Literal["asc", "desc"] = "asc"
    #: Ignore `last_conversation_id`, so that every call is the first page.
    v2_cursor_broken: bool = False
    #: Put a null among the tags of conversations.
    null_tags: bool = False
    #: Replies written by agents carry no uid/admin_id/admin_name.
    drop_admin_fields: bool = False
    #: Write page ids inside rows without their channel prefix (`tt_`, `pzl_`).
    strip_channel_prefix: bool = False

    #: Page ids that always answer HTTP 500; `*` = all.
    page_failures: list[str] = field(default_factory=list)
    #: Percent of calls answered by HTTP 500, 503 or success:false without a code, in turn at random.
    random_transient_pct: Percent = 0.0
    #: Percent of calls answered by HTTP 200 with the HTML shell.
    html_error_pct: Percent = 0.0
    #: Percent of replies whose connection closes in the middle of the body (the call has had its effect).
    cut_connection_pct: Percent = 0.0
    #: How long a hanging call waits before its reply.
    hang_seconds: float = 0.0
    #: Percent of calls that hang.
    hang_pct: Percent = 0.0
    #: Time each call takes before it is answered.
    latency_ms: float = 0.0

    #: Where webhooks go; empty sends none.
    webhook_url: str = ""
    #: Percent of events sent twice.
    webhook_duplicate_pct: Percent = 0.0
    #: Percent of events never sent.
    webhook_drop_pct: Percent = 0.0
    #: Whether replies written by the page come back as events too.
    webhook_echo: bool = True
    #: Put a post into INBOX events, as the official example does.
    webhook_post_in_inbox: bool = False
    #: How long the sender waits for an answer.
    webhook_timeout_s: float = 5.0

    def render_key(self) -> tuple[object, ...]:
        """Return the switches that change the text of a row; a cached row is good for one key."""
        return (
            self.stamp_fraction,
            self.tz_offset_hours,
            self.null_tags,
            self.drop_admin_fields,
            self.strip_channel_prefix,
        )

    def names_page(self, listed: list[str], page_id: str) -> bool:
        """Say whether a list of page ids (or `*`) names this page."""
        return bool(listed) and (page_id in listed or "*" in listed)

    def as_json(self) -> dict[str, Any]:
        """Return every switch by name."""
        return asdict(self)

    def update(self, change: dict[str, Any]) -> None:
        """Set some switches by name; an unknown name or a wrong type changes nothing and raises ValueError."""
        checked = {name: _checked(name, value) for name, value in change.items()}
        for name, value in checked.items():
            setattr(self, name, value)


def _checked(name: str, value: Any) -> Any:
    kind = _KINDS.get(name)
    if kind is None:
        raise ValueError(f"no switch is called {name!r}: GET /_sim/switches lists them")
    if get_origin(kind) is Literal:
        good = value in get_args(kind)
    elif get_origin(kind) is list:
        value = ["*"] if value is True else [] if value is False else value
        good = isinstance(value, list) and all(isinstance(item, str) for item in value)
    elif kind is float:
        good = isinstance(value, int | float) and not isinstance(value, bool)
    else:
        good = type(value) is kind
    if not good:
        raise ValueError(f"switch {name!r} wants {kind}: not {value!r}")
    return value


_KINDS: dict[str, Any] = {f.name: get_type_hints(Switches)[f.name] for f in fields(Switches)}
