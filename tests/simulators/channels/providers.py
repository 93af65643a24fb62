"""Telegram, Slack and Zalo, as far as we use them: their answers, their limits, their ways to refuse."""

import json
import re
from dataclasses import dataclass, field
from html import unescape
from typing import Any

from aiohttp import web

from tests.simulators.channels.provider import Call, Provider

TAGS = re.compile(r'</?b>|<a href="[^"<>]*">|</a>')


def fault(status: int, description: str, **parameters: Any) -> web.Response:
    """A refusal as Telegram words it."""
    body = {"ok": False, "error_code": status, "description": description}
    return web.json_response({**body, "parameters": parameters} if parameters else body, status=status)


class TelegramServer(Provider):
    """One bot. `chats` it may write to; `moved`: groups that became supergroups; `refusals`: chat -> what it says."""

    def __init__(self, token: str = "123456:" + "T" * 35) -> None:
        super().__init__()
        self.token = token
        self.chats = {"-1001", "42"}
        self.topics = {("-1001", 7)}
        self.moved: dict[str, int] = {}
        self.refusals: dict[str, tuple[int, str]] = {}
        self.updates: list[dict[str, Any]] = []
        self.messages: list[dict[str, Any]] = []

    def answer(self, call: Call) -> web.Response:
        """Dispatch by method."""
        _, bot, method = call.path.split("/")
        if bot != f"bot{self.token}":
            return fault(401, "Unauthorized")
        if method == "getMe":
            return web.json_response({"ok": True, "result": {"id": 123456, "is_bot": True, "username": "shop_bot"}})
        if method == "getUpdates":
            return web.json_response({"ok": True, "result": self.updates})
        return self._send(call.body)

    def _send(self, body: dict[str, Any]) -> web.Response:
        chat, topic = str(body["chat_id"]), body.get("message_thread_id")
        if chat in self.moved:
            text = "Bad Request: group chat was upgraded to a supergroup chat"
            return fault(400, text, migrate_to_chat_id=self.moved[chat])
        if chat in self.refusals:
            return fault(*self.refusals[chat])
        if chat not in self.chats:
            return fault(400, "Bad Request: chat not found")
        if topic is not None and (chat, topic) not in self.topics:
            return fault(400, "Bad Request: message thread not found")
        bare = TAGS.sub("", body["text"])
        if "<" in bare or ">" in bare or re.search(r"&(?!(amp|lt|gt|quot|#\d+|#x[0-9a-f]+);)", bare):
            return fault(400, "Bad Request: can't parse entities")
        shown = unescape(bare)
        if not shown or len(shown.encode("utf-16-le")) // 2 > 4096:
            return fault(400, "Bad Request: message is too long" if shown else "Bad Request: message text is empty")
        self.messages.append({**body, "shown": shown})
        return web.json_response({"ok": True, "result": {"message_id": len(self.messages), "chat": {"id": chat}}})


class SlackServer(Provider):
    """A workspace. `states`: path -> (status, word) of webhooks that do not work."""

    def __init__(self) -> None:
        super().__init__()
        self.states: dict[str, tuple[int, str]] = {}
        self.messages: list[dict[str, Any]] = []

    def hook(self, name: str) -> str:
        """The address of a webhook."""
        return f"{self.url}/services/T000/B000/{name}"

    def answer(self, call: Call) -> web.Response:
        """Takes it, if its blocks are as Slack wants them."""
        status, word = self.states.get(call.path, (200, "ok"))
        blocks = call.body.get("blocks", [])
        limits = {"header": 150, "section": 3000}
        if (
            any(not 0 < len(block["text"]["text"]) <= limits[block["type"]] for block in blocks)
            or not call.body["text"]
        ):
            status, word = 400, "invalid_blocks"
        if status == 200:
            self.messages.append(call.body)
        return web.Response(status=status, text=word)


@dataclass
class ZaloServer(Provider):
    """An Official Account with one app. Each refresh token is good for one renewal."""

    app_id: str = "1234567890"
    secret: str = "zalo-app-s3cret"
    refresh: str = "zalo-refresh-0"
    access: str = ""
    lifetime_s: int = 90_000
    renewals: int = 0
    refusals: dict[str, int] = field(default_factory=dict)  # user -> error
    messages: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def answer(self, call: Call) -> web.Response:
        """All but the gateway's own faults come as HTTP 200."""
        headers = {name.lower(): value for name, value in call.headers.items()}
        if call.path == "/v4/oa/access_token":
            return self._renew(call.body, headers)
        if headers.get("access_token") != self.access or not self.access:
            return web.json_response({"error": -216, "message": "Access token is invalid"})
        if call.path == "/v2.0/oa/getoa":
            return web.json_response({"error": 0, "message": "Success", "data": {"oa_id": "9", "name": "Shop"}})
        user, text = call.body["recipient"]["user_id"], call.body["message"]["text"]
        error = self.refusals.get(user, 0) or (-201 if len(text) > 2000 else 0)
        if error:
            return web.json_response({"error": error, "message": "not today"})
        self.messages.append(call.body)
        data = {"message_id": f"m{len(self.messages)}", "user_id": user}
        # Zalo answers JSON as text
        return web.Response(text=json.dumps({"error": 0, "message": "Success", "data": data}), content_type="text/json")

    def _renew(self, form: dict[str, Any], headers: dict[str, str]) -> web.Response:
        is_ours = form.get("app_id") == self.app_id and headers.get("secret_key") == self.secret
        if not is_ours or form.get("refresh_token") != self.refresh or form.get("grant_type") != "refresh_token":
            return web.json_response({"error_name": "Invalid refresh token", "error": -14014})
        self.renewals += 1
        self.refresh, self.access = f"zalo-refresh-{self.renewals}", f"zalo-access-{self.renewals}"
        body = {"access_token": self.access, "refresh_token": self.refresh, "expires_in": str(self.lifetime_s)}
        return web.json_response(body)
