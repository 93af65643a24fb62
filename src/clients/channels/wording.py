"""A note in the words of a channel: cut to its length at no half character, and nothing in it taken for markup."""

from collections.abc import Callable
from html import escape

from .note import Note

CUT = "…"
LONGEST_TITLE = 250  # characters


def clean(text: str) -> str:
    """Without what no channel can carry: half characters, and control characters other than line breaks and tabs."""
    whole = text.encode("utf-8", "replace").decode()
    return "".join(sign for sign in whole if sign in "\n\t" or (sign >= " " and sign != "\x7f")).strip()


def title_of(note: Note) -> str:
    """One line."""
    return cut(" ".join(clean(note.title).split()), LONGEST_TITLE)


def links_of(note: Note) -> list[tuple[str, str]]:
    """(label, URL) of every link that can be followed and does not stand in the text already, each URL once."""
    found: dict[str, str] = {}
    for label, url in (*note.links, ("", note.link or "")):
        url = "".join(clean(url).split())
        if url.startswith(("https://", "http://")) and url not in found and url not in note.text:
            found[url] = " ".join(clean(label).split()) or url
    return [(label, url) for url, label in found.items()]


def cut(text: str, limit: int, size: Callable[[str], int] = len) -> str:
    """`text`, or as much of its start as has a `size` of at most `limit` with the sign that says it was cut."""
    if size(text) <= limit:
        return text
    low, high = 0, min(len(text), limit)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if size(text[:middle] + CUT) <= limit else (low, middle - 1)
    return text[:low].rstrip() + CUT


def plain(note: Note, limit: int) -> str:
    """Title, text and links as plain text within `limit`: the text gives way first, then the links."""
    title = cut(title_of(note), limit)
    links = "\n".join(url if label == url else f"{label}: {url}" for label, url in links_of(note))
    if len(title) + len(links) + 4 > limit:
        links = ""
    room = limit - len(title) - len(links) - 3
    text = cut(clean(note.text), room) if room > 0 else ""
    return "\n".join(part for part in (title, text, links and f"\n{links}") if part)


def utf16(text: str) -> int:
    """How many UTF-16 units: what Telegram counts."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def as_html(note: Note) -> str:
    """The note as the HTML part of an e-mail."""
    lines = [f"<p><strong>{escape(title_of(note))}</strong></p>"]
    if text := clean(note.text):
        lines.append(f'<p style="white-space:pre-line">{escape(text)}</p>')
    lines += [f'<p><a href="{escape(url)}">{escape(label)}</a></p>' for label, url in links_of(note)]
    return f"<!doctype html><html><body>{''.join(lines)}</body></html>"
