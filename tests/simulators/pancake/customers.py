"""Page customers: their versions, their JSON, and the rows a strict reader cannot take.

Shape: the vendor's documented `page_customers` row, all values invented; `sim_version` is the simulator's own.
"""

import random
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from tests.simulators.pancake import invent
from tests.simulators.pancake.clock import iso
from tests.simulators.pancake.faults import Fault, as_null, as_text, replaced, with_raw, without
from tests.simulators.pancake.switches import Switches

#: Fields that say nothing and bring a row to the weight of a real one.
_FILLING: Final[dict[str, Any]] = {
    "personal_info": {"addresses": [], "note": "Row of a simulator; " + "nothing in it belongs to anybody. " * 5},
    "web_sources": [],
    "reports_by_phone": {},
    "is_block": False,
    "global_id": None,
    "profile_updated_at": None,
}


@dataclass(slots=True)
class Customer:
    """One state of one customer."""

    #: The row's `id`, page-scoped.
    rid: str
    #: What the row is known by to the outside, whether or not its JSON still shows it.
    psid: str
    name: str
    phone: str
    #: Whole seconds.
    inserted_us: int
    #: Whole seconds; the true stamp also where the JSON hides it.
    updated_us: int
    #: 1 at birth, one more with each change.
    version: int = 1
    #: A key of `KINDS` when the row is malformed, else empty.
    kind: str = ""
    body: bytes | None = None


def changed(old: Customer, rng: random.Random, at_us: int) -> Customer:
    """Give a customer another name or phone at a moment."""
    if rng.random() < 0.5:
        new = replace(old, name=invent.person(rng))
    else:
        new = replace(old, phone=invent.phone(rng.randrange(100_000)))
    new.updated_us, new.version, new.body = max(at_us, old.updated_us), old.version + 1, None
    return new


def touched(old: Customer, at_us: int) -> Customer:
    """Raise the stamp and version and nothing else, as a bulk action does."""
    return replace(old, updated_us=max(at_us, old.updated_us), version=old.version + 1, body=None)


def render(customer: Customer, switches: Switches) -> bytes:
    """Write the row as the vendor does, about 1 KB of JSON; a malformed one with its fault."""
    row = fields_of(customer, switches)
    if customer.kind:
        return KINDS[customer.kind](row)
    return orjson.dumps(row)


def raw_stamp(at_us: int, switches: Switches) -> str:
    """Write a customer's time as its JSON has it."""
    return iso(at_us, fraction=switches.stamp_fraction, offset_h=switches.tz_offset_hours)


def fields_of(customer: Customer, switches: Switches) -> dict[str, Any]:
    """Return the row before any fault is put in."""
    rid, psid = customer.rid, customer.psid
    return {
        "id": rid,
        "customer_id": invent.derived_uuid("customer", rid),
        "name": customer.name,
        "psid": psid,
        "thread_id": None,
        "birthday": None,
        "gender": None,
        "lives_in": None,
        "can_inbox": True,
        "emails": None,
        "phone_numbers": [customer.phone],
        "inserted_at": raw_stamp(customer.inserted_us, switches),
        "updated_at": raw_stamp(customer.updated_us, switches),
        "recent_orders": None,
        "notes": None,
        "sim_version": customer.version,
        "recent_phone_numbers": [
            {
                "phone_number": customer.phone,
                "captured": customer.phone,
                "m_id": f"m_{rid}",
                "offset": 0,
                "length": len(customer.phone),
                "status": 0,
            }
        ],
        "ad_clicks": [{"ad_id": f"invented_ad_{psid[-4:]}", "post_id": f"invented_post_{psid[-3:]}"}],
        **_FILLING,
    }


#: Fault -> how it changes the row. All are valid JSON by the grammar, as the wire is.
KINDS: Final[dict[str, Fault]] = {
    "null_psid": replaced(psid=None),
    "missing_psid": without("psid"),
    "bad_updated_at": replaced(updated_at="not-a-date"),
    "string_row": as_text,
    "null_row": as_null,
    "phone_dict": lambda row: orjson.dumps(row | {"phone_numbers": {"0": row["phone_numbers"][0]}}),
    "lone_surrogate": with_raw("name", b'"half \\ud800 pair"'),
    "big_integer": with_raw("global_id", b"36893488147419103232"),
    "null_stamps": replaced(updated_at=None, inserted_at=None),
}
