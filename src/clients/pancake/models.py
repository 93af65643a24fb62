"""What we rely on of Pancake's rows. Everything else a row carries is ignored here and kept in its raw object.

Nearly every field may be missing or null, and lists may hold nulls; ids are text whatever JSON type they came in;
times without a zone are UTC.
"""

from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

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


class Tag(_Row):
    """A tag of the page; ids start at 0."""

    id: str | None = None
    text: str | None = None


class Named(_Row):
    """Somebody a conversation names: its first sender, its customer, the customer's row on the page."""

    id: str | None = None
    name: str | None = None
    customer_id: str | None = None
    psid: str | None = None
    fb_id: str | None = None


def _object(value: Any) -> Any:
    """What is no object says nothing: a conversation is not to be lost for one field that only tells more."""
    return value if isinstance(value, dict) else None


def _objects(value: Any) -> Any:
    """Webhooks write tags as numbers, lists may hold nulls."""
    if not isinstance(value, list):
        return None
    return [{"id": each} if isinstance(each, int | str) else _object(each) for each in value]


def _texts(value: Any) -> Any:
    return value if isinstance(value, list) else None


Person = Annotated[Named | None, BeforeValidator(_object)]


class Conversation(_Row):
    """A conversation of list v2. `snippet` is cut and may be null; who wrote first (`from_`) may be the page."""

    id: str
    type: str | None = None
    post_id: str | None = None
    customer_id: str | None = None
    from_: Person = None
    page_customer: Person = None
    customers: Annotated[tuple[Named | None, ...] | None, BeforeValidator(_objects)] = None
    tags: Annotated[tuple[Tag | None, ...] | None, BeforeValidator(_objects)] = None
    snippet: str | None = None
    seen: bool | None = None
    assignee_ids: Annotated[Texts | None, BeforeValidator(_texts)] = None
    inserted_at: Moment | None = None
    updated_at: Moment | None = None

    model_config = ConfigDict(alias_generator=lambda name: name.rstrip("_"))


class Message(_Row):
    """One message; who wrote it is told by `rules/senders.py` from the raw row."""

    id: str
    inserted_at: Moment | None = None
    is_removed: Any = None


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


Raw = dict[str, Any]
