"""Settings: what a person sets is what we run with, and what is wrong is said at once, all of it, without a secret."""

import os
from pathlib import Path
from typing import Any

import pytest

from src.errors import Misuse
from src.settings import Settings, load_settings

SECRET = "hunter2-0f-n0body"


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("REDIS_", "MONGODB_")) or name in ("TIMEZONE", "ENVIRONMENT", "SERVICE_NAME_WORKER"):
            monkeypatch.delenv(name)


def load(monkeypatch: pytest.MonkeyPatch, env_file: Path | None = None, /, **variables: str) -> Settings:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return load_settings(env_file)


def faults(monkeypatch: pytest.MonkeyPatch, **variables: str) -> list[str]:
    with pytest.raises(Misuse) as caught:
        load(monkeypatch, **variables)
    return str(caught.value).splitlines()


def in_the_open(settings: Settings) -> str:
    """Everything a careless print of the settings would show."""
    return repr(vars(settings)) + str(vars(settings)) + repr(settings)


@pytest.mark.parametrize(
    ("group", "defaults"),
    [
        (
            "service",
            {
                "service_name_worker": "folkform-worker",
                "environment": "development",
                "timezone": "Asia/Ho_Chi_Minh",
                "log_level": "INFO",
                "log_format": None,
                "log_dir": None,
            },
        ),
        (
            "redis",
            {
                "url": None,
                "host": "localhost",
                "port": 6379,
                "password": None,
                "db": 0,
                "sentinels": (),
                "shown": "redis://localhost:6379/0",
            },
        ),
        ("mongo", {"database": "folkform", "shown": "mongodb://localhost:27017/folkform"}),
        ("worker", {"default_timeout_seconds": 300, "max_concurrent_jobs": 100, "shutdown_seconds": 30}),
        (
            "pancake",
            {
                "base_url": "https://pages.fm/api",
                "access_token": None,
                "page_tokens": {},
                "page_ids": (),
                "allow_token_minting": False,
                "max_calls_per_second": 4,
            },
        ),
        ("sync", {"initial_days": 30, "overlap_seconds": 300, "settle_seconds": 5}),
        (
            "schedules",
            {
                "sync_pages": "*/30 * * * *",
                "sync_customers_incremental": "*/5 * * * *",
                "sync_customers_backfill": "0 2 * * *",
            },
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_defaults_are_the_documented_ones(group: str, defaults: dict[str, Any]) -> None:
    """With nothing set the service runs as its documents say."""
    found = getattr(load_settings(None), group)
    assert {name: getattr(found, name) for name in defaults} == defaults


def test_every_fault_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line a fault, each beginning with its variable, so that one restart is enough to set all right."""
    wrong = {
        "LOG_LEVEL": "loud",
        "MONGODB_DATABASE": "a.b",
        "MONGODB_URI": f"postgres://u:{SECRET}@h/x",
        "PANCAKE_BASE_URL": f"pages.fm?access_token={SECRET}",
        "PANCAKE_MAX_CALLS_PER_SECOND": "-1",
        "PANCAKE_PAGE_TOKENS": f"100={SECRET},{SECRET}",
        "REDIS_PORT": "70000",
        "REDIS_SENTINELS": "a:26379,b",
        "REDIS_URL": f"http://:{SECRET}@h",
        "SCHEDULE_SYNC_CUSTOMERS_BACKFILL": "0 0 30 2 *",
        "SCHEDULE_SYNC_CUSTOMER_BACKFILL": "0 2 * * *",
        "SYNC_SLICES": "many",
        "TIMEZONE": "Asia/Hanoi",
        "WORKER_MAX_CONCURRENT_JOBS": "0",
    }
    found = faults(monkeypatch, **wrong)
    assert sorted(line.partition(":")[0] for line in found) == sorted(wrong)
    assert all(line.partition(": ")[2] for line in found)
    assert SECRET not in "\n".join(found)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDIS_URL", f"redis://:{SECRET}@cache.test:port/0"),
        ("PANCAKE_BASE_URL", "https://pages.test:port/api"),
        ("REDIS_URL", f"redis://:{SECRET}/more@cache.test"),
        ("MONGODB_URI", f"mongodb://worker:{SECRET}/more@a.test/shop"),
    ],
    ids=["redis port", "pancake port", "slash in redis' password", "slash in mongodb's password"],
)
def test_an_address_nobody_could_call_is_refused(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found at the start with a line, not at the first call with a traceback; the password is not in it."""
    found = faults(monkeypatch, **{name: value})
    assert [line.partition(":")[0] for line in found] == [name]
    assert SECRET not in "".join(found)


def test_secrets_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a repr nor the address we show to people holds one."""
    settings = load(
        monkeypatch,
        REDIS_URL=f"redis://worker:{SECRET}@cache.test:6380/1",
        REDIS_PASSWORD=SECRET,
        MONGODB_URI=f"mongodb://worker:{SECRET}@a.test:1,b.test:2/x?authSource=y",
        PANCAKE_ACCESS_TOKEN=SECRET,
        PANCAKE_PAGE_TOKENS=f"100={SECRET}",
    )
    assert SECRET not in in_the_open(settings)
    assert settings.redis.shown == "redis://cache.test:6380/1"
    assert settings.mongo.shown == "mongodb://a.test:1,b.test:2/folkform"
    assert settings.pancake.access_token is not None
    assert settings.pancake.access_token.get_secret_value() == SECRET


def test_the_env_file_is_read_and_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands in `.env` counts where the environment says nothing."""
    file = tmp_path / ".env"
    file.write_text("# a comment\nREDIS_HOST=from-file\nREDIS_DB=3\nSYNC_SLICES='2'\nSOMETHING_ELSE=ignored\n")
    settings = load(monkeypatch, file, REDIS_HOST="from-environment")
    assert settings.redis.shown == "redis://from-environment:6379/3"
    assert settings.sync.slices == 2


def test_the_env_file_of_the_working_directory_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker started in the checkout finds its `.env` by itself, and needs none."""
    monkeypatch.chdir(tmp_path)
    default = load_settings(None).sync.slices
    assert load_settings().sync.slices == default != 7
    (tmp_path / ".env").write_text("SYNC_SLICES=7\n")
    assert load_settings().sync.slices == 7


@pytest.mark.parametrize("name", ["REDIS_URL", "REDIS_PORT", "PANCAKE_ACCESS_TOKEN", "TIMEZONE", "SCHEDULE_SYNC_PAGES"])
def test_an_empty_value_counts_as_not_set(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """compose hands on every variable it names, set or not."""
    groups = ("service", "redis", "mongo", "worker", "pancake", "sync", "schedules")
    unset, found = load_settings(None), load(monkeypatch, **{name: ""})
    assert {group: getattr(found, group) for group in groups} == {group: getattr(unset, group) for group in groups}


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("100=abc", {"100": "abc"}),
        ("100=ab=c==,tt_200=x=", {"100": "ab=c==", "tt_200": "x="}),
        (" 100 = abc , 200=def ,, ", {"100": "abc", "200": "def"}),
    ],
    ids=["one", "equals signs", "blanks"],
)
def test_page_tokens_may_hold_equals_signs(text: str, tokens: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the first `=` of an entry divides; blanks and empty entries do not count."""
    found = load(monkeypatch, PANCAKE_PAGE_TOKENS=text).pancake.page_tokens
    assert {page: token.get_secret_value() for page, token in found.items()} == tokens


@pytest.mark.parametrize("text", ["abc", "=abc", "100=", "100=a,b"], ids=["no id", "empty id", "empty", "second"])
def test_a_page_token_without_its_page_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line names the entry by its number, for its text is a secret."""
    (line,) = faults(monkeypatch, PANCAKE_PAGE_TOKENS=text)
    assert line == f"PANCAKE_PAGE_TOKENS: entry {text.count(',') + 1} is not of the form pageId=token"


def test_redis_can_be_given_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Host, port, database and password make an address, whatever letters the password has."""
    redis = load(monkeypatch, REDIS_HOST="r.test", REDIS_PORT="7", REDIS_DB="3", REDIS_PASSWORD="a/b@c").redis
    assert redis.address.get_secret_value() == "redis://:a%2Fb%40c@r.test:7/3"
    assert redis.shown == "redis://r.test:7/3"


def test_sentinels_are_shown_instead_of_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are split at commas."""
    redis = load(monkeypatch, REDIS_SENTINELS="a.test:26379, b.test:26379", REDIS_SENTINEL_MASTER="shop").redis
    assert redis.sentinels == ("a.test:26379", "b.test:26379")
    assert redis.shown == "sentinels a.test:26379, b.test:26379 (master shop)"


def test_a_schedule_of_no_job_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt name would never run without anybody noticing; the line lists the right ones."""
    (line,) = faults(monkeypatch, SCHEDULE_SYNC_CUSTOMER="*/5 * * * *")
    assert line.startswith("SCHEDULE_SYNC_CUSTOMER: ")
    assert "SCHEDULE_SYNC_CUSTOMERS_INCREMENTAL" in line


def test_a_schedule_of_no_job_in_the_env_file_is_refused_too(tmp_path: Path) -> None:
    """Where the variable stands makes no difference to who relies on it."""
    (tmp_path / ".env").write_text("SCHEDULE_SYNC_CUSTOMER=*/5 * * * *\n")
    with pytest.raises(Misuse, match="SCHEDULE_SYNC_CUSTOMER: "):
        load_settings(tmp_path / ".env")


@pytest.mark.parametrize("value", ["off", "OFF", " off ", ""])
def test_switching_off_what_is_not_there_harms_nobody(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings written for a later version, or an earlier one, still start."""
    settings = load(monkeypatch, SCHEDULE_SYNC_POSTS_INCREMENTAL=value, SCHEDULE_SYNC_PAGES="off")
    assert settings.schedules.sync_pages == "off"


def test_a_copy_with_one_group_exchanged_leaves_the_original_alone() -> None:
    """Commands and tests change settings without touching anybody else's."""
    settings = load_settings(None)
    copy = settings.replace(sync=settings.sync.model_copy(update={"slices": 9}))
    assert copy.sync.slices == 9 != settings.sync.slices
    assert copy.redis is settings.redis
