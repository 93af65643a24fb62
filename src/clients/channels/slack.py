"""Slack's incoming webhooks (api.slack.com/messaging/webhooks): one address a channel, which is a secret as a whole.

Limit (api.slack.com/docs/rate-limits): one message a second to a webhook, short bursts allowed. The answer to a message
is `ok`, without an id; there is no way to ask whether a webhook still lives but to use it.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from pydantic import SecretStr

from ...errors import Permanent
from ...settings.channels import ChannelSettings
from .calls import Caller
from .note import Note
from .pace import Limit, Pace
from .wording import clean, cut, links_of, plain, title_of

LONGEST_BLOCK, LONGEST_HEADER, LONGEST_TEXT = 3000, 150, 4000  # characters, as escaped
HOW = "ALERT_SLACK_WEBHOOKS=<name>=https://hooks.slack.com/services/..."
_ADVICE = {
    "no_service": "the webhook was revoked or is switched off: make a new one",
    "no_team": "the workspace is gone",
    "team_disabled": "the workspace is gone",
    "invalid_token": "the webhook's address is not whole, or was revoked: make a new one",
    "channel_not_found": "the channel is gone: make a webhook for another one",
    "channel_is_archived": "the channel is archived: make a webhook for another one",
    "action_prohibited": "the workspace does not let this webhook post: ask its administrator",
    "posting_to_general_channel_denied": "the workspace does not let this webhook post there",
}


class Slack:
    """Sends to the channels whose webhooks are set."""

    def __init__(self, settings: ChannelSettings, caller: Caller) -> None:
        self._webhooks: Mapping[str, SecretStr] = settings.slack_webhooks
        self._caller = caller
        self._pace = Pace("Slack", settings.channel_timeout_seconds)

    def missing(self, target: str) -> str | None:
        """None where there is a webhook of that name."""
        return None if target in self._webhooks else f"no webhook of the name {target}: set {HOW}"

    async def send(self, target: str, note: Note) -> str | None:
        """Post it; Slack gives no id."""
        await self._pace.turn(Limit(target, 1, 1))
        answer = await self._caller.post(self._webhooks[target].get_secret_value(), json=_payload(note))
        said = answer.text.strip()
        if answer.status == 200 and said == "ok":
            return None
        if answer.status == 429:
            self._pace.hold(target, answer.retry_after_s)
        self._caller.judge(answer, f"is {HOW} right for {target}?")
        word = said if said.replace("_", "").isalpha() and len(said) < 50 else "no reason given"  # else a web page
        advice = _ADVICE.get(word, f"is {HOW} right for {target}?")
        raise Permanent(f"Slack: refused by webhook {target} ({answer.status}: {word}); {advice}")

    async def check(self) -> tuple[bool, str] | None:
        """A webhook cannot be asked."""
        if not self._webhooks:
            return None
        return True, f"{len(self._webhooks)} webhooks set, not checkable without a message: {', '.join(self._webhooks)}"


def _payload(note: Note) -> dict[str, Any]:
    text = cut(clean(note.text), LONGEST_BLOCK, _size)
    blocks = [{"type": "header", "text": {"type": "plain_text", "text": cut(title_of(note), LONGEST_HEADER)}}]
    if text:
        blocks.append(_section(_escaped(text)))
    links = [f"<{_url(url)}|{_escaped(label).replace('|', '¦')}>" for label, url in links_of(note)]
    while len("\n".join(links)) > LONGEST_BLOCK:
        links.pop()
    if links:
        blocks.append(_section("\n".join(links)))
    # what notifications and old clients show
    return {"text": _escaped(cut(plain(note, LONGEST_TEXT), LONGEST_TEXT, _size)), "blocks": blocks}


def _section(text: str) -> dict[str, Any]:
    # verbatim: names in a customer's words are not to become mentions of channels or people
    return {"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": True}}


def _escaped(text: str) -> str:
    """The three characters Slack wants escaped (api.slack.com/reference/surfaces/formatting)."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _size(text: str) -> int:
    return len(_escaped(text))


def _url(url: str) -> str:
    return quote(url, safe="/:?#[]@!$&'()*+,;=%~._-").replace("&", "&amp;")
