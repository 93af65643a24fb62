"""Some hours of a shop with two workers, an outage and kills; `python -m scripts.bench.shop` plays a whole day."""

import asyncio

from tests.conftest import Servers
from tests.harness.shop.judge import Told, due_at, judge, waits
from tests.harness.shop.old import last_is_customers, updated_window
from tests.harness.shop.pages import policy_of, rules_of
from tests.harness.shop.play import SHOP, play
from tests.harness.shop.script import HOUR, Outage, write

MORNING = 1_778_806_800  # 2026-05-15 08:00 in Vietnam, a Friday
PAGES = 3


def test_every_wait_is_told_once_in_time_and_nothing_else(servers: Servers) -> None:
    script = write(5, start=MORNING, hours=1.5, pages=PAGES, threads=60, outages=0, kills=2)
    script.outages.append(Outage(MORNING + 39 * 60, MORNING + 41 * 60, (0,)))
    rules = [rules_of(number) for number in range(PAGES)]
    policies = [policy_of(number, f"webhook:{SHOP}") for number in range(PAGES)]
    played = asyncio.run(play(script, policies, servers, sync_every_min=5))
    verdict = judge(script, rules, played.told, slack_s=60.0)  # how soon within a tick is the bench's to measure
    assert verdict.is_clean, verdict
    assert verdict.expected > 20
    assert played.kills == 2
    for old in (last_is_customers(script, 15), updated_window(script)):
        assert not judge(script, rules, old).is_clean


def test_the_judge_knows_a_wrong_alert_from_a_right_one() -> None:
    script = write(7, start=MORNING, hours=6, pages=PAGES, threads=80, outages=0, kills=0)
    rules = [rules_of(number) for number in range(PAGES)]
    right = [
        Told(wait.thread, step, tick)
        for wait in waits(script)
        for step, minutes in rules[script.threads[wait.thread]].steps
        if (due := due_at(wait.since, minutes, rules[script.threads[wait.thread]], script.end)) is not None
        and (tick := -(-int(due) // 300) * 300) < min(wait.until or script.end, script.end)
    ]
    assert judge(script, rules, right).expected > 50
    assert judge(script, rules, right).is_clean
    assert judge(script, rules, right[1:]).missing == 1
    assert judge(script, rules, [*right, right[0]]).repeated == 1
    late = [Told(right[0].thread, right[0].step, right[0].at + 400), *right[1:]]
    assert not judge(script, rules, late).is_clean
    assert judge(script, rules, [*right, Told(10**6, "breach", MORNING + HOUR)]).false == 1
