"""Who of a page's staff is there: a sample of the moment, which is all that Pancake tells."""

from datetime import datetime

from ..clients.mongo import Document
from ..clients.pancake.client import PancakeClient
from ..store.staff import Staff


async def sample_staff(client: PancakeClient, staff: Staff, page_id: str, at: datetime) -> int:
    """Store who is there at `at`; returns how many are. Where the call fails nothing changes. Safe to repeat."""
    members: list[Document] = [
        {
            "userId": user.id,
            "name": user.name,
            "isOnline": user.is_online is True,
            "status": user.status,
            "statusInPage": user.status_in_page,
        }
        for user in await client.users(page_id)
    ]
    await staff.sample(page_id, members, at)
    return sum(member["isOnline"] for member in members)
