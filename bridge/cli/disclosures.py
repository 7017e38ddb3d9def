"""An accounting of disclosures out of the ledger's records: a line for each time that somebody could read something."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from bridge.ledger import Action, Link

DISCLOSURE_COLUMNS = ("record", "at", "page", "what", "to", "devices", "why")
# What a message was for, by the outbox's word for it.
SENT = {
    "page": "what the patient wrote or said",
    "status": "the same again, and how the page goes on",
    "media": "a recording, picture or file",
    "answer": "an answer to a clinician, such as the number",
    "notice": "a notice to operations, which can quote it",
}
COURSE = "how the page goes on"
TREATMENT = "treatment: the page of whoever is on call"


def disclosed(links: Iterable[Link]) -> Iterator[tuple[object, ...]]:
    """The rows of `DISCLOSURE_COLUMNS`, in the order in which it happened."""
    links = list(links)
    readers = defaultdict[object, set[str]](set)
    for link in links:
        if link.record.action is Action.KEY_SHARED:
            readers[link.record.objects["session"]].update(link.record.objects.get("shared", ()))  # type: ignore[arg-type]
    for link in links:
        record = link.record
        row = (link.seq, link.at.isoformat(), record.page or "")
        if record.action is Action.SENT:
            devices = sorted(readers[record.objects.get("session")])
            people = sorted({device.split("/", 1)[0] for device in devices})
            what = SENT.get(str(record.objects.get("purpose")), COURSE)
            yield (*row, what, " ".join(people), " ".join(devices), TREATMENT)
        elif record.action is Action.OPENED:
            yield (*row, "what the patient wrote or said", record.actor, "", "break-glass")
        elif record.action is Action.EXPORTED and "hold" in record.objects:
            why = f"export of legal hold {record.objects['hold']}"
            yield (*row, "what the patient wrote or said", record.actor, "", why)
