"""What we rely on of Pancake's rows. Everything else a row carries is ignored here and kept in its raw object.

Nearly every field may be missing or null, and lists may hold nulls; ids are text whatever JSON type they came in;
times without a zone are UTC.
"""

from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict

from ...rules.times import in_utc

Moment = Annotated[datetime, AfterValidator(in_utc)]
Texts = tuple[str | None, ...]


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True, hide_input_in_errors=True)


class PageSettings(_Row):
    """A page's settings in list-pages; the token is there for some pages only."""

    page_access_token: str | None = None


class Page(_Row):
    """A connected page. `is_activated` is False for pages the account holds but does not use."""

    id: str
    name: str | None = None
    platform: str | None = None
    is_activated: bool = True
    settings: PageSettings | None = None


class PageCustomer(_Row):
    """A customer of one page. `psid` identifies them on the page, `customer_id` across pages, `id` in note URLs."""

    psid: str
    id: str | None = None
    customer_id: str | None = None
    name: str | None = None
    phone_numbers: Texts | None = None
    emails: Texts | None = None
    inserted_at: Moment | None = None
    updated_at: Moment | None = None


class Sender(_Row):
    """Whoever a conversation or message is from; `uid`, `admin_id`, `admin_name` mark the page's side."""

    id: str | None = None
    name: str | None = None
    uid: str | None = None
    admin_id: str | None = None
    admin_name: str | None = None
    ai_generated: bool | None = None
    is_automated: bool | None = None


class Conversation(_Row):
    """A conversation of list v2. `snippet` is cut and may be null; `tags` may hold nulls, so it stays raw."""

    id: str
    type: str | None = None
    page_id: str | None = None
    customer_id: str | None = None
    from_: Sender | None = None
    last_sent_by: Sender | None = None
    snippet: str | None = None
    assignee_ids: Texts | None = None
    inserted_at: Moment | None = None
    updated_at: Moment | None = None

    model_config = ConfigDict(alias_generator=lambda name: name.rstrip("_"))


class Message(_Row):
    """One message. `original_message` is the plain text, empty for pictures."""

    id: str
    conversation_id: str | None = None
    type: str | None = None
    original_message: str | None = None
    from_: Sender | None = None
    inserted_at: Moment | None = None
    is_removed: bool | None = None

    model_config = ConfigDict(alias_generator=lambda name: name.rstrip("_"))


class Post(_Row):
    """A post of the page, ordered by `inserted_at`."""

    id: str
    page_id: str | None = None
    type: str | None = None
    message: str | None = None
    inserted_at: Moment | None = None


class User(_Row):
    """A member of the page's staff. `is_online` is a sample of this moment."""

    id: str
    name: str | None = None
    status: str | None = None
    status_in_page: str | None = None
    is_online: bool | None = None


class Tag(_Row):
    """A tag of the page; ids start at 0."""

    id: str
    text: str | None = None


Raw = dict[str, Any]
