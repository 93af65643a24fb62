"""What alerts say: the worst first, few lines, in both languages, whatever customers call themselves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.rules.alert_text import EN, LANGUAGES, VI, Line, compose, span


def line(
    minutes: float = 32, severity: str = "high", *, over: bool = False, kind: str = "waiting", **facts: object
) -> Line:
    known = {"customer": "Trần Bình", "page": "Demo Clinic", "link": "https://pancake.vn/1?c_id=1_2", "late": True}
    return Line(kind, severity, over, minutes, {**known, **facts})


def test_one_customer_is_a_sentence_with_the_link() -> None:
    text = compose([line(assignees=("Agent A",))], "vi")
    assert text.title == "🔔 Trần Bình chờ trả lời 32 phút (Demo Clinic)"
    assert text.body.splitlines() == ["Phụ trách: Agent A", "https://pancake.vn/1?c_id=1_2"]
    english = compose([line(95)], "en")
    assert english.title == "🔔 Trần Bình has waited 1 h 35 min for an answer (Demo Clinic)"
    assert english.body.splitlines()[0] == "Assigned to nobody"


def test_many_customers_are_one_message_with_the_longest_waits() -> None:
    """Three hundred at half past eight: a number, the five that have waited longest, and how many more."""
    text = compose([line(minutes, customer=f"Khách {minutes}") for minutes in range(1, 301)], "vi")
    lines = text.body.splitlines()
    assert text.title == "🔔 300 khách đang chờ trả lời"
    assert [shown for shown in lines if shown.startswith("•")] == [
        f"• Khách {minutes} (Demo Clinic): {span(minutes, 'vi')}, quá hạn" for minutes in (300, 299, 298, 297, 296)
    ]
    assert lines[-1] == "... và 295 khách khác"
    assert len(text.links) == 5


def test_the_gravest_gives_the_message_its_severity() -> None:
    text = compose([line(90, "warning", late=False), line(20, "critical")], "vi")
    assert text.severity == "critical"
    assert text.title.startswith("🚨")
    assert "Trần Bình (Demo Clinic): 20 phút, quá hạn" in text.body.splitlines()[0]


def test_the_end_is_told_as_good_news() -> None:
    over = compose([line(48, "info", over=True)], "vi")
    assert (over.title, over.severity) == ("✅ Trần Bình đã được trả lời sau 48 phút (Demo Clinic)", "info")
    gone = compose([line(48, over=True, answered=False)], "en")
    assert gone.title == "✅ The conversation with Trần Bình waits no longer (Demo Clinic)"
    both = compose([line(48), line(5, over=True, customer="Lê An")], "vi")
    assert both.title == "🔔 1 khách đang chờ trả lời; 1 khách đã được trả lời"


def test_a_repeat_says_so() -> None:
    assert "gửi lại" in compose([line()], "vi", is_repeat=True).body
    assert "gửi lại" not in compose([line()], "vi").body


@pytest.mark.parametrize(
    ("kind", "facts", "begun", "ended"),
    [
        ("data_late", {"page": "Demo Clinic"}, "bị trễ 12 phút", "đã cập nhật lại"),
        ("agent_offline", {"agent": "bot-1"}, "Agent bot-1 mất kết nối đã 12 phút", "đã kết nối lại"),
        (
            "unhealthy",
            {"name": "redis", "error": "no answer"},
            "redis không hoạt động: no answer",
            "redis đã hoạt động",
        ),
        ("channel", {"address": "slack:x", "error": "404"}, "Không gửi được cảnh báo tới slack:x: 404", "Đã gửi lại"),
    ],
)
def test_the_services_own_troubles_have_words(kind: str, facts: dict[str, object], begun: str, ended: str) -> None:
    assert begun in compose([Line(kind, "high", False, 12, facts)], "vi").title
    assert ended in compose([Line(kind, "info", True, 12, facts)], "vi").title


MACHINE: list[tuple[dict[str, object], str, tuple[str, str, str], dict[str, tuple[str, str]]]] = [
    (
        {"job": "sync_pages", "times": 3, "error": "429", "where": " (7)", "of": 4},
        "job_failing",
        ("sync_pages failed 3 times in a row (7): 429", "works again", "--job sync_pages --failed"),
        {"several": ("with 4 different arguments", "works again"), "silent": ("", "fails no more")},
    ),
    (
        {"job": "sync_pages", "usual": 60, "jobId": "j-1"},
        "job_slow",
        ("sync_pages has run for 12 min, usually 60 s at most (job j-1)", "hangs no more", "jobs show j-1"),
        {},
    ),
    (
        {"schedule": "nightly", "job": "sync_pages", "at": "2026-05-14 02:00", "lane": "sync"},
        "schedule_late",
        ("nightly did not run at 2026-05-14 02:00", "nightly runs again", "--schedule nightly"),
        {"nobody": ("no worker was there", "runs again"), "waits": ("waits in lane sync", "runs again")},
    ),
    (
        {"new": 2, "count": 9},
        "letters_grew",
        ("2 more jobs failed for good (9 in all)", "dealt with", "dead-letters list"),
        {
            "stay": ("2 more", "9 wait for somebody"),
            "rows": ("2 more rows from Pancake cannot be read", "are read, or dealt with"),
            "rows_stay": ("2 more", "9 still are"),
        },
    ),
    (
        {"lane": "sync", "pending": 80},
        "lane_old",
        ("Lane sync: the oldest job has waited 12 min (80 wait)", "keeps up again", "queues"),
        {"paused": ("is paused", "keeps up again")},
    ),
    (
        {"worker": "w@host:7", "host": "host", "jobs": 4},
        "worker_gone",
        ("Worker w@host:7 is gone (host host, it ran 4 jobs)", "is back", "agents list"),
        {"replaced": ("is gone", "was started again")},
    ),
]


@pytest.mark.parametrize(("facts", "kind", "words", "variants"), MACHINE, ids=[kind for _, kind, *_ in MACHINE])
def test_the_machines_troubles_have_words(
    facts: dict[str, object], kind: str, words: tuple[str, str, str], variants: dict[str, tuple[str, str]]
) -> None:
    """What is wrong in the first line, what to do in the second; the end needs one line."""
    begun, ended, to_do = words
    text = compose([Line(kind, "high", False, 12, facts)], "en")
    assert begun in text.title
    assert to_do in text.body
    over = compose([Line(kind, "info", True, 12, facts)], "en")
    assert ended in over.title
    assert over.body == ""
    for variant, (begins, ends) in variants.items():
        told = {**facts, "variant": variant}
        assert begins in compose([Line(kind, "high", False, 12, told)], "en").title
        assert ends in compose([Line(kind, "info", True, 12, told)], "en").title
    assert "python -m src" in compose([Line(kind, "high", False, 12, facts)], "vi").body
    if kind != "letters_grew":
        many = compose([Line(f"{kind}_many", "high", False, 12, {"count": 12, "names": "a, b ..."})], "en")
        assert "12 " in many.title
        assert "a, b ..." in many.title
        assert "python -m src" in many.body


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_the_machines_words_have_no_holes(language: str) -> None:
    """A `?` in a text says that its facts were forgotten."""
    for facts, kind, _, variants in MACHINE:
        for variant in ("", *variants):
            for is_over in (False, True):
                text = compose([Line(kind, "high", is_over, 12, {**facts, "variant": variant})], language)
                assert "?" not in text.title + text.body


def test_a_report_is_sent_as_it_was_written() -> None:
    text = compose([Line("plain", "info", False, 0, {"title": "Báo cáo", "text": "dòng 1\ndòng 2"})], "vi")
    assert (text.title, text.body) == ("ℹ️ Báo cáo", "dòng 1\ndòng 2")


def test_both_languages_have_the_same_words() -> None:
    assert VI.keys() == EN.keys()
    for name, words in VI.items():
        assert sorted(_holes(words)) == sorted(_holes(EN[name])), name


def _holes(words: str) -> list[str]:
    return [part.split("}")[0] for part in words.split("{")[1:]]


facts = st.dictionaries(
    st.sampled_from(["customer", "page", "link", "late", "error", "assignees", "answered"]),
    st.one_of(st.none(), st.text(max_size=30), st.booleans(), st.just(["a"])),
)
lines = st.builds(
    Line,
    st.sampled_from(["waiting", "data_late", "unhealthy", "never heard of"]),
    st.sampled_from(["info", "warning", "high", "critical", "odd"]),
    st.booleans(),
    st.floats(0, 1e7),
    facts,
)


@given(st.lists(lines, min_size=1, max_size=12), st.sampled_from([*LANGUAGES, "xx"]), st.booleans())
def test_every_message_has_a_text(found: list[Line], language: str, repeat: bool) -> None:
    """Braces in names, missing facts, unknown kinds: there is a first line whatever came."""
    text = compose(found, language, is_repeat=repeat)
    assert text.title
    assert len(text.links) <= 5
