"""Who waits, and since when: told as a table, and held against a slow reading that tries every moment."""

from collections.abc import Sequence
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.rules.waiting import Episode, Said, Standing, episodes, in_order, standing

WHO = {"c": "customer", "a": "agent", "b": "bot", "s": "system"}
S = 1_000_000


def said(script: str) -> list[Said]:
    """One letter a message, a second apart; staff answers under the id of its second."""
    return [
        Said(f"m{at}", at * S, WHO[who], f"u{at}" if who == "a" else None)  # type: ignore[arg-type]
        for at, who in enumerate(script)
        if who != "."
    ]


def waited(since: int, until: int | None = None) -> Episode:
    return Episode(f"m{since}", since * S, until * S if until is not None else None, f"u{until}" if until else None)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("", []),
        ("a", []),
        ("bs", []),
        ("c", [waited(0)]),
        ("ccc", [waited(0)]),
        ("ca", [waited(0, 1)]),
        ("cbs", [waited(0)]),
        ("cbsba", [waited(0, 4)]),
        ("accba", [waited(1, 4)]),
        ("caac", [waited(0, 1), waited(3)]),
        ("ccaca.c", [waited(0, 2), waited(3, 4), waited(6)]),
        ("aaa", []),
    ],
)
def test_episodes(script: str, expected: list[Episode]) -> None:
    """From the first unanswered message of the customer to the next answer of a human; bots end nothing."""
    assert episodes(said(script)) == expected


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("", Standing()),
        ("cb", Standing(said("cb")[1], waited(0))),
        ("ca", Standing(said("ca")[1], None, 1 * S, "u1")),
        ("cac", Standing(said("cac")[2], waited(2), 1 * S, "u1")),
        ("cabs", Standing(said("cabs")[3], None, 1 * S, "u1")),
    ],
)
def test_standing(script: str, expected: Standing) -> None:
    """Who spoke last, who waits, and when a human last answered."""
    assert standing(said(script)) == expected


def test_within_one_moment_the_id_decides() -> None:
    """The same messages are read the same way by every worker, in whatever order they come."""
    question, answer = Said("m1", S, "customer"), Said("m2", S, "agent", "u")
    assert episodes([answer, question]) == episodes([question, answer]) == [Episode("m1", S, S, "u")]


SAID = st.builds(
    Said,
    st.integers(0, 99).map(lambda number: f"m{number:02d}"),
    st.integers(0, 30),
    st.sampled_from(tuple(WHO.values())),
    st.none() | st.sampled_from(("u1", "u2")),
)
TALK = st.lists(SAID, max_size=14, unique_by=lambda one: one.message_id)


def slow_episodes(talk: Sequence[Said]) -> list[Episode]:
    """Each customer message begins one if the last human word before it was not a customer's; looked up each time."""
    ordered = sorted(talk, key=lambda one: (one.at_us, one.message_id))
    found = []
    for place, one in enumerate(ordered):
        before = [other.sender for other in ordered[:place] if other.sender in ("customer", "agent")]
        if one.sender == "customer" and (not before or before[-1] == "agent"):
            answer = next((other for other in ordered[place:] if other.sender == "agent"), None)
            found.append(
                Episode(one.message_id, one.at_us, answer.at_us, answer.staff_id)
                if answer
                else Episode(one.message_id, one.at_us)
            )
    return found


@given(TALK, st.randoms(use_true_random=False))
def test_any_talk_in_any_order(talk: list[Said], chance: Random) -> None:
    """As the slow reading, however the messages are shuffled, and with none lost."""
    shuffled = list(talk)
    chance.shuffle(shuffled)
    assert episodes(shuffled) == slow_episodes(talk)
    assert in_order(shuffled) == in_order(talk)
    assert sorted(one.message_id for one in in_order(shuffled)) == sorted(one.message_id for one in talk)


@given(TALK)
def test_what_came_before_the_last_answer_changes_nothing(talk: list[Said]) -> None:
    """So a reader may stop at it; that is what makes one cheap."""
    ordered = in_order(talk)
    last = max((place for place, one in enumerate(ordered) if one.sender == "agent"), default=0)
    assert standing(ordered[last:]) == standing(talk)


@given(TALK)
def test_standing_agrees_with_the_episodes(talk: list[Said]) -> None:
    """At most one is open, the last; each begins after the one before was answered."""
    found, stands = episodes(talk), standing(talk)
    assert [one for one in found if one.replied_us is None] == ([stands.waiting] if stands.waiting else [])
    for before, after in pairwise(found):
        assert before.replied_us is not None
        assert before.since_us <= before.replied_us <= after.since_us
