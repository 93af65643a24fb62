"""What messages say of their conversation: who spoke last, and since when a customer waits."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..clients.mongo import Document
from ..clients.pancake.models import Message
from ..rules.senders import sender_of
from ..rules.times import unix_micros
from ..rules.waiting import standing
from ..store.conversations import Conversations
from ..store.messages import Messages
from .stream import in_words


@dataclass(frozen=True, slots=True)
class Learned:
    """What became of raw messages: ids and stamps of the readable ones; of the `bad` the raw row and what is wrong."""

    ids: tuple[str, ...]
    stamps: tuple[int, ...]
    bad: tuple[tuple[Any, str], ...]


async def learn(
    conversations: Conversations,
    messages: Messages,
    page_id: str,
    conversation_id: str,
    raws: Sequence[Any],
    asked_at: datetime,
) -> Learned:
    """Store messages, and how their conversation stands by them. Safe to repeat and to run several times at once."""
    learned = await keep(messages, page_id, conversation_id, raws, asked_at)
    await settle(conversations, messages, conversation_id)
    return learned


async def keep(
    messages: Messages, page_id: str, conversation_id: str, raws: Sequence[Any], asked_at: datetime
) -> Learned:
    """Store messages as they were when we asked; `settle` has to follow, after the last of them."""
    documents: list[Document] = []
    sources: list[Any] = []
    bad: list[tuple[Any, str]] = []
    for raw in raws:
        try:
            documents.append(message_document(page_id, conversation_id, raw))
            sources.append(raw)
        except ValueError as e:
            bad.append((raw, in_words(e)))
    stored = await messages.rows.upsert(documents, asked_at)
    bad += [(sources[place], reason) for place, reason in stored.refused]
    return Learned(
        tuple(document["messageId"] for document in documents),
        tuple(document["stamp"] for document in documents),
        tuple(bad),
    )


async def settle(conversations: Conversations, messages: Messages, conversation_id: str) -> None:
    """Work out how the conversation stands by its stored messages, and store that.

    Two writers at once: each counts the version up after its messages are stored, reads them, and writes only where
    the version is still the one it has; so the last to write has read the messages of both.
    """
    version = await conversations.bump(conversation_id)
    while version is not None:
        said = await messages.deciding(conversation_id)
        version = await conversations.stand(conversation_id, version, standing(said))


def message_document(page_id: str, conversation_id: str, raw: Any) -> Document:
    """The document of a raw message. Raises ValueError with what is wrong with the row."""
    row = Message.model_validate(raw)
    if row.inserted_at is None:
        raise ValueError("inserted_at is missing")
    sender, stamp = sender_of(raw, page_id), unix_micros(row.inserted_at)
    return {
        "messageId": row.id,
        "conversationId": conversation_id,
        "pageId": page_id,
        "insertedAt": stamp // 1_000_000,
        "stamp": stamp,
        "sender": sender.kind,
        "staffId": sender.staff_id,
        "isRemoved": row.is_removed is True,
        "messageData": raw,
    }
