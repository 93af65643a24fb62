"""Messages of a Zalo Official Account to its followers (developers.zalo.me, Official Account API v3.0).

Written from public documents and from what others report of its answers; a local server stands in for it in the tests,
and no call was made to Zalo itself. What to know before relying on it: a person can be written to only within seven
days of having written to the account last (error -230), beyond 48 hours against payment, so staff who are to be told
this way have to write to the account now and then. User ids are those of this account, not phone numbers.

Of the error codes below -201, -213, -216 and -230 are reported by several users of the API; -32, -124 and -211 are not.
"""

import re

from ...errors import Malformed, Permanent, Transient
from ...rules.redact import HIDDEN, redact
from ...settings.channels import ChannelSettings
from .calls import Answer, Caller
from .note import Note, Unsure
from .pace import Limit, Pace
from .wording import clean, cut, plain
from .zalo_tokens import ZaloTokens

LONGEST = 2000  # characters
ALL = Limit("", 5, 1)
REFUSED_TOKENS = (-216, -124)  # the second is that of older calls
TOO_FAST, OUT_OF_QUOTA = -32, -211
QUOTA_S = 3600.0
_ADVICE = {
    -201: "the message or the user id is not as Zalo wants it",
    -213: "the person does not follow the account, or has not written to it lately",
    -230: "the person has not written to the account for 7 days: have them write to it",
}
_LONG_WORD = re.compile(r"\S{25,}")  # what may be a token, in words that are not ours


class Zalo:
    """Sends by one Official Account."""

    def __init__(self, settings: ChannelSettings, caller: Caller, tokens: ZaloTokens | None) -> None:
        self._settings = settings
        self._caller = caller
        self._tokens = tokens
        self._pace = Pace("Zalo", settings.channel_timeout_seconds)

    def missing(self, target: str) -> str | None:
        """None where there is an app with a grant, and a place to keep its tokens."""
        unset = [
            f"ALERT_ZALO_{name.upper()}"
            for name in ("app_id", "app_secret", "refresh_token")
            if not getattr(self._settings, f"zalo_{name}")
        ]
        if unset:
            return f"set {', '.join(unset)}"
        return None if self._tokens else "Zalo's tokens have no place to be kept: this needs the database"

    async def send(self, target: str, note: Note) -> str | None:
        """Send it as a consultation message (message/cs); returns Zalo's id of it."""
        body = {"recipient": {"user_id": target}, "message": {"text": plain(note, LONGEST)}}
        await self._pace.turn(ALL)
        answer = await self._authorised("POST", "/v3.0/oa/message/cs", body)
        if answer.status == 200 and "error" not in answer.json():
            raise Unsure("Zalo: it took the message, but its answer cannot be read; is ALERT_ZALO_BASE_URL right?")
        found = self._data(answer).get("message_id")
        return None if found is None else str(found)

    async def check(self) -> tuple[bool, str] | None:
        """Asks for the account's profile (getoa), with a renewed token where the old one ran out."""
        if not (self._settings.zalo_app_id and self._settings.zalo_refresh_token):
            return None
        if lacking := self.missing(""):
            return False, lacking
        data = self._data(await self._authorised("GET", "/v2.0/oa/getoa", None))
        return True, f"account {data.get('name', data.get('oa_id', 'without a name'))}"

    async def aclose(self) -> None:
        """Wait for a renewal of the tokens that is under way."""
        if self._tokens:
            await self._tokens.aclose()

    async def _authorised(self, method: str, path: str, body: object) -> Answer:
        """With another token where the first is refused: another worker may have renewed it meanwhile."""
        if self._tokens is None:
            raise Permanent(f"Zalo: {self.missing('')}")
        token, url = await self._tokens.current(), self._settings.zalo_base_url + path
        for is_last in (False, True):
            headers = {"access_token": token}
            if method == "POST":
                answer = await self._caller.post(url, json=body, headers=headers)
            else:
                answer = await self._caller.get(url, headers=headers)
            if is_last or answer.json().get("error") not in REFUSED_TOKENS:
                return answer
            token = await self._tokens.current(refused=token)
        raise AssertionError("unreachable")

    def _data(self, answer: Answer) -> dict[str, object]:
        """Raises Transient or Permanent where the answer is none of success: failures come as HTTP 200 as well."""
        self._caller.judge(answer, "check ALERT_ZALO_BASE_URL")
        body = answer.json()
        code = body.get("error")
        if code == 0:
            data = body.get("data")
            return data if isinstance(data, dict) else {}
        if not isinstance(code, int):
            raise Malformed(f"Zalo: its answer cannot be read ({answer.status}); is ALERT_ZALO_BASE_URL right?")
        if code == TOO_FAST:
            self._pace.hold("", 1.0)
            raise Transient(f"Zalo: too many messages (error {code})")
        if code == OUT_OF_QUOTA:
            raise Transient(
                f"Zalo: the account's messages of this time are used up (error {code})", retry_after_s=QUOTA_S
            )
        if code in REFUSED_TOKENS:
            raise Permanent(f"Zalo: a token just renewed was refused (error {code}): has the app the right to send?")
        raise Permanent(f"Zalo: refused (error {code}); {_ADVICE.get(code) or self._said(body)}")

    def _said(self, body: dict[str, object]) -> str:
        """Zalo's own words, without what may be a secret."""
        words = _LONG_WORD.sub(HIDDEN, " ".join(clean(str(body.get("message", ""))).split()))
        if secret := self._settings.zalo_app_secret:
            words = words.replace(secret.get_secret_value(), HIDDEN)
        return cut(redact(words), 100) or "no reason given"
