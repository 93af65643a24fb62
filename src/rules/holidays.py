"""Vietnam's holidays under one word each, for who does not want to enter dates: `tet`, `tet -2..+5`, `vn`.

Lunar days are dated entries, by the rule of the Vietnamese calendar (UTC+7 since 1968): the first of Tet is the day, in
Hanoi, of the new moon that begins the month in which the sun reaches 330 degrees; the day of the Hung Kings is the
tenth of the month in which it reaches 30. The tests work both out from the sky. They differ from China's where that
moon falls between 23:00 and 24:00 in Hanoi, as in 2030.

The fixed holidays are those of the Labour Code 2019, article 112. Which days are off beside them, at Tet and at 2
September, the government decides each year: enter what differs as dates, which are what counts.
"""

import re
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Final

TET: Final = (
    date(2024, 2, 10),
    date(2025, 1, 29),
    date(2026, 2, 17),
    date(2027, 2, 6),
    date(2028, 1, 26),
    date(2029, 2, 13),
    date(2030, 2, 2),
    date(2031, 1, 23),
    date(2032, 2, 11),
    date(2033, 1, 31),
    date(2034, 2, 19),
    date(2035, 2, 8),
)
HUNG_KINGS: Final = (
    date(2024, 4, 18),
    date(2025, 4, 7),
    date(2026, 4, 26),
    date(2027, 4, 16),
    date(2028, 4, 4),
    date(2029, 4, 23),
    date(2030, 4, 12),
    date(2031, 4, 1),
    date(2032, 4, 19),
    date(2033, 4, 9),
    date(2034, 4, 28),
    date(2035, 4, 17),
)
FIXED: Final = ((1, 1), (4, 30), (5, 1), (9, 2))  # month, day
USUAL: Final = (-1, 5)  # days from the first of Tet: its eve, and a week in all
MOST_DAYS: Final = 30

_TET: Final = re.compile(r"t[eế]t(?:\s+(?P<first>[+-]?\d{1,2})\s*\.\.\s*(?P<last>[+-]?\d{1,2}))?")


def days_of_word(entry: str) -> tuple[list[date], tuple[tuple[int, int], ...]] | None:
    """The closed dates of a word and what it closes each year as (month, day); None where the entry is no such word.

    `tet -2..+5` counts days from the first of Tet, which is 0; without, a week from the eve on. Raises ValueError where
    such days make no sense.
    """
    text = entry.strip().lower()
    if text == "vn":
        return [*_around(*USUAL), *HUNG_KINGS], FIXED
    match = _TET.fullmatch(text)
    if match is None:
        return None
    first, last = (int(match["first"]), int(match["last"])) if match["first"] else USUAL
    if not 0 <= last - first < MOST_DAYS:
        raise ValueError(f"{entry!r}: the last day has to follow the first, within {MOST_DAYS} days; write tet -2..+5")
    return list(_around(first, last)), ()


def _around(first: int, last: int) -> Iterator[date]:
    for tet in TET:
        yield from (tet + timedelta(days=number) for number in range(first, last + 1))
