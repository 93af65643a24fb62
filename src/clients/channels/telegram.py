"""Telegram's Bot API (core.telegram.org/bots/api): messages to people, groups, topics of groups, and channels.

Limits (core.telegram.org/bots/faq): one message a second to a chat, 20 a minute to a group, about 30 a second in all.
Telegram has no idempotency key: a message sent twice arrives twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from loguru import logger

from ...errors import Malformed, Permanent
from ...rules.redact import redact
from ...settings.channels import ChannelSettings
from .calls import Answer, Caller
from .note import Note, Unsure
from .pace import Limit, Pace
from .wording import clean, cut, links_of, title_of, utf16

LONGEST = 4096  # UTF-16 units; of the escaped text, which is never shorter than what Telegram counts
ALL = Limit("", 5, 0.25)  # 25 in the first second, 20 in each after
TRIES = 3  # of one message: where the group moved, and where its topic is gone
#: How Telegram words it -> what to do
_ADVICE = {
    "chat not found": "no such chat for this bot: add the bot to the group, or have the person press Start; "
    "`notify telegram-chats` lists the chats it knows",
    "bot was blocked": "the person blocked the bot",
    "bot was kicked": "the bot was removed from the group: add it again",
    "bot is not a member": "add the bot to the channel",
    "can't initiate": "the person has to press Start first",
    "deactivated": "the account or the group is gone",
    "not enough rights": "let the bot write there",
    "need administrator rights": "make the bot an administrator of the channel",
}
UNKNOWN_BOT = "Telegram knows no such bot: ALERT_TELEGRAM_TOKEN is to be what @BotFather gave"
SOME_TOPIC = ("thread not found", "topic_closed", "topic_deleted")


@dataclass(frozen=True, slots=True)
class Chat:
    """A chat the bot has seen, or a topic of one; `address` is what to write in a setting."""

    address: str
    kind: str
    name: str


class Telegram:
    """Sends by one bot."""

    def __init__(self, settings: ChannelSettings, caller: Caller) -> None:
        self._token = settings.telegram_token
        self._base_url = settings.telegram_base_url
        self._caller = caller
        self._pace = Pace("Telegram", settings.channel_timeout_seconds)
        self._moved: dict[str, str] = {}  # groups that became supergroups, as we learned since the start

    def missing(self, target: str) -> str | None:
        """None where there is a bot."""
        return None if self._token else "set ALERT_TELEGRAM_TOKEN to what @BotFather gave for the bot"

    async def send(self, target: str, note: Note) -> str | None:
        """Send it to `<chat>[/<topic>]`; returns the message's id.

        Follows a group that became a supergroup, and writes to the group itself where its topic is gone; both are
        told in the log, as the address should be changed.
        """
        chat, _, topic = target.partition("/")
        for _ in range(TRIES):
            chat = self._moved.get(chat, chat)
            answer = await self._send(chat, topic, note)
            new_chat = _parameters(answer).get("migrate_to_chat_id")
            if new_chat is not None:
                logger.warning("telegram group has a new id: change its address", chat=chat, now=str(new_chat))
                self._moved[chat] = str(new_chat)
            elif topic and any(sign in _said(answer).lower() for sign in SOME_TOPIC):
                logger.warning("telegram topic is gone: the message goes to the group itself", chat=chat, topic=topic)
                topic = ""
            else:
                return self._id_of(answer, chat)
        raise Permanent(f"Telegram: chat {chat} moves on with every answer")

    async def check(self) -> tuple[bool, str] | None:
        """Asks who the bot is (getMe)."""
        if self._token is None:
            return None
        bot = self._result(await self._call("getMe", {}))
        shown = f"bot @{clean(str(bot.get('username')))}"
        moved = "".join(f"; {old} is now {new}: change the address" for old, new in self._moved.items())
        return True, shown + moved

    async def chats(self) -> list[Chat]:
        """The chats and topics of the updates that wait for the bot (at most 24 h old, 100 of them); takes none away.

        Raises Permanent where another program reads the bot's updates.
        """
        if lacking := self.missing(""):
            raise Permanent(lacking)
        answer = await self._call("getUpdates", {"limit": 100})
        if answer.status == 409:
            raise Permanent("Telegram: another program reads this bot's updates, or it has a webhook: ask there")
        self._result(answer)
        updates = answer.json().get("result")
        return _chats_of(updates if isinstance(updates, list) else [])

    async def _send(self, chat: str, topic: str, note: Note) -> Answer:
        limits = [Limit(chat, 1, 1), ALL]
        if chat.startswith(("-", "@")):
            limits.insert(0, Limit(f"group {chat}", 5, 20))  # 20 in the first minute, 15 in each after
        await self._pace.turn(*limits)
        arguments: dict[str, Any] = {
            "chat_id": chat,
            "text": _text(note),
            "parse_mode": "HTML",
            "link_preview_options": {"is_disabled": True},
            "disable_notification": note.severity == "info",
        }
        if topic:
            arguments["message_thread_id"] = int(topic)
        answer = await self._call("sendMessage", arguments)
        wait_s = _parameters(answer).get("retry_after")
        if answer.status == 429:
            wait_s = float(wait_s) if isinstance(wait_s, int | float) else answer.retry_after_s
            self._pace.hold(chat, wait_s)
            raise self._caller.too_many(wait_s)
        return answer

    async def _call(self, method: str, arguments: Mapping[str, Any]) -> Answer:
        token = self._token.get_secret_value() if self._token else ""
        url = f"{self._base_url}/bot{token}/{method}"
        return await self._caller.post(url, json=arguments, is_message=method == "sendMessage")

    def _id_of(self, answer: Answer, chat: str) -> str | None:
        if answer.status == 200 and "ok" not in answer.json():
            raise Unsure("Telegram: its answer to the message cannot be read; is ALERT_TELEGRAM_BASE_URL right?")
        message_id = self._result(answer, chat).get("message_id")
        return None if message_id is None else str(message_id)

    def _result(self, answer: Answer, chat: str = "") -> dict[str, Any]:
        """Raises Transient or Permanent where the answer is none of success."""
        body = answer.json()
        if answer.status == 200 and body.get("ok") is True:
            result = body.get("result")
            return result if isinstance(result, dict) else {}
        self._caller.judge(answer, "check ALERT_TELEGRAM_BASE_URL")
        said = self._without_token(_said(answer))
        if answer.status in (401, 404):  # 404 is what a token of the wrong form gets
            raise Permanent(UNKNOWN_BOT)
        if answer.status == 200:
            raise Malformed("Telegram: its answer cannot be read; is ALERT_TELEGRAM_BASE_URL right?")
        advice = next((advice for sign, advice in _ADVICE.items() if sign in said.lower()), "")
        where = f" by chat {chat}" if chat else ""
        raise Permanent(f"Telegram: refused{where} ({answer.status}: {said})" + (f"; {advice}" if advice else ""))

    def _without_token(self, text: str) -> str:
        return redact(text.replace(self._token.get_secret_value(), "***") if self._token else text)


def _parameters(answer: Answer) -> dict[str, Any]:
    found = answer.json().get("parameters") if answer.status >= 400 else None
    return found if isinstance(found, dict) else {}


def _said(answer: Answer) -> str:
    """Telegram's own words, which name no content of the message."""
    return cut(" ".join(clean(str(answer.json().get("description") or "no reason given")).split()), 120)


def _text(note: Note) -> str:
    def size(text: str) -> int:
        return utf16(escape(text, quote=False))

    head = title_of(note)
    links = [f'<a href="{escape(url)}">{escape(label)}</a>' for label, url in links_of(note)]
    while links and utf16("\n".join(links)) > LONGEST // 2:
        links.pop()
    tail = "\n".join(links)
    # the text is cut before it is escaped, so that no entity is cut in two
    room = LONGEST - size(head) - utf16(tail) - len("<b></b>\n\n\n")
    text = cut(clean(note.text), room, size)
    return "\n".join(
        part
        for part in (f"<b>{escape(head, quote=False)}</b>", escape(text, quote=False), tail and f"\n{tail}")
        if part
    )


def _chats_of(updates: list[Any]) -> list[Chat]:
    found: dict[str, Chat] = {}
    for update in updates:
        for event in update.values() if isinstance(update, dict) else ():
            chat = event.get("chat") if isinstance(event, dict) else None
            if not isinstance(chat, dict) or "id" not in chat:
                continue
            name = chat.get("title") or " ".join(filter(None, (chat.get("first_name"), chat.get("last_name"))))
            username = f" (@{chat['username']})" if chat.get("username") else ""
            whole = Chat(f"telegram:{chat['id']}", str(chat.get("type")), f"{name}{username}".strip())
            found.setdefault(whole.address, whole)
            if event.get("is_topic_message") and event.get("message_thread_id"):
                topic = f"{whole.address}/{event['message_thread_id']}"
                found.setdefault(topic, Chat(topic, "topic", f"{whole.name}: {_topic_name(event)}"))
    return list(found.values())


def _topic_name(message: dict[str, Any]) -> str:
    for part in (message, message.get("reply_to_message")):
        made = part.get("forum_topic_created") if isinstance(part, dict) else None
        if isinstance(made, dict) and made.get("name"):
            return str(made["name"])
    return f"topic {message['message_thread_id']}"
