"""Zalo: its tokens survive whatever happens to the worker that renews them, and each refusal says what to do."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import SecretStr

from src.clients.channels import Channels, Note, Unsure, open_channels
from src.errors import Permanent, Transient
from src.rules.recipients import recipient_of
from src.rules.vault import Vault, new_key
from src.settings import ChannelSettings
from tests.simulators.channels import Fault, ZaloServer, running

pytestmark = pytest.mark.anyio
STAFF = recipient_of("zalo:1234567890123")
NOTE = Note("n1", "Khách chờ 31 phút", "Phụ trách: An", link="https://pancake.test/1")
NOW = 1_790_000_000.0


class Shelf:
    """One place for all workers of a test."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Any]] = {}
        self._lock = asyncio.Lock()

    async def load(self, name: str) -> Mapping[str, Any] | None:
        return self.kept.get(name)

    async def save(self, name: str, fields: Mapping[str, Any]) -> None:
        self.kept[name] = dict(fields)

    def lock(self, name: str) -> asyncio.Lock:
        return self._lock


@pytest.fixture
async def zalo() -> AsyncIterator[ZaloServer]:
    async with running(ZaloServer()) as server:
        yield server


@asynccontextmanager
async def worker(zalo: ZaloServer, shelf: Shelf | None, **changed: Any) -> AsyncIterator[Channels]:
    """One worker's channels. `now`: Unix seconds."""
    now, vault = changed.pop("now", NOW), changed.pop("vault", None)
    settings = ChannelSettings(
        **{
            "zalo_app_id": zalo.app_id,
            "zalo_app_secret": SecretStr(zalo.secret),
            "zalo_refresh_token": SecretStr("zalo-refresh-0"),
            "zalo_base_url": zalo.url,
            "zalo_oauth_url": zalo.url,
            **changed,
        }
    )
    async with open_channels(settings, shelf=shelf, vault=vault, now=lambda: now) as channels:
        yield channels


async def test_a_note_arrives(zalo: ZaloServer) -> None:
    """As plain text, cut to what Zalo takes; the id comes back."""
    async with worker(zalo, Shelf()) as channels:
        assert await channels.send(STAFF, NOTE) == "m1"
        await channels.send(STAFF, Note("n2", "t", "x" * 5000, link="https://pancake.test/1"))
        assert await channels.check() == [("zalo", True, "account Shop")]
    first, second = (message["message"]["text"] for message in zalo.messages)
    assert first == "Khách chờ 31 phút\nPhụ trách: An\n\nhttps://pancake.test/1"
    assert second.endswith("x…\n\nhttps://pancake.test/1")
    assert zalo.messages[0]["recipient"] == {"user_id": STAFF.target}


async def test_many_workers_renew_once(zalo: ZaloServer) -> None:
    """A refresh token is good for one renewal, so who comes second takes what the first one got."""
    shelf = Shelf()
    async with worker(zalo, shelf) as one, worker(zalo, shelf) as two:
        await asyncio.gather(*(channels.send(STAFF, NOTE) for channels in (one, two)))
    async with worker(zalo, shelf) as later:
        await later.send(STAFF, NOTE)
    assert (zalo.renewals, len(zalo.messages)) == (1, 3)


async def test_tokens_are_renewed_before_they_run_out(zalo: ZaloServer) -> None:
    """With the refresh token of the last renewal, not the one in the settings."""
    shelf = Shelf()
    for day in range(3):
        async with worker(zalo, shelf, now=NOW + day * 90_000) as channels:
            await channels.send(STAFF, NOTE)
    assert zalo.renewals == 3


async def test_a_token_refused_early_is_renewed_at_once(zalo: ZaloServer) -> None:
    """An administrator may end it at any time."""
    async with worker(zalo, Shelf()) as channels:
        await channels.send(STAFF, NOTE)
        zalo.access = "another"
        await channels.send(STAFF, NOTE)
    assert (zalo.renewals, len(zalo.messages)) == (2, 2)


async def test_a_send_cut_short_does_not_lose_the_new_tokens(zalo: ZaloServer) -> None:
    """The answer to a renewal is the only place the next refresh token stands in."""
    shelf = Shelf()
    async with worker(zalo, shelf) as channels:
        sending = asyncio.create_task(channels.send(STAFF, NOTE))
        await zalo.called.wait()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    async with worker(zalo, shelf) as channels:
        await channels.send(STAFF, NOTE)
    assert (zalo.renewals, len(zalo.messages)) == (1, 1)


async def test_a_database_that_is_away_does_not_lose_them_either(zalo: ZaloServer) -> None:
    """Who renewed keeps them until they can be kept, at the latest when it ends."""

    class Away(Shelf):
        is_away = True

        async def save(self, name: str, fields: Mapping[str, Any]) -> None:
            if self.is_away:
                raise ConnectionError
            await super().save(name, fields)

    shelf = Away()
    async with worker(zalo, shelf) as channels:
        for _ in range(2):
            with pytest.raises(ConnectionError):
                await channels.send(STAFF, NOTE)
        shelf.is_away = False
    async with worker(zalo, shelf) as channels:
        await channels.send(STAFF, NOTE)
    assert (zalo.renewals, len(zalo.messages)) == (1, 1)


async def test_a_new_grant_in_the_settings_replaces_what_is_stored(zalo: ZaloServer) -> None:
    """It is what the operator was told to do when the old one was lost."""
    shelf = Shelf()
    async with worker(zalo, shelf) as channels:
        await channels.send(STAFF, NOTE)
    zalo.refresh, zalo.access = "granted-anew", "gone"
    async with worker(zalo, shelf) as channels:
        with pytest.raises(Permanent, match="ALERT_ZALO_REFRESH_TOKEN"):
            await channels.send(STAFF, NOTE)
    async with worker(zalo, shelf, zalo_refresh_token=SecretStr("granted-anew")) as channels:
        await channels.send(STAFF, NOTE)


async def test_tokens_are_sealed_where_there_is_a_key(zalo: ZaloServer) -> None:
    """Who reads the database cannot write to customers."""
    shelf, vault = Shelf(), Vault([new_key(bytes(32))])
    for _ in range(2):
        async with worker(zalo, shelf, vault=vault) as channels:
            await channels.send(STAFF, NOTE)
    kept = shelf.kept[f"zalo:{zalo.app_id}"]
    assert "zalo-" not in f"{kept['accessToken']}{kept['refreshToken']}"
    assert zalo.renewals == 1


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (-213, Permanent, "does not follow"),
        (-230, Permanent, "7 days"),
        (-32, Transient, "too many"),
        (-211, Transient, "used up"),
        (-999, Permanent, "-999.*not today"),
    ],
    ids=["stranger", "silent", "fast", "quota", "unknown"],
)
async def test_a_refusal_says_what_to_do(zalo: ZaloServer, error: int, kind: type[Exception], words: str) -> None:
    """All of them come as HTTP 200."""
    zalo.refusals[STAFF.target] = error
    async with worker(zalo, Shelf()) as channels:
        with pytest.raises(kind, match=words):
            await channels.send(STAFF, NOTE)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault(silence="hang"), Unsure),
        (Fault(silence="cut"), Unsure),
        (Fault(200, b"<html>"), Unsure),
        (Fault(500), Transient),
        (Fault(429, headers={"Retry-After": "3"}), Transient),
    ],
    ids=["hang", "cut", "web page", "500", "429"],
)
async def test_a_failure_that_passes_is_tried_again(zalo: ZaloServer, fault: Fault, kind: type[Exception]) -> None:
    """What may have arrived is told apart."""
    soon = {"channel_timeout_seconds": 0.3} if fault.silence == "hang" else {}
    async with worker(zalo, Shelf(), **soon) as channels:
        await channels.check()  # which renews the tokens
        zalo.fail(fault)
        with pytest.raises(kind) as caught:
            await channels.send(STAFF, NOTE)
    assert type(caught.value) is kind


async def test_a_renewal_that_fails_is_no_message_in_doubt(zalo: ZaloServer) -> None:
    """Nothing was sent yet."""
    zalo.fail(Fault(silence="hang"))
    async with worker(zalo, Shelf(), channel_timeout_seconds=0.3) as channels:
        with pytest.raises(Transient) as caught:
            await channels.send(STAFF, NOTE)
    assert not isinstance(caught.value, Unsure)


async def test_without_a_place_for_tokens_nothing_is_renewed(zalo: ZaloServer) -> None:
    """A renewal that nobody keeps would burn the grant."""
    async with worker(zalo, None) as channels:
        assert "database" in (channels.configured(STAFF) or "")
        with pytest.raises(Permanent, match="database"):
            await channels.send(STAFF, NOTE)
        assert [is_ok for _, is_ok, _ in await channels.check()] == [False]
    assert zalo.calls == []
