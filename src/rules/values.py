"""What people write in one variable, taken apart."""

from urllib.parse import urlsplit


def parts(value: str) -> tuple[str, ...]:
    """`a, b,` -> ("a", "b")."""
    return tuple(part.strip() for part in value.split(",") if part.strip())


def split(value: object) -> object:
    """`a,b` -> ("a", "b"); spaces and empty parts do not count."""
    return parts(value) if isinstance(value, str) else value


def pairs(value: object) -> object:
    """`100=token,200=token` -> {"100": "token", ...}; the first `=` divides, so a token may hold more of them."""
    if not isinstance(value, str):
        return value
    found: dict[str, str] = {}
    for number, part in enumerate(parts(value), 1):
        page_id, _, token = (side.strip() for side in part.partition("="))
        if not (page_id and token):
            raise ValueError(f"entry {number} is not of the form pageId=token")
        found[page_id] = token
    return found


def is_address(value: str, *schemes: str) -> bool:
    """Whether somebody could be called there: a scheme, a host, and a port that is a number where there is one."""
    try:
        found = urlsplit(value)
        return found.scheme in schemes and bool(found.hostname) and found.port != 0
    except ValueError:
        return False
