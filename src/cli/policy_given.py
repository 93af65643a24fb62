"""What was given to `policy set`, as fields of a document of `reply_policies`."""

from collections.abc import Sequence
from typing import Any, Final

from ..errors import Misuse
from ..rules.recipients import recipient_of

NONE: Final = "none"
#: option -> field, or the field and what of it
FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "threshold": ("thresholdMinutes",),
    "warn": ("warnMinutes",),
    "escalate": ("escalateMinutes",),
    "to": ("to",),
    "warn-to": ("warnTo",),
    "escalate-to": ("escalateTo",),
    "hours": ("hours",),
    "timezone": ("timezone",),
    "holiday": ("holidays",),
    "day": ("days",),
    "leave-out-tag": ("leaveOut", "tags"),
    "leave-out-type": ("leaveOut", "types"),
    "staff": ("staff",),
    "quiet": ("quietHours",),
    "max-age-days": ("maxAgeDays",),
    "steps": ("steps",),  # which are written into the document by hand
}


def fields_of(given: dict[str, Any], unset: Sequence[str]) -> dict[str, Any]:
    """Fields to change, None for one to take away; options that were not given are None or empty in `given`.

    Raises Misuse, naming the option.
    """
    values = {name: _value(name, value) for name, value in given.items() if value is not None and value != []}
    for name in (name.removeprefix("--") for name in unset):
        if name not in FIELDS:
            raise Misuse(f"--unset {name}: there are {', '.join(FIELDS)}")
        if name in values:
            raise Misuse(f"--{name} and --unset {name} exclude each other")
        values[name] = None
    if not values:
        raise Misuse("nothing was given to set: `policy set --help` lists the options")
    fields: dict[str, Any] = {}
    for name, value in values.items():
        field, *inner = FIELDS[name]
        if inner:
            fields.setdefault(field, {})[inner[0]] = value
        else:
            fields[field] = value
    return fields


def page_of(page: str | None, *, every: bool, name_of_all: str) -> str:
    """The page that is meant. Raises Misuse where it is not said, or said twice."""
    if page == name_of_all:
        page, every = None, True
    if (page is None) != every:
        raise Misuse("write --page ID for one page, or --all for every page that says nothing of its own")
    if page is not None and (not page.strip() or not page.isprintable()):
        raise Misuse("--page is to be the page's id, as `policy list` shows it")
    return name_of_all if every else str(page).strip()


def _value(name: str, value: Any) -> Any:
    if name == "staff":
        return _staff(value)
    if name == "quiet":
        return _quiet(value)
    if isinstance(value, list) and [str(each).strip().lower() for each in value] == [NONE]:
        return []
    return value


def _staff(entries: Sequence[str]) -> dict[str, list[str] | None] | None:
    """`u1=telegram:1`; several of one user are all told; `u1=none` takes the user out, `none` everybody."""
    if list(entries) == [NONE]:
        return None
    found: dict[str, list[str] | None] = {}
    for entry in entries:
        user, equals, to = (part.strip() for part in entry.partition("="))
        if not (user and equals and to):
            raise Misuse(f"--staff {entry}: write USER_ID=ADDRESS")
        if to == NONE:
            found[user] = None
        else:
            found[user] = [*(found.get(user) or ()), _address("--staff", to)]
    return found


def _quiet(entries: Sequence[str]) -> dict[str, str | None] | None:
    """`telegram:-100=22:00-07:00`; `telegram:-100=none` takes it out, `none` all of them."""
    if list(entries) == [NONE]:
        return None
    found: dict[str, str | None] = {}
    for entry in entries:
        address, equals, hours = (part.strip() for part in entry.rpartition("="))
        if not (address and equals and hours):
            raise Misuse(f"--quiet {entry}: write ADDRESS=22:00-07:00")
        found[_address("--quiet", address)] = None if hours == NONE else hours
    return found


def _address(option: str, text: str) -> str:
    try:
        return str(recipient_of(text))
    except ValueError as e:
        raise Misuse(f"{option}: {e}") from e
