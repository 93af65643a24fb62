"""What alerts say, in Vietnamese and in English: plain text, the worst first, short enough for a phone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

MOST_LINES = 5  # of a digest; the rest is a number
RANK: Final = {"info": 0, "warning": 1, "high": 2, "critical": 3}
_ICONS: Final = {"info": "ℹ️", "warning": "⏳", "high": "🔔", "critical": "🚨"}
_DONE: Final = "✅"

Words = Mapping[str, str]

VI: Final[Words] = {
    "waiting": "{customer} chờ trả lời {minutes} ({page})",
    "waiting_many": "{count} khách đang chờ trả lời",
    "waiting_line": "{customer} ({page}): {minutes}{late}",
    "late": ", quá hạn",
    "resolved": "{customer} đã được trả lời sau {minutes} ({page})",
    "resolved_many": "{count} khách đã được trả lời",
    "resolved_gone": "Hội thoại với {customer} không còn chờ nữa ({page})",
    "rest": "... và {count} khách khác",
    "several": "{count} thông báo",
    "assignee": "Phụ trách: {names}",
    "nobody": "Chưa có ai phụ trách",
    "data_late": "Dữ liệu của trang {page} bị trễ {minutes}: tạm dừng cảnh báo khách chờ của trang này",
    "data_late_over": "Dữ liệu của trang {page} đã cập nhật lại",
    "agent_offline": "Agent {agent} mất kết nối đã {minutes}",
    "agent_offline_over": "Agent {agent} đã kết nối lại",
    "unhealthy": "{name} không hoạt động: {error}",
    "unhealthy_over": "{name} đã hoạt động lại",
    "job_failing": "{job} lỗi {times} lần liên tiếp{where}: {error}",
    "job_failing_several": "{job} lỗi {times} lần liên tiếp, với {of} bộ tham số khác nhau{where}: {error}",
    "job_failing_over": "{job} đã chạy lại được",
    "job_failing_over_silent": "{job} không lỗi thêm: đã được xử lý, hoặc không chạy lại nữa",
    "job_failing_do": "Xem: python -m src runs --job {job} --failed",
    "job_failing_many": "{count} job lỗi liên tiếp: {names}",
    "job_failing_many_over": "Phần lớn các job bị lỗi đã chạy lại được",
    "job_failing_many_do": "Xem: python -m src runs --failed",
    "job_slow": "{job} đã chạy {minutes}, thường không quá {usual} giây (job {jobId})",
    "job_slow_over": "{job} không còn bị treo",
    "job_slow_do": "Xem: python -m src jobs show {jobId}",
    "job_slow_many": "{count} job chạy lâu bất thường: {names}",
    "job_slow_many_over": "Phần lớn các job chạy lâu đã xong",
    "job_slow_many_do": "Xem: python -m src top",
    "schedule_late": "Lịch {schedule} không chạy lúc {at}",
    "schedule_late_nobody": "Lịch {schedule} không chạy lúc {at}: khi đó không có worker nào",
    "schedule_late_waits": "Lịch {schedule} lúc {at} vẫn chưa chạy: job đang chờ ở lane {lane}",
    "schedule_late_lost": "Lịch {schedule} không chạy lúc {at}: Redis đã mất job của nó",
    "schedule_late_over": "Lịch {schedule} đã chạy lại đúng giờ",
    "schedule_late_do": "Xem: python -m src runs --schedule {schedule}; chạy: python -m src schedules run {schedule}",
    "schedule_late_waits_do": "Xem: python -m src queues",
    "schedule_late_many": "{count} lịch không chạy đúng giờ: {names}",
    "schedule_late_many_over": "Phần lớn các lịch đã chạy lại đúng giờ",
    "schedule_late_many_do": "Xem: python -m src queues",
    "letters_grew": "Có thêm {new} job hỏng hẳn (tổng cộng {count})",
    "letters_grew_over": "Các job hỏng hẳn đã được xử lý",
    "letters_grew_over_stay": "Không có thêm job hỏng hẳn; còn {count} job chờ xử lý",
    "letters_grew_do": "Xem: python -m src dead-letters list",
    "letters_grew_rows": "Có thêm {new} dòng dữ liệu từ Pancake không đọc được, đã để riêng (tổng cộng {count})",
    "letters_grew_over_rows": "Các dòng dữ liệu để riêng đã đọc được hoặc đã được xử lý",
    "letters_grew_over_rows_stay": "Không có thêm dòng dữ liệu không đọc được; còn {count} dòng để riêng",
    "letters_grew_rows_do": "Xem: python -m src dead-letters list --rows",
    "lane_old": "Lane {lane}: job cũ nhất đã chờ {minutes} ({pending} job đang chờ)",
    "lane_old_paused": "Lane {lane} đang tạm dừng: job cũ nhất đã chờ {minutes} ({pending} job đang chờ)",
    "lane_old_over": "Lane {lane} đã chạy kịp trở lại",
    "lane_old_do": "Xem: python -m src queues",
    "lane_old_paused_do": "Chạy lại: python -m src queues resume {lane}",
    "lane_old_many": "{count} lane bị chậm: {names}",
    "lane_old_many_over": "Phần lớn các lane đã chạy kịp trở lại",
    "lane_old_many_do": "Xem: python -m src queues",
    "worker_gone": "Worker {worker} đã mất (máy {host}, đang chạy {jobs} job)",
    "worker_gone_over": "Worker {worker} đã trở lại",
    "worker_gone_over_replaced": "Worker {worker} đã được khởi động lại",
    "worker_gone_do": "Job của nó chạy tiếp ở worker khác. Xem: python -m src agents list",
    "worker_gone_many": "{count} worker đã mất: {names}",
    "worker_gone_many_over": "Phần lớn các worker đã trở lại",
    "worker_gone_many_do": "Xem: python -m src agents list",
    "channel": "Không gửi được cảnh báo tới {address}: {error}",
    "channel_over": "Đã gửi lại được cảnh báo tới {address}",
    "again": "(gửi lại: có thể bạn đã nhận tin này)",
    "somebody": "Khách",
    "span": "{d} ngày {h} giờ|{h} giờ {m} phút|{m} phút",
}
EN: Final[Words] = {
    "waiting": "{customer} has waited {minutes} for an answer ({page})",
    "waiting_many": "{count} customers wait for an answer",
    "waiting_line": "{customer} ({page}): {minutes}{late}",
    "late": ", overdue",
    "resolved": "{customer} was answered after {minutes} ({page})",
    "resolved_many": "{count} customers were answered",
    "resolved_gone": "The conversation with {customer} waits no longer ({page})",
    "rest": "... and {count} more",
    "several": "{count} notices",
    "assignee": "Assigned to {names}",
    "nobody": "Assigned to nobody",
    "data_late": "Data of page {page} is {minutes} late: alerts about its customers are held back",
    "data_late_over": "Data of page {page} is fresh again",
    "agent_offline": "Agent {agent} has been gone for {minutes}",
    "agent_offline_over": "Agent {agent} is back",
    "unhealthy": "{name} does not work: {error}",
    "unhealthy_over": "{name} works again",
    "job_failing": "{job} failed {times} times in a row{where}: {error}",
    "job_failing_several": "{job} failed {times} times in a row, with {of} different arguments{where}: {error}",
    "job_failing_over": "{job} works again",
    "job_failing_over_silent": "{job} fails no more: it was dealt with, or did not run again",
    "job_failing_do": "Look: python -m src runs --job {job} --failed",
    "job_failing_many": "{count} jobs fail again and again: {names}",
    "job_failing_many_over": "Most of the jobs that failed work again",
    "job_failing_many_do": "Look: python -m src runs --failed",
    "job_slow": "{job} has run for {minutes}, usually {usual} s at most (job {jobId})",
    "job_slow_over": "{job} hangs no more",
    "job_slow_do": "Look: python -m src jobs show {jobId}",
    "job_slow_many": "{count} jobs run for far too long: {names}",
    "job_slow_many_over": "Most of the jobs that ran for too long are over",
    "job_slow_many_do": "Look: python -m src top",
    "schedule_late": "Schedule {schedule} did not run at {at}",
    "schedule_late_nobody": "Schedule {schedule} did not run at {at}: no worker was there",
    "schedule_late_waits": "Schedule {schedule} of {at} has not run yet: its job waits in lane {lane}",
    "schedule_late_lost": "Schedule {schedule} did not run at {at}: Redis lost its job",
    "schedule_late_over": "Schedule {schedule} runs again",
    "schedule_late_do": "Look: python -m src runs --schedule {schedule}; now: python -m src schedules run {schedule}",
    "schedule_late_waits_do": "Look: python -m src queues",
    "schedule_late_many": "{count} schedules do not run when they should: {names}",
    "schedule_late_many_over": "Most of the schedules run again",
    "schedule_late_many_do": "Look: python -m src queues",
    "letters_grew": "{new} more jobs failed for good ({count} in all)",
    "letters_grew_over": "The jobs that failed for good are dealt with",
    "letters_grew_over_stay": "No more jobs failed for good; {count} wait for somebody",
    "letters_grew_do": "Look: python -m src dead-letters list",
    "letters_grew_rows": "{new} more rows from Pancake cannot be read and are set aside ({count} in all)",
    "letters_grew_over_rows": "The rows that were set aside are read, or dealt with",
    "letters_grew_over_rows_stay": "No more rows are set aside; {count} still are",
    "letters_grew_rows_do": "Look: python -m src dead-letters list --rows",
    "lane_old": "Lane {lane}: the oldest job has waited {minutes} ({pending} wait)",
    "lane_old_paused": "Lane {lane} is paused: the oldest job has waited {minutes} ({pending} wait)",
    "lane_old_over": "Lane {lane} keeps up again",
    "lane_old_do": "Look: python -m src queues",
    "lane_old_paused_do": "Go on: python -m src queues resume {lane}",
    "lane_old_many": "{count} lanes do not keep up: {names}",
    "lane_old_many_over": "Most of the lanes keep up again",
    "lane_old_many_do": "Look: python -m src queues",
    "worker_gone": "Worker {worker} is gone (host {host}, it ran {jobs} jobs)",
    "worker_gone_over": "Worker {worker} is back",
    "worker_gone_over_replaced": "Worker {worker} was started again",
    "worker_gone_do": "Other workers go on with its jobs. Look: python -m src agents list",
    "worker_gone_many": "{count} workers are gone: {names}",
    "worker_gone_many_over": "Most of the workers are back",
    "worker_gone_many_do": "Look: python -m src agents list",
    "channel": "Alerts do not reach {address}: {error}",
    "channel_over": "Alerts reach {address} again",
    "again": "(sent again: you may have had this already)",
    "somebody": "A customer",
    "span": "{d} d {h} h|{h} h {m} min|{m} min",
}
LANGUAGES: Final = {"vi": VI, "en": EN}


@dataclass(frozen=True, slots=True)
class Line:
    """One thing to tell. `kind` is `waiting`, or that of a notice; `is_over` where it ended. `minutes`: for how long.

    `facts`: customer, page, link, assignees, late (whether the threshold has passed), or what the notice's words name,
    and `variant`, which of a kind's words are to be taken where there are several.
    """

    kind: str
    severity: str
    is_over: bool
    minutes: float
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Text:
    """A message: its first line, what follows, and where the first link leads."""

    title: str
    body: str
    severity: str
    links: tuple[tuple[str, str], ...] = ()


def compose(lines: Sequence[Line], language: str, *, is_repeat: bool = False) -> Text:
    """One message for all `lines`, which are at least one. Unknown kinds and missing facts still give a text."""
    words = LANGUAGES.get(language, VI)
    ordered = sorted(lines, key=lambda line: (line.is_over, -RANK.get(line.severity, 0), -line.minutes))
    severity = "info" if all(line.is_over for line in ordered) else ordered[0].severity
    icon = _DONE if all(line.is_over for line in ordered) else _ICONS.get(severity, "")
    title, body = _one(ordered[0], words) if len(ordered) == 1 else _many(ordered, words)
    if is_repeat:
        body = [*body, words["again"]]
    links = tuple(
        (_customer(line, words), str(line.facts["link"])) for line in ordered[:MOST_LINES] if line.facts.get("link")
    )
    return Text(f"{icon} {title}".strip(), "\n".join(body), severity, links)


def sentence(line: Line, language: str) -> str:
    """What one line is about, in a sentence."""
    return _one(line, LANGUAGES.get(language, VI))[0]


def span(minutes: float, language: str) -> str:
    """How long, in a person's words: `2 giờ 5 phút`."""
    return _span(minutes, LANGUAGES.get(language, VI))


def _one(line: Line, words: Words) -> tuple[str, list[str]]:
    body = []
    if line.kind == "waiting":
        if not line.is_over:
            names = ", ".join(line.facts.get("assignees") or ())
            body.append(_filled(words["assignee"], {"names": names}) if names else words["nobody"])
        if line.facts.get("link"):
            body.append(str(line.facts["link"]))
    elif line.kind == "plain":
        return str(line.facts.get("title") or ""), [str(line.facts.get("text") or "")]
    elif not line.is_over and (to_do := _word(line, words, "_do")):
        body.append(_filled(to_do, line.facts))
    return _sentence(line, words), body


def _many(lines: Sequence[Line], words: Words) -> tuple[str, list[str]]:
    waiting = [line for line in lines if line.kind == "waiting" and not line.is_over]
    answered = [line for line in lines if line.kind == "waiting" and line.is_over]
    others = [line for line in lines if line.kind != "waiting"]
    body: list[str] = []
    for line in others[:MOST_LINES]:
        title, more = _one(line, words)
        body += [f"• {title}", *more]
    body += _listed(waiting, words)
    body += _listed(answered, words)
    if not others and not answered:
        return _filled(words["waiting_many"], {"count": len(waiting)}), body
    if not others and not waiting:
        return _filled(words["resolved_many"], {"count": len(answered)}), body
    heads = [
        _filled(words[name], {"count": len(found)})
        for name, found in (("waiting_many", waiting), ("resolved_many", answered))
        if found
    ]
    return "; ".join(heads) if heads and not others else _filled(words["several"], {"count": len(lines)}), body


def _listed(lines: Sequence[Line], words: Words) -> list[str]:
    found: list[str] = []
    for line in lines[:MOST_LINES]:
        late = words["late"] if line.facts.get("late") and not line.is_over else ""
        about = {"customer": _customer(line, words), "page": line.facts.get("page"), "late": late}
        shown = _filled(words["waiting_line"], {**about, "minutes": _span(line.minutes, words)})
        found.append(f"{_DONE if line.is_over else '•'} {shown}")
        if line.facts.get("link") and not line.is_over:
            found.append(f"  {line.facts['link']}")
    if len(lines) > MOST_LINES:
        found.append(_filled(words["rest"], {"count": len(lines) - MOST_LINES}))
    return found


def _sentence(line: Line, words: Words) -> str:
    facts = {**line.facts, "minutes": _span(line.minutes, words), "customer": _customer(line, words)}
    if line.kind == "waiting":
        name = ("resolved" if line.facts.get("answered", True) else "resolved_gone") if line.is_over else "waiting"
    else:
        return _filled(_word(line, words, "") or f"{line.kind}: {{error}}", facts)
    return _filled(words[name], facts)


def _word(line: Line, words: Words, end: str) -> str | None:
    """The kind's words, those of its variant first."""
    name = f"{line.kind}_over" if line.is_over else line.kind
    return words.get(f"{name}_{line.facts.get('variant')}{end}") or words.get(name + end)


def _customer(line: Line, words: Words) -> str:
    return str(line.facts.get("customer") or words["somebody"])


def _span(minutes: float, words: Words) -> str:
    days, hours, single = words["span"].split("|")
    whole = max(0, int(minutes))
    d, h, m = whole // 1440, whole // 60, whole % 60
    if whole >= 1440:
        return days.format(d=d, h=whole % 1440 // 60)
    return hours.format(h=h, m=m) if whole >= 60 else single.format(m=m)


class _Known(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return "?"


def _filled(template: str, facts: Mapping[str, Any]) -> str:
    # format_map looks the values up and does not read them: braces in a customer's name stay what they are
    return template.format_map(_Known({key: "" if value is None else value for key, value in facts.items()}))
