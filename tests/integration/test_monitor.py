"""Who waits too long is told of, once a step and after a look at Pancake; who was answered is not."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from loguru import logger

from src.alerts import desk, monitor, plan
from src.alerts.monitor import told_by
from src.alerts.notices import close_notice, open_notice, tell
from src.alerts.send import send_all
from src.clients.channels import Unsure
from src.errors import Misuse, Permanent, Transient
from src.rules.policy import Policy, Step
from src.settings import Settings
from src.sync.standing import settle
from src.webhooks import endpoints
from tests.harness.alerts import START, Watch, watching
from tests.harness.merchants import with_webhooks

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]


async def states(watch: Watch) -> dict[str, str]:
    found = watch.deps.database["alert_items"].find({"to": "telegram:-1"})
    return {f"{item['conversationId']}|{item['step']}": item["state"] async for item in found}


async def test_each_step_is_told_once_and_so_is_the_end(settings: Settings) -> None:
    async with watching(settings) as watch:
        rid = watch.customer(10, 200)
        assert await watch.told(9 * 60) == []
        await watch.told(615)
        titles = [note.title for note in watch.post.to("telegram:-1")]
        assert len(titles) == 1
        assert "chờ trả lời 10 phút" in titles[0]
        assert watch.post.to("telegram:-1")[0].link == f"https://pancake.vn/{watch.page_id}?c_id={rid}"
        assert await watch.told(700) == []
        (escalated,) = await watch.told(30 * 60 + 15)
        assert escalated.startswith("🚨")
        watch.say(rid, "agent", 31 * 60)
        (over,) = await watch.told(31 * 60 + 30)
        assert over.startswith("✅")
        assert "sau 30 phút" in over
        assert await watch.told(90 * 60) == []
        alert = (await watch.deps.alerts.latest(is_open=False))[0]
        assert (alert.steps, alert.reason, alert.resolved_at) == (
            ("breach", "escalate"),
            "answered",
            START + 31 * 60 + 30,
        )


async def test_whom_an_alert_is_about_stands_in_the_log(settings: Settings) -> None:
    """Also where its message goes out later, or not at all; without the customer's name."""
    lines: list[tuple[str, dict[str, Any]]] = []
    sink = logger.add(lambda line: lines.append((line.record["message"], line.record["extra"])), level="WARNING")
    try:
        async with watching(settings) as watch:
            rid = watch.customer(10)
            assert (await watch.look(9 * 60)).due == 0
            watch.go_to(630)
            await watch.sync()
            assert (await watch.look()).due == 1
            await watch.look(640)
    finally:
        logger.remove(sink)
    (said,) = [fields for message, fields in lines if message == "conversation not answered"]
    named = {key: said[key] for key in ("conversation_id", "page_id", "waiting_minutes", "steps")}
    assert named == {"conversation_id": rid, "page_id": watch.page_id, "waiting_minutes": 10, "steps": ["breach"]}


async def test_an_answer_that_is_not_synced_yet_is_found_before_anything_is_said(settings: Settings) -> None:
    """The sync last ran while the customer waited; the answer came since."""
    async with watching(settings) as watch:
        rid = watch.customer(10)
        watch.go_to(9 * 60)
        await watch.sync()
        await watch.look()
        assert (await watch.conversation(rid))["nextStepAt"] == START + 610
        watch.say(rid, "agent", 605)
        await watch.look(612)
        await watch.send()
        assert watch.post.sent == []
        assert (await watch.conversation(rid))["awaitingReplySince"] is None
        assert not await watch.deps.alerts.latest()


async def test_bots_do_not_answer_and_nudges_do_not_restart_the_wait(settings: Settings) -> None:
    async with watching(settings) as watch:
        rid = watch.customer(10)
        watch.say(rid, "bot", 12)
        watch.say(rid, "customer", 590)
        watch.say(rid, "bot", 592)
        assert len(await watch.told(620)) == 1


async def test_a_message_that_shows_later_than_the_list_is_looked_for_once_more(settings: Settings) -> None:
    """The list knows already that something came; the messages do not yet."""
    async with watching(settings) as watch:
        rid = watch.customer(10)
        watch.go_to(20)
        messages = watch.world.page(watch.page_id).messages(rid)
        late = messages.pop()
        await watch.sync()
        assert not (await watch.conversation(rid)).get("awaitingReplySince")
        messages.append(late)
        for second in (50, 85):
            watch.go_to(second)
            await watch.sync()
        found = await watch.conversation(rid)
        assert (found["awaitingReplySince"], found["messagesDue"]) == (START + 10, False)
        assert len(await watch.told(615)) == 1


async def test_another_wait_of_the_same_customer_is_told_anew(settings: Settings) -> None:
    async with watching(settings) as watch:
        rid = watch.customer(10)
        assert len(await watch.told(620)) == 1
        watch.say(rid, "agent", 630)
        watch.say(rid, "customer", 640)
        titles = await watch.told(640 + 620)
        assert titles == ["🔔 1 khách đang chờ trả lời; 1 khách đã được trả lời"]
        assert await states(watch) == {
            f"{rid}|breach": "sent",
            f"{rid}|resolved": "sent",
        }
        ids = {alert.message_id for alert in await watch.deps.alerts.latest(is_open=None)}
        assert len(ids) == 2


async def test_an_earlier_first_message_that_turns_up_makes_no_second_alert(settings: Settings) -> None:
    """A webhook brought the second message; the poll then finds the first one."""
    async with watching(settings) as watch:
        rid = watch.customer(10)
        watch.say(rid, "customer", 30)
        await watch.told(700)
        await watch.deps.database["messages"].delete_many({})  # as if only the second had been heard of
        alert = (await watch.deps.alerts.latest())[0]
        await watch.deps.database["alerts"].update_one(
            {"_id": alert.alert_id}, {"$set": {"messageId": "later", "since": START + 30}}
        )
        await watch.deps.database["conversations"].update_one(
            {"conversationId": rid}, {"$unset": {"policyVersion": ""}}
        )
        await watch.look(760)
        assert [found.steps for found in await watch.deps.alerts.latest(is_open=None)] == [("breach",)]


async def test_two_workers_tell_once(settings: Settings) -> None:
    async with watching(settings) as watch:
        for second in range(1, 40):
            watch.customer(second)
        watch.go_to(11 * 60)
        await watch.sync()
        await asyncio.gather(*(watch.look() for _ in range(4)))
        await asyncio.gather(*(watch.send() for _ in range(4)))
        assert await watch.deps.database["alerts"].count_documents({}) == 39
        assert await watch.deps.database["alert_items"].count_documents({"to": "telegram:-1"}) == 39
        told = [note.title for note in watch.post.to("telegram:-1")]
        assert sum(int(title.split()[1]) if title.split()[1].isdigit() else 1 for title in told) == 39


async def test_hundreds_who_wait_are_one_message(settings: Settings) -> None:
    async with watching(settings) as watch:
        for second in range(300):
            watch.customer(1 + second)
        (title,) = await watch.told(16 * 60)
        assert title == "🔔 300 khách đang chờ trả lời"
        (note,) = watch.post.to("telegram:-1")
        assert note.text.endswith("... và 295 khách khác")
        assert await watch.deps.database["notifications"].count_documents({"userId": "all"}) == 300


async def test_a_page_that_cannot_be_asked_is_silent_and_says_so_once(settings: Settings) -> None:
    async with watching(settings, operations_to="telegram:-9", freshness_seconds=300) as watch:
        watch.customer(10)
        watch.go_to(30)
        await watch.sync()
        watch.world.switches.expire_page_subscription = ["*"]
        looked = await watch.look(620)
        assert (looked.told, looked.held, looked.is_late) == (0, 1, True)
        assert (await watch.look(900)).is_late
        await watch.send()
        (late,) = watch.post.to("telegram:-9")
        assert "bị trễ" in late.title
        assert watch.post.to("telegram:-1") == []
        watch.world.switches.expire_page_subscription = []
        assert len(await watch.told(1_000)) == 1
        assert [note.title[0] for note in watch.post.to("telegram:-9")] == ["🔔", "✅"]


async def test_one_conversation_that_cannot_be_judged_stops_no_other(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def applies(policy: Policy, type_: str | None, tags: Sequence[str], names: Sequence[str]) -> bool:
        if type_ == "ODD":
            raise KeyError("what nobody thought of")
        return True

    monkeypatch.setattr(monitor, "applies", applies)
    stacks: list[str] = []
    sink = logger.add(stacks.append, level="ERROR", format="{message} {extra[conversation_id]}")
    async with watching(settings) as watch:
        odd = watch.customer(10, kind="ODD")
        good = watch.customer(20)
        watch.go_to(640)
        await watch.sync()
        looked = await watch.look()
        logger.remove(sink)
        assert (looked.told, looked.faulty) == (1, 1)
        (stack,) = stacks
        assert stack.startswith(f"conversation cannot be judged {odd}\n")
        assert "what nobody thought of" in stack
        await watch.send()
        assert good in (watch.post.to("telegram:-1")[0].link or "")


async def test_acknowledged_is_quiet_until_then_and_then_goes_on(settings: Settings) -> None:
    async with watching(settings) as watch:
        watch.customer(10)
        await watch.told(620)
        alert = (await watch.deps.alerts.latest())[0]
        until = datetime.fromtimestamp(START + 50 * 60, UTC)
        hushed = await desk.hush(watch.deps, alert.alert_id, until, by="an agent")
        assert hushed.acked_by == "an agent"
        assert await watch.told(31 * 60) == []
        assert len(await watch.told(50 * 60 + 5)) == 1
        assert await watch.told(55 * 60) == []
        later = datetime.fromtimestamp(START + 70 * 60, UTC)
        await desk.hush(watch.deps, alert.alert_id, later, by="an agent")
        assert await watch.told(69 * 60) == []
        (again,) = await watch.told(70 * 60 + 5)  # every step is told, and the customer waits still
        assert again.startswith("🚨")
        assert await watch.told(90 * 60) == []
        with pytest.raises(Misuse, match="has passed"):
            await desk.hush(watch.deps, alert.alert_id, until, by=None)
        with pytest.raises(Misuse, match="no alert"):
            await desk.hush(watch.deps, "nobody's", datetime.fromtimestamp(START + 10**6, UTC), by=None)


async def test_what_is_acknowledged_between_look_and_message_is_not_told(settings: Settings) -> None:
    async with watching(settings) as watch:
        rid = watch.customer(10)
        watch.go_to(620)
        await watch.sync()
        await watch.look()
        alert = (await watch.deps.alerts.latest())[0]
        await watch.deps.alerts.hush(alert.alert_id, START + 2_000, "somebody")
        await watch.send()
        assert watch.post.sent == []
        assert await states(watch) == {f"{rid}|breach": "pending"}
        watch.go_to(2_001)
        await watch.send()
        assert len(watch.post.to("telegram:-1")) == 1


async def test_what_is_over_before_it_was_sent_is_never_sent(settings: Settings) -> None:
    async with watching(settings) as watch:
        rid = watch.customer(10)
        watch.go_to(620)
        await watch.sync()
        await watch.look()
        watch.say(rid, "agent", 621)
        watch.go_to(625)
        await watch.sync()
        await watch.look()
        await watch.send()
        assert watch.post.sent == []
        assert await states(watch) == {f"{rid}|breach": "dropped"}


async def test_a_policy_that_changes_is_in_force_with_the_next_look(settings: Settings) -> None:
    async with watching(settings) as watch:
        rid = watch.customer(10)
        watch.go_to(30)
        await watch.sync()
        await watch.look()
        await watch.sync()
        await watch.look()
        first = (await watch.conversation(rid))["nextStepAt"]
        await watch.deps.policies.save({"pageId": watch.page_id, "thresholdMinutes": 5, "warnMinutes": 0})
        await watch.look(40)
        second = (await watch.conversation(rid))["nextStepAt"]
        assert (first, second) == (START + 610, START + 310)
        await watch.deps.policies.save({"pageId": watch.page_id, "leaveOut": {"types": ["INBOX"]}})
        assert await watch.told(700) == []


def test_an_assignee_is_told_at_their_own_address() -> None:
    staff = {"u1": ("telegram:55", "email:a@shop.example"), "u3": ("slack:c",)}
    policy, step = Policy(staff=staff), Step("warn", -300.0, "warning", ("assignee", "telegram:-1"))
    assert told_by(step, policy, ["u1", "u2"]) == ["telegram:55", "email:a@shop.example", "telegram:-1"]
    assert told_by(step, policy, []) == ["telegram:-1"]


async def test_quiet_hours_hold_an_address_back(settings: Settings) -> None:
    """It is nine in the morning; this address wants to hear nothing before ten."""
    async with watching(settings, quiet_hours="telegram:-1=22:00-10:00") as watch:
        watch.customer(10)
        assert await watch.told(620) == []
        assert len(await watch.told(3_600 + 1)) == 1


async def test_an_address_has_its_messages_of_the_hour_and_the_rest_comes_as_one(settings: Settings) -> None:
    async with watching(settings, max_messages_per_hour=2) as watch:
        for number in range(5):
            watch.customer(10 + number * 60)
        titles = [title for number in range(5) for title in await watch.told(620 + number * 60)]
        assert len(titles) == 2
        (rest,) = await watch.told(620 + 3_700)
        assert rest == "🚨 5 khách đang chờ trả lời"


@pytest.mark.parametrize("error", [Transient("busy"), Unsure("cut off")], ids=["refused", "unsure"])
async def test_a_message_that_failed_is_sent_again_and_says_so_where_it_may_have_come(
    settings: Settings, error: Exception
) -> None:
    async with watching(settings) as watch:
        watch.customer(10)
        watch.post.faults["telegram:-1"] = [error]
        watch.go_to(620)
        await watch.sync()
        await watch.look()
        with pytest.raises(Transient):
            await send_all(watch.deps, "telegram:-1", is_last_try=False)
        await send_all(watch.deps, "telegram:-1", is_last_try=False)
        (note,) = watch.post.to("telegram:-1")
        assert note.is_repeat == isinstance(error, Unsure)
        assert ("gửi lại" in note.text) == isinstance(error, Unsure)


async def test_a_channel_that_refuses_for_good_is_told_of_elsewhere_and_stops_no_other(settings: Settings) -> None:
    async with watching(settings, to="telegram:-1,telegram:-2", operations_to="telegram:-9") as watch:
        rid = watch.customer(10)
        watch.post.faults["telegram:-1"] = [Permanent("bot was blocked")]
        await watch.told(620)
        assert len(watch.post.to("telegram:-2")) == 1
        await watch.send()
        (notice,) = watch.post.to("telegram:-9")
        assert "telegram:-1: bot was blocked" in notice.title
        assert await states(watch) == {f"{rid}|breach": "failed"}
        assert await watch.deps.outbox.retry_failed("telegram:-1") == 1
        await watch.send()
        assert len(watch.post.to("telegram:-1")) == 1
        await watch.send()
        assert [note.title[0] for note in watch.post.to("telegram:-9")] == ["🚨", "✅"]


async def test_a_message_whose_sender_died_is_taken_up_by_another(settings: Settings) -> None:
    """Killed before the call, and killed within it: the second may have arrived, and is marked."""
    async with watching(settings) as watch:
        watch.customer(10)
        watch.go_to(620)
        await watch.sync()
        await watch.look()
        outbox = watch.deps.outbox
        parcel = await outbox.begin("telegram:-1", "msg_1", watch.deps.now())
        assert parcel is not None
        await watch.send()
        assert watch.post.to("telegram:-1") == []  # held by the one that lives, as far as anybody knows
        watch.go_to(780)
        await watch.send()
        (note,) = watch.post.to("telegram:-1")
        assert (note.note_id, note.is_repeat) == ("msg_1", False)
        watch.customer(785)
        watch.go_to(1_400)
        await watch.sync()
        await watch.look()
        again = await outbox.begin("telegram:-1", "msg_2", watch.deps.now())
        assert again is not None
        await outbox.sending(again, "...")
        watch.go_to(1_560)
        await watch.send()
        assert [(note.note_id, note.is_repeat) for note in watch.post.to("telegram:-1")][1:] == [("msg_2", True)]


async def test_notices_are_told_once_and_so_is_their_end(settings: Settings) -> None:
    async with watching(settings, operations_to="telegram:-9") as watch:
        facts = {"agent": "bot-1"}
        found = await asyncio.gather(
            *(open_notice(watch.deps, "agent:1", kind="agent_offline", severity="high", facts=facts) for _ in range(5))
        )
        assert sum(found) >= 1
        await watch.send()
        assert not await open_notice(watch.deps, "agent:1", kind="agent_offline", severity="high", facts=facts)
        assert await close_notice(watch.deps, "agent:1")
        assert not await close_notice(watch.deps, "agent:1")
        await watch.send()
        assert [note.title.split()[0] for note in watch.post.to("telegram:-9")] == ["🔔", "✅"]


async def test_a_plain_message_is_sent_once_per_id(settings: Settings) -> None:
    async with watching(settings) as watch:
        for _ in range(3):
            await tell(watch.deps, "telegram:-5", note_id="report:2026-05-14", title="Báo cáo", text="...")
            await watch.send()
        assert [note.title for note in watch.post.to("telegram:-5")] == ["ℹ️ Báo cáo"]


async def test_what_was_held_is_told_only_if_it_is_still_so(settings: Settings) -> None:
    """Quiet until ten; the answer came at half past nine, and nobody has looked since."""
    async with watching(settings, quiet_hours="telegram:-1=22:00-10:00") as watch:
        rid = watch.customer(10)
        await watch.told(620)
        watch.say(rid, "agent", 1_800)
        watch.go_to(3_601)
        await watch.sync()
        await watch.send()
        assert watch.post.to("telegram:-1") == []


async def test_an_answer_taken_back_brings_the_alert_back(settings: Settings) -> None:
    """It was answered before anything was sent, so nothing was; then the answer is removed."""
    async with watching(settings, escalate_minutes="0") as watch:
        rid = watch.customer(10)
        watch.go_to(620)
        await watch.sync()
        await watch.look()
        watch.say(rid, "agent", 621)
        watch.go_to(625)
        await watch.sync()
        await watch.look()
        await watch.send()
        assert watch.post.sent == []
        await watch.deps.database["messages"].update_one(
            {"conversationId": rid, "sender": "agent"}, {"$set": {"isRemoved": True}}
        )
        await settle(watch.deps.conversations, watch.deps.messages, rid)
        await watch.look(700)
        await watch.send()
        assert len(watch.post.to("telegram:-1")) == 1


async def test_a_message_that_may_have_come_stays_a_repeat_however_often_it_fails(settings: Settings) -> None:
    async with watching(settings) as watch:
        watch.customer(10)
        watch.post.faults["telegram:-1"] = [Unsure("cut off"), Transient("busy")]
        watch.go_to(620)
        await watch.sync()
        await watch.look()
        for _ in range(2):
            with pytest.raises(Transient):
                await send_all(watch.deps, "telegram:-1", is_last_try=False)
        await send_all(watch.deps, "telegram:-1", is_last_try=False)
        assert [note.is_repeat for note in watch.post.to("telegram:-1")] == [True]


async def test_nobody_hears_of_the_end_of_what_they_were_never_told(settings: Settings) -> None:
    async with watching(settings) as watch:
        rid = watch.customer(10)
        watch.post.faults["telegram:-1"] = [Transient("busy")]
        await watch.told(620)
        watch.say(rid, "agent", 630)
        assert await watch.told(640) == []


async def test_a_worker_that_read_before_the_answer_came_tells_nothing_after_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has read who is due; then the answer is synced, and another worker ends the alert."""
    async with watching(settings) as watch:
        rid = watch.customer(10)
        await watch.told(620)
        watch.go_to(1_830)
        await watch.sync()
        real = plan.steps_left

        def slow(*args: Any) -> Any:
            monkeypatch.setattr(monitor, "steps_left", real)
            watch.deps.database.delegate["conversations"].update_one(
                {"conversationId": rid}, {"$set": {"awaitingReplySince": None, "awaitingMessageId": None}}
            )
            return real(*args)

        monkeypatch.setattr(monitor, "steps_left", slow)
        assert (await watch.look()).told == 0
        assert await states(watch) == {f"{rid}|breach": "sent"}


async def test_a_page_of_hundreds_reaches_a_webhook_whole_and_a_repeat_is_no_failure(settings: Settings) -> None:
    async with watching(with_webhooks(settings), to="webhook:m1") as watch:
        await endpoints.add(watch.deps, merchant_id="m1", url="http://127.0.0.1:9/x")
        for number in range(520):
            watch.customer(1 + number * 0.1)
        watch.go_to(700)
        await watch.sync()
        await watch.look()
        parcel = await watch.deps.outbox.begin("webhook:m1", "msg_1", watch.deps.now())
        assert parcel is not None
        await send_all(watch.deps, "webhook:m1", is_last_try=True)
        await watch.deps.database["alert_messages"].update_one({"_id": "msg_1"}, {"$set": {"heldUntil": 0.0}})
        await send_all(watch.deps, "webhook:m1", is_last_try=True)
        items = watch.deps.database["alert_items"]
        assert await items.count_documents({"to": "webhook:m1", "state": "sent"}) == 520
        again = {"isUnfinished": True, "heldUntil": 0.0, "state": "sending"}
        await watch.deps.database["alert_messages"].update_one({"_id": "msg_1"}, {"$set": again})
        await items.update_many({"messageId": "msg_1"}, {"$set": {"state": "taken"}})
        watch.go_to(800)
        await send_all(watch.deps, "webhook:m1", is_last_try=True)
        assert await items.count_documents({"to": "webhook:m1", "state": "sent"}) == 520
        assert not await watch.deps.alerts.by_key(["channel:webhook:m1"])
