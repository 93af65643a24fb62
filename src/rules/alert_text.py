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

    `facts`: customer, page, link, assignees, late (whether the threshold has passed), or what the notice's words name.
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
        name = f"{line.kind}_over" if line.is_over else line.kind
    return _filled(words.get(name, f"{line.kind}: {{error}}"), facts)


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
