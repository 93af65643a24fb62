"""`reply_policies`: what single pages promise, over the shop's own policy. `*` is the page of all others."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from loguru import logger
from pymongo import ASCENDING, IndexModel
from pymongo.errors import DuplicateKeyError

from ..clients.mongo import Database, Document
from ..errors import Transient
from ..rules.policy import Policy
from ..rules.policy_document import policy_of

EVERY_PAGE = "*"
_REVISION = "revision"  # another with each change, so that of two writers at once none takes back what the other wrote
_CHANGE_TRIES = 20


@dataclass(frozen=True)
class PolicyBook:
    """Every policy. `faults`: what is wrong with a page's document, which then does not count.

    `own`: the pages that have a document, `*` among them.
    """

    default: Policy
    pages: Mapping[str, Policy] = field(default_factory=dict)
    faults: Mapping[str, str] = field(default_factory=dict)
    own: frozenset[str] = frozenset()

    def of(self, page_id: str) -> Policy:
        """The policy of a page."""
        return self.pages.get(page_id, self.default)


class ReplyPolicies:
    """One document a page, in the words of `rules/policy_document.py`."""

    def __init__(self, database: Database) -> None:
        self._collection = database["reply_policies"]
        self._last: tuple[dict[str, Document], Policy, PolicyBook] | None = None

    async def ensure_indexes(self) -> None:
        """Create what is missing. Safe to repeat."""
        await self._collection.create_indexes([IndexModel([("pageId", ASCENDING)], unique=True)])

    async def all(self) -> dict[str, Document]:
        """Every document by its page, without what only the store needs."""
        found = self._collection.find({}, {"_id": 0, _REVISION: 0}).sort("pageId", ASCENDING)
        return {str(document.get("pageId")): document async for document in found}

    async def load(self, base: Policy) -> PolicyBook:
        """Every policy, over `base`. One that cannot be read is logged and does not count: no page stops another.

        Asks MongoDB each time; the same answer is not read twice, nor are its faults logged again.
        """
        documents = await self.all()
        if self._last and self._last[:2] == (documents, base):
            return self._last[2]
        book = _book(documents, base)
        for page_id, fault in book.faults.items():
            logger.warning("policy of a page does not count: mend it with `policy set`", page_id=page_id, fault=fault)
        self._last = documents, base, book
        return book

    async def change(self, page_id: str, fields: Mapping[str, Any], base: Policy) -> Document:
        """Set these fields of a page's document, and leave the others; None takes one away. Returns the document.

        Fields of a field (`staff`, `quietHours`, `leaveOut`) alike. Safe to repeat and to run twice at once: each
        change is made to what the other left. Raises ValueError where what came out could not be read over `base`,
        and changes nothing then.
        """
        for _ in range(_CHANGE_TRIES):
            found = await self._collection.find_one({"pageId": page_id}, {"_id": 0}) or {}
            was = found.pop(_REVISION, None)  # none in a document that was written by hand
            document = {**merged(found, fields), "pageId": page_id, "updatedAt": datetime.now(UTC)}
            policy_of(document, base)
            if await self._put(document, was, is_new=not found):
                return document
        raise Transient(f"the policy of page {page_id} is being changed all the time: try again")

    async def save(self, document: Mapping[str, Any]) -> None:
        """Put a page's whole document in the place of the one there is; `pageId` names the page. Safe to repeat.

        Raises ValueError for one that could not be read again.
        """
        policy_of(document, Policy())
        stored = _stored({**document, "pageId": str(document["pageId"]), "updatedAt": datetime.now(UTC)})
        await self._collection.replace_one({"pageId": stored["pageId"]}, stored, upsert=True)

    async def remove(self, page_id: str) -> bool:
        """The page has the shop's own policy again; returns whether it had one of its own. Safe to repeat."""
        return bool((await self._collection.delete_one({"pageId": page_id})).deleted_count)

    async def _put(self, document: Document, was: Any, *, is_new: bool) -> bool:
        """False where somebody was faster."""
        if is_new:
            try:
                await self._collection.insert_one(_stored(document))
            except DuplicateKeyError:
                return False
            return True
        query = {"pageId": document["pageId"], _REVISION: was}  # None finds those without
        return bool((await self._collection.replace_one(query, _stored(document))).matched_count)


def merged(found: Mapping[str, Any], fields: Mapping[str, Any]) -> Document:
    """A document with these fields changed; None takes one away, and a field of fields is changed field by field."""
    changed = dict(found)
    for name, value in fields.items():
        if isinstance(value, Mapping):
            known = changed.get(name)
            changed[name] = merged(known if isinstance(known, Mapping) else {}, value)
        else:
            changed[name] = value
    return {name: value for name, value in changed.items() if value is not None}


def _stored(document: Document) -> Document:
    return {**document, _REVISION: uuid4().hex}


def _book(documents: Mapping[str, Document], base: Policy) -> PolicyBook:
    faults, pages = dict[str, str](), dict[str, Policy]()

    def read(page_id: str, over: Policy) -> Policy:
        try:
            return policy_of(documents[page_id], over)
        except ValueError as e:
            faults[page_id] = str(e)
            return over

    default = read(EVERY_PAGE, base) if EVERY_PAGE in documents else base
    for page_id in documents.keys() - {EVERY_PAGE}:
        pages[page_id] = read(page_id, default)
    return PolicyBook(default, pages, faults, frozenset(documents))
