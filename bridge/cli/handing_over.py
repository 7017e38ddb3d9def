"""What a legal hold keeps, gathered to be handed over: events, and their recordings, pictures and files."""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from bridge.house import Archive, connect_bot
from bridge.matrix.repository import MatrixRepository
from bridge.model.doors import EncryptedFile
from bridge.model.phi import Phi
from bridge.policy.retention import Life
from bridge.store import attachments, retention
from bridge.store.attachments import Kept
from bridge.store.inbox import IntakeStore
from bridge.vault import KeyDestroyedError


@dataclass(slots=True)
class Gathered:
    """Documents by their names, how many of them are events, and what should be there and is not: name and reason."""

    documents: dict[str, Phi[bytes]] = field(default_factory=dict)
    events: int = 0
    missing: dict[str, str] = field(default_factory=dict)


async def gather(archive: Archive, lives: Sequence[Life]) -> Gathered:
    """The content of pages. Raises HomeserverError if a file is there and can't be fetched now."""
    found = Gathered()
    inbox = IntakeStore(archive.database, archive.keys, lambda: datetime.now(UTC), lambda: None)
    files: dict[str, Kept] = {}
    for life in lives:
        async with archive.database.read() as connection:
            for intake in await retention.intakes_of(connection, life.page):
                with suppress(KeyDestroyedError):
                    event, _ = await inbox.event_of(connection, intake)
                    found.documents[f"{life.page}/{intake}.json"] = event.seal_form()
                    found.events += 1
                    kept = await attachments.kept_of(connection, archive.keys, intake)
                    files |= {f"{life.page}/{intake}-{each.id}": each for each in kept}
    if files:
        async with connect_bot(archive.config) as homeserver:
            repository = MatrixRepository(homeserver)
            for name, kept_file in files.items():
                await _add(found, name, kept_file, repository)
    return found


def facts_of(lives: Sequence[Life]) -> dict[str, dict[str, str | None]]:
    """For the manifest: whose each page was, and when what happened to it."""

    def at(moment: datetime | None) -> str | None:
        return moment.isoformat() if moment else None

    return {
        life.page: {
            "role": life.role,
            "class": life.retention,
            "arrived": at(life.arrived),
            "accepted": at(life.accepted),
            "closed": at(life.closed),
        }
        for life in lives
    }


async def _add(found: Gathered, name: str, kept: Kept, repository: MatrixRepository) -> None:
    if kept.message is None:
        if kept.attachment is not None and kept.attachment.content is not None:
            found.documents[f"{name}{_ending(kept.attachment.type)}"] = kept.attachment.content
        else:
            found.missing[name] = "it was not fetched from its source"
        return
    said: dict[str, Any] = json.loads(kept.message.reveal())
    opening = said.pop("file")
    found.documents[f"{name}.json"] = Phi(json.dumps(said, ensure_ascii=False).encode())
    ciphertext = kept.file
    if ciphertext is None and kept.mxc is not None:
        ciphertext = await repository.download_file(kept.mxc)
    if ciphertext is None:
        found.missing[name] = "the homeserver has it no more"
        return
    file = EncryptedFile(ciphertext, Phi(json.dumps(opening).encode()))
    found.documents[f"{name}{_ending(said.get('info', {}).get('mimetype', ''))}"] = repository.decrypt_file(
        file
    )


def _ending(kind: str) -> str:
    return mimetypes.guess_extension(kind.partition(";")[0]) or ".bin"
