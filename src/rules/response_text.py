"""The daily report of response times as a message: the pages, each with who answered most. Short enough for a phone."""

from collections.abc import Mapping, Sequence
from typing import Final

from .alert_text import span
from .response_times import Row, Times

MOST_PAGES, MOST_STAFF = 10, 5  # the rest is in `report response-times`

VI: Final = {
    "title": "Thời gian phản hồi ngày {day}",
    "page": "{page}: {answered} lượt trả lời, {unanswered} chưa trả lời",
    "times": "trung vị {median}, 90% trong {p90}, lâu nhất {longest}",
    "staff": "{name}: {answered} lượt, trung vị {median}, lâu nhất {longest}",
    "nobody": "(không rõ nhân viên)",
    "rest": "... và {count} trang khác",
    "staff_rest": "... và {count} nhân viên khác",
    "none": "Không có khách nào nhắn tin.",
    "business": "Tính theo giờ làm việc.",
    "lacking": "Chưa đọc hết dữ liệu của: {pages}",
}
EN: Final = {
    "title": "Response times of {day}",
    "page": "{page}: {answered} answered, {unanswered} unanswered",
    "times": "median {median}, 90% within {p90}, longest {longest}",
    "staff": "{name}: {answered}, median {median}, longest {longest}",
    "nobody": "(staff not named)",
    "rest": "... and {count} more pages",
    "staff_rest": "... and {count} more of the staff",
    "none": "No customer wrote.",
    "business": "Business time only.",
    "lacking": "Not everything has been read yet of {pages}",
}


def report_text(
    day: str,
    pages: Mapping[str, Sequence[Row]],
    page_names: Mapping[str, str],
    staff_names: Mapping[str, str],
    language: str,
    *,
    is_business: bool = False,
    lacking: Sequence[str] = (),
) -> tuple[str, str]:
    """(title, text). `pages`: the rows of the day by page. The page with most unanswered customers comes first.

    `is_business`: the times shown are business time. `lacking`: pages of which not everything has been read.
    """
    words = EN if language == "en" else VI
    of_pages = {page_id: rows[0] for page_id, rows in pages.items() if rows}
    order = sorted(of_pages, key=lambda page: (-of_pages[page].unanswered, -of_pages[page].answered, page))
    lines: list[str] = []
    for page_id in order[:MOST_PAGES]:
        rows = pages[page_id]
        lines += _page(page_names.get(page_id) or page_id, rows, staff_names, words, language, is_business=is_business)
    if len(order) > MOST_PAGES:
        lines.append(words["rest"].replace("{count}", str(len(order) - MOST_PAGES)))
    if not lines:
        lines.append(words["none"])
    elif is_business:
        lines.append(words["business"])
    if lacking:
        shown = ", ".join(page_names.get(page_id) or page_id for page_id in lacking[:MOST_PAGES])
        lines.append(words["lacking"].format_map({"pages": shown}))
    return words["title"].replace("{day}", day), "\n".join(lines)


def _page(
    name: str,
    rows: Sequence[Row],
    staff_names: Mapping[str, str],
    words: Mapping[str, str],
    language: str,
    *,
    is_business: bool,
) -> list[str]:
    page, *staff = rows
    lines = [words["page"].format_map({"page": name, "answered": page.answered, "unanswered": page.unanswered})]
    times = _times(page, is_business=is_business)
    if times is not None:
        lines.append("  " + words["times"].format_map(_spans(times, language)))
    for row in staff[:MOST_STAFF]:
        times = _times(row, is_business=is_business)
        if times is not None:
            who = staff_names.get(row.staff_id or "") or row.staff_id or words["nobody"]
            about = {"name": who, "answered": row.answered, **_spans(times, language)}
            lines.append("  • " + words["staff"].format_map(about))
    if len(staff) > MOST_STAFF:
        lines.append("  " + words["staff_rest"].format_map({"count": len(staff) - MOST_STAFF}))
    return lines


def _times(row: Row, *, is_business: bool) -> Times | None:
    return row.business if is_business else row.times


def _spans(times: Times, language: str) -> dict[str, str]:
    return {
        "median": span(times.median_s / 60, language),
        "p90": span(times.p90_s / 60, language),
        "longest": span(times.longest_s / 60, language),
    }
