"""Invented names, ids and tokens. Nothing here belongs to a real person or shop."""

import base64
import hashlib
import random
import uuid
from typing import Final

import orjson

FAMILY: Final = ("Nguyễn", "Trần", "Lê", "Phạm", "Hoàng", "Vũ", "Đặng", "Bùi", "Đỗ", "Hồ", "Ngô", "Dương")
MIDDLE: Final = ("Thị", "Văn", "Minh", "Ngọc", "Thanh", "Hữu", "Khánh", "Gia", "Bảo", "Quỳnh")
GIVEN: Final = ("An", "Bình", "Châu", "Dung", "Giang", "Hà", "Khoa", "Lan", "Mai", "Nam", "Oanh", "Phúc", "Sơn", "Tú")
SHOPS: Final = ("Demo Clinic", "Áo Dài Thử", "Cà Phê Mẫu", "Giày Giả Định", "Hoa Ví Dụ", "Bánh Nháp", "Sách Tạm")
PLATFORMS: Final = (("facebook", ""), ("tiktok_business_messaging", "tt_"), ("personal_zalo", "pzl_"))
LINES: Final = (
    "Shop còn hàng không ạ?",
    "Giá bao nhiêu vậy shop?",
    "Dạ còn ạ, mình lấy size nào?",
    "Cho mình xin địa chỉ nhé",
    "Mình gửi hàng chiều nay ạ",
    "Cảm ơn shop nhiều",
    "Is the doctor in today?",
    "Yes, until 17:00",
)
#: 2100-01-01: the user token of the simulator does not run out by itself.
FAR_EXPIRY_S: Final = 4_102_444_800


def person(rng: random.Random) -> str:
    """Make up one full name."""
    return f"{rng.choice(FAMILY)} {rng.choice(MIDDLE)} {rng.choice(GIVEN)}"


def phone(number: int) -> str:
    """Make up a phone number of a range nobody is given (09000...)."""
    return f"09000{number % 100_000:05d}"


def random_uuid(rng: random.Random) -> str:
    """Make up a uuid from the seeded source."""
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def derived_uuid(*parts: object) -> str:
    """Return the same uuid for the same parts, for ever."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=16).digest()
    return str(uuid.UUID(bytes=digest, version=4))


def jwt(claims: dict[str, object], secret: str) -> str:
    """Shape claims as a JWT that nobody has to verify; the same claims and secret give the same token."""
    head, body = _part({"alg": "HS256", "typ": "JWT"}), _part(claims)
    digest = hashlib.blake2b(f"{secret}.{head}.{body}".encode(), digest_size=24).digest()
    return f"{head}.{body}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


def _part(value: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(value)).decode().rstrip("=")


def user_token(seed: int) -> str:
    """Return the user access token of a world, with the claims a client may look into before using it."""
    claims: dict[str, object] = {
        "uid": derived_uuid(seed, "owner"),
        "name": "Agent A",
        "fb_id": "9001",
        "fb_name": "Agent A",
        "session_id": derived_uuid(seed, "session"),
        "iat": 1_760_000_000,
        "exp": FAR_EXPIRY_S,
    }
    return jwt(claims, f"user-{seed}")


def page_token(seed: int, page_id: str, generation: int) -> str:
    """Return the page access token of one generation; each mint is one generation more."""
    return jwt({"id": page_id, "generation": generation}, f"page-{seed}")
