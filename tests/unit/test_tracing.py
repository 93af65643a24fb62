"""How many traces begin, and what a traceparent says."""

import logging
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loguru import logger
from opentelemetry.sdk.trace import SpanProcessor
from pydantic import SecretStr

from src import tracing
from src.settings import TracingSettings
from src.tracing.otel import TELL_EVERY_S, Allowance, Export, Room, Seldom, Tracer


@given(st.floats(0.5, 100), st.lists(st.floats(0, 3), min_size=1, max_size=200))
def test_no_more_are_taken_than_the_time_allows(per_second: float, pauses: list[float]) -> None:
    """A burst at first, and then so many a second."""
    now = 0.0
    allowance, taken = Allowance(per_second, lambda: now), 0
    for pause in pauses:
        now += pause
        taken += allowance.take()
    assert taken <= max(1.0, per_second) + now * per_second + 1e-6


def test_a_calm_shop_has_every_trace() -> None:
    """One each second, at twenty allowed."""
    now = 0.0
    allowance = Allowance(20, lambda: now)
    for _ in range(100):
        now += 1
        assert allowance.take()


@given(st.integers(1, 5), st.lists(st.sampled_from("abc"), max_size=40))
def test_a_trace_has_room_for_so_many_and_the_last_is_told(most: int, asked: list[str]) -> None:
    """Whatever others take meanwhile."""
    room = Room(most)
    taken = [(trace_id, room.take(trace_id)) for trace_id in asked if room.is_left(trace_id)]
    for trace_id in "abc":
        assert [last for of, last in taken if of == trace_id] == [
            place == most for place in range(1, min(asked.count(trace_id), most) + 1)
        ]


def test_traces_that_are_over_take_no_memory() -> None:
    """Those heard of last are remembered."""
    room = Room(1, known=10)
    for number in range(11):
        room.take(str(number))
    assert room.is_left("0")
    assert not room.is_left("10")


class _Stuck(SpanProcessor):
    """One whose collector never answers."""

    def __init__(self) -> None:
        self.let_go = Event()

    def shutdown(self) -> None:
        self.let_go.wait(20)


def test_a_process_waits_only_so_long_for_its_last_spans() -> None:
    """The library would try batch after batch, past the time a process has to end."""
    stuck = _Stuck()
    try:
        assert not Tracer(Export("shop", "test", "1", None), stuck).close(0.01)
    finally:
        stuck.let_go.set()
    assert Tracer(Export("shop", "test", "1", None), SpanProcessor()).close()


@pytest.mark.parametrize(
    ("traceparent", "is_sampled"),
    [("01", True), ("03", True), ("00", False), ("02", False), ("ff", True), ("zz", False)],
)
def test_the_flags_say_whether_it_is_sampled(traceparent: str, is_sampled: bool) -> None:
    """W3C Trace Context, section 3.2.2.5: the lowest bit."""
    assert tracing.is_sampled(tracing.new_traceparent(traceparent)) == is_sampled


@pytest.mark.parametrize("text", ["", "00-1-2-01", "x" * 54 + "1x"])
def test_what_is_no_traceparent_is_not_sampled(text: str) -> None:
    """It comes from other programs."""
    assert not tracing.is_sampled(text)


@pytest.mark.parametrize(
    ("header", "meant"),
    [
        (f"00-{'ab' * 16}-{'cd' * 8}-01", "01"),
        (f"00-{'ab' * 16}-{'cd' * 8}-03", "01"),
        (f"00-{'ab' * 16}-{'cd' * 8}-00", "00"),
        (f"00-{'ab' * 16}-{'cd' * 8}-02", "00"),
    ],
    ids=["sampled", "sampled, random id", "not sampled", "not sampled, random id"],
)
def test_another_program_has_always_decided(header: str, meant: str) -> None:
    """Level 2 of Trace Context has a flag 02 of its own, which is not to be read as ours."""
    assert tracing.given(header) == header[:53] + meant


@pytest.mark.parametrize(
    "header",
    [
        *("", "x", f"00-{'ab' * 16}-{'cd' * 8}", f"00-{'AB' * 16}-{'cd' * 8}-01", f"00-{'ab' * 16}-{'cd' * 8}-01\n"),
        *(f"00-{'0' * 32}-{'cd' * 8}-01", f"00-{'ab' * 16}-{'0' * 16}-01", f"ff-{'ab' * 16}-{'cd' * 8}-01"),
    ],
)
def test_what_others_send_is_checked(header: str) -> None:
    """A trace of its own is better than a wrong one."""
    assert tracing.given(header) == ""


def test_a_collector_that_is_away_is_told_of_once_in_a_while() -> None:
    """OpenTelemetry's library logs each second that it is."""
    now, lines = 0.0, list[str]()
    sink = logger.add(lambda line: lines.append(line.record["extra"]["error"]), level="WARNING")
    library = logging.Logger("opentelemetry.exporter")
    library.addHandler(Seldom(lambda: now))
    try:
        for now in (0.0, 1.0, 2.0, TELL_EVERY_S - 1, TELL_EVERY_S, TELL_EVERY_S + 1):
            library.warning("no answer at %s", now)
        library.error("401")
    finally:
        logger.remove(sink)
    assert lines == ["no answer at 0.0", f"no answer at {TELL_EVERY_S}", "401"]


def test_off_nothing_is_begun_and_nothing_decided() -> None:
    """The ids still travel."""
    undecided = tracing.new_traceparent(tracing.UNDECIDED)
    assert tracing.begin("run x", "consumer", parent=tracing.new_traceparent("01")) is None
    assert tracing.decided(undecided) == undecided
    with tracing.call("GET Pancake", {}) as span:
        assert span is None


@pytest.mark.parametrize(
    ("given", "endpoint"),
    [
        ({"exporter_otlp_endpoint": "http://c:4318/"}, "http://c:4318/v1/traces"),
        ({"exporter_otlp_endpoint": "http://c:4318", "exporter_otlp_traces_endpoint": "https://t/x"}, "https://t/x"),
        ({"traces_exporter": "console"}, None),
    ],
)
def test_where_traces_go(given: dict[str, str], endpoint: str | None) -> None:
    """As OpenTelemetry's own libraries read it."""
    settings = TracingSettings.model_validate(given)
    assert (settings.is_on, settings.endpoint) == (True, endpoint)


@pytest.mark.parametrize(("of_traces", "sent"), [({}, {"a": "1 2"}), ({"b": SecretStr("3")}, {"b": "3"})])
def test_headers_of_traces_take_the_place_of_those_of_all(
    of_traces: dict[str, SecretStr], sent: dict[str, str]
) -> None:
    """Opentelemetry.io/docs/specs/otel/protocol/exporter: what is of one signal comes first."""
    settings = TracingSettings(exporter_otlp_headers={"a": SecretStr("1%202")}, exporter_otlp_traces_headers=of_traces)
    assert settings.headers == sent


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"exporter_otlp_endpoint": "http://c", "sdk_disabled": True},
        {"exporter_otlp_endpoint": "http://c", "traces_exporter": "none"},
    ],
)
def test_traces_are_off_unless_they_are_asked_for(given: dict[str, object]) -> None:
    """And can be turned off without taking the address away."""
    assert not TracingSettings.model_validate(given).is_on


@pytest.mark.parametrize(
    ("sampler", "share"),
    [("always_on", 1.0), ("parentbased_always_off", 0.0), ("traceidratio", 0.25), ("parentbased_traceidratio", 0.25)],
)
def test_samplers_say_which_share_of_traces_begins(sampler: str, share: float) -> None:
    """Whoever began a trace has decided, with or without `parentbased_`."""
    assert TracingSettings(traces_sampler=sampler, traces_sampler_arg=0.25).share == share
