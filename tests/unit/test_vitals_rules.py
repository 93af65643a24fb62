"""When a worker lives, and when it is ready."""

from hypothesis import given
from hypothesis import strategies as st

from src.rules.vitals import ANSWERED_S, BLOCKED_S, CLAIMED_S, DEAD_S, Server, Signs, checks_of, is_live

AGES = st.floats(0, 1e6)
SERVERS = st.builds(Server, st.none() | AGES, st.sampled_from(["", "no answer in 5 s"]))
SIGNS = st.builds(
    Signs, AGES, st.fixed_dictionaries({"redis": SERVERS, "mongodb": SERVERS}), AGES, st.booleans(), st.booleans()
)


@given(SIGNS)
def test_it_is_ready_when_and_only_when_everything_is_well(signs: Signs) -> None:
    is_ready = (
        signs.stands_s <= BLOCKED_S
        and all(
            each.age_s is not None and each.age_s <= ANSWERED_S and not each.error for each in signs.servers.values()
        )
        and (signs.claimed_s <= CLAIMED_S or not signs.has_slots)
        and not signs.is_stopping
    )
    checks = checks_of(signs)
    assert all(check.is_ok for check in checks) == is_ready
    assert [check.name for check in checks] == ["event_loop", *signs.servers, "lanes", "running"]
    assert all(check.said for check in checks)


@given(SIGNS)
def test_what_is_ready_lives(signs: Signs) -> None:
    assert is_live(signs.stands_s) or not all(check.is_ok for check in checks_of(signs))


def test_it_lives_whatever_its_servers_do() -> None:
    assert is_live(DEAD_S)
    assert not is_live(DEAD_S + 1)
