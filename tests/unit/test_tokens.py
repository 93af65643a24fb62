"""Which page token is used. Minting kills the token everybody else uses, so it must be the last thing tried, once."""

import asyncio
from contextlib import AbstractAsyncContextManager

import pytest
from pydantic import SecretStr

from src.clients.pancake.tokens import PageTokens
from src.errors import TokenRejected

pytestmark = pytest.mark.anyio

PAGE = "100"


class Vendor:
    """Pancake and what all processes share: the store, the lock, the list of pages, the mint."""

    def __init__(self, *, stored: str | None = None, listed: str | None = None) -> None:
        self.stored = {PAGE: stored} if stored else {}
        self.list = listed
        self.valid = ""
        self.asked: list[str] = []
        self.minted: list[str] = []
        self._locks: dict[str, asyncio.Lock] = {}

    async def token(self, page_id: str) -> str | None:
        self.asked.append("store")
        await asyncio.sleep(0)
        return self.stored.get(page_id)

    async def save_token(self, page_id: str, token: str) -> None:
        await asyncio.sleep(0)
        self.stored[page_id] = token

    async def listed(self, page_id: str) -> str | None:
        self.asked.append("list")
        await asyncio.sleep(0)
        return self.list

    async def mint(self, page_id: str) -> str:
        self.asked.append("mint")
        self.valid = f"minted-{len(self.minted) + 1}"
        self.minted.append(self.valid)
        await asyncio.sleep(0)
        return self.valid

    def lock(self, page_id: str) -> AbstractAsyncContextManager[object]:
        return self._locks.setdefault(page_id, asyncio.Lock())

    def process(self, given: str | None = None, *, lists: bool = True, mints: bool = False) -> PageTokens:
        """The tokens of one more process."""
        settings = {PAGE: SecretStr(given)} if given else {}
        return PageTokens(
            settings, self, listed=self.listed if lists else None, mint=self.mint if mints else None, lock=self.lock
        )


async def used(tokens: PageTokens, *refused: str) -> str:
    """The token a call ends up with when Pancake refuses `refused`, one after the other."""
    token = await tokens.current(PAGE)
    while token in refused:
        token = await tokens.after_refusal(PAGE, token)
    return token


@pytest.mark.parametrize(
    ("refused", "token", "asked"),
    [
        ((), "given", []),
        (("given",), "stored", ["store"]),
        (("given", "stored"), "listed", ["store", "store", "list"]),
        (("given", "stored", "listed"), "minted-1", ["store", "store", "list", "store", "list", "store", "mint"]),
    ],
    ids=["settings", "store", "list", "mint"],
)
async def test_the_cheapest_source_comes_first(refused: tuple[str, ...], token: str, asked: list[str]) -> None:
    """Settings, store, list of pages, and only when all of them were refused a new token."""
    vendor = Vendor(stored="stored", listed="listed")
    assert await used(vendor.process("given", mints=True), *refused) == token
    assert [what for what in vendor.asked if what != "store"] == [what for what in asked if what != "store"]
    assert vendor.minted == (["minted-1"] if token == "minted-1" else [])


async def test_a_working_token_is_not_looked_up_again() -> None:
    """Each call of a busy page costs no look into the store."""
    vendor = Vendor(stored="stored")
    tokens = vendor.process()
    assert [await tokens.current(PAGE) for _ in range(5)] == ["stored"] * 5
    assert vendor.asked == ["store"]


async def test_a_token_another_process_stored_is_taken_and_none_is_made() -> None:
    """After 105 the store is read again: whoever replaced the token has left the new one there."""
    vendor = Vendor(stored="old")
    tokens = vendor.process(mints=True)
    assert await tokens.current(PAGE) == "old"
    vendor.stored[PAGE] = "replaced"
    assert await tokens.after_refusal(PAGE, "old") == "replaced"
    assert vendor.minted == []


@pytest.mark.parametrize("source", ["list", "mint"])
async def test_a_found_token_is_stored_for_the_others(source: str) -> None:
    """Another process gets it from the store, and a restart does too."""
    vendor = Vendor(listed="listed" if source == "list" else None)
    token = await vendor.process(mints=True).current(PAGE)
    assert vendor.stored[PAGE] == token
    assert await vendor.process(lists=False).current(PAGE) == token


async def test_concurrent_refusals_in_two_processes_make_one_token() -> None:
    """Ten calls of two processes meet 105 at once: one mints, all go on with what it made."""
    vendor = Vendor(stored="old")
    processes = [vendor.process(mints=True), vendor.process("old", mints=True)]
    assert {await tokens.current(PAGE) for tokens in processes} == {"old"}
    found = await asyncio.gather(*(tokens.after_refusal(PAGE, "old") for tokens in processes for _ in range(5)))
    assert vendor.minted == ["minted-1"]
    assert set(found) == {"minted-1"}
    assert vendor.stored[PAGE] == "minted-1"


async def test_a_late_refusal_of_the_old_token_makes_no_second_one() -> None:
    """A slow call paced by the old token learns of its refusal long after the others went on."""
    vendor = Vendor(stored="old")
    tokens = vendor.process(mints=True)
    await tokens.current(PAGE)
    assert await tokens.after_refusal(PAGE, "old") == "minted-1"
    assert await tokens.after_refusal(PAGE, "old") == "minted-1"
    assert vendor.minted == ["minted-1"]


async def test_a_process_with_a_dead_token_in_its_settings_takes_the_stored_one() -> None:
    """A restart with yesterday's PANCAKE_PAGE_TOKENS must not kill the token that was minted since."""
    vendor = Vendor(stored="minted-by-another")
    assert await used(vendor.process("yesterday", mints=True), "yesterday") == "minted-by-another"
    assert vendor.minted == []


@pytest.mark.parametrize(
    ("stored", "state"), [("old", "was refused"), (None, "is not known")], ids=["refused", "never known"]
)
async def test_where_minting_is_not_allowed_the_error_says_what_to_do(stored: str | None, state: str) -> None:
    """No token is made behind the shop's back; the person reads which page, and both ways out."""
    vendor = Vendor(stored=stored)
    with pytest.raises(TokenRejected) as caught:
        await used(vendor.process(), "old")
    text = str(caught.value)
    assert f"page {PAGE}: its token {state}" in text
    assert "PANCAKE_PAGE_TOKENS" in text
    assert "PANCAKE_ALLOW_TOKEN_MINTING" in text
    assert "old" not in text
    assert vendor.minted == []


async def test_a_token_that_was_put_back_is_tried_again() -> None:
    """A worker lives for months; a refusal is not held against a token for ever."""
    vendor = Vendor(stored="good")
    tokens = vendor.process()
    with pytest.raises(TokenRejected):
        await used(tokens, "good")
    assert await tokens.current(PAGE) == "good"


async def test_pages_do_not_share_their_tokens() -> None:
    """A refusal concerns one page."""
    vendor = Vendor(stored="first")
    vendor.stored["200"] = "first"
    tokens = vendor.process()
    with pytest.raises(TokenRejected):
        await used(tokens, "first")
    assert await tokens.current("200") == "first"
