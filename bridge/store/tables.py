"""The tables. Their columns hold no PHI in the clear: `sealed` columns are opened only by the vault."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    or_,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class Instant(TypeDecorator[datetime]):
    """A moment in UTC, kept as microseconds since 1970, so that both databases sort and compare it alike."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        return None if value is None else (value - EPOCH) // MICROSECOND

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else EPOCH + value * MICROSECOND


# SQLite counts rows by itself only in a column that is INTEGER PRIMARY KEY to the letter.
Sequence = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)

# --- the vault's keys: data key -> day key -> operator key ---

root_key = Table(
    "root_key",
    metadata,
    Column("id", Text, primary_key=True),
    Column("proof", LargeBinary, nullable=False),
    Column("first_used_at", Instant, nullable=False),
    Column("in_force", Boolean, nullable=False),  # it wraps what is made now; only one does
)

day_key = Table(
    "day_key",
    metadata,
    Column("id", Text, primary_key=True),
    Column("retention", Text, nullable=False),
    Column("day", Text, nullable=False),
    Column("root_key", Text, ForeignKey("root_key.id"), nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
    UniqueConstraint("retention", "day"),
)

data_key = Table(
    "data_key",
    metadata,
    Column("id", Text, primary_key=True),
    Column("day_key", Text, ForeignKey("day_key.id"), nullable=False, index=True),
    Column("wrapped", LargeBinary, nullable=False),
)

lasting_key = Table(
    "lasting_key",
    metadata,
    Column("id", Text, primary_key=True),
    Column("root_key", Text, ForeignKey("root_key.id"), nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
)

# --- what happened, in a chain that shows any change of it ---

ledger = Table(
    "ledger",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at", Instant, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("page", Text),
    Column("patient", LargeBinary),
    Column("objects", JSON, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("hash", Text, nullable=False),
)
for _column in (ledger.c.page, ledger.c.patient):
    _there = _column.is_not(None)
    Index(f"ix_ledger_{_column.name}", _column, sqlite_where=_there, postgresql_where=_there)
_shared = ledger.c.action == "key_shared"
Index("ix_ledger_key_shared", ledger.c.seq, sqlite_where=_shared, postgresql_where=_shared)

ledger_checkpoint = Table(
    "ledger_checkpoint",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", Text, nullable=False),
    Column("at", Instant, nullable=False),
    Column("signature", LargeBinary, nullable=False),
)

ledger_anchor = Table(
    "ledger_anchor",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at", Instant, nullable=False),
    Column("receipt", LargeBinary),
)

# --- whether writes are taken; see Database.beat ---

heartbeat = Table(
    "heartbeat",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Instant, nullable=False),
)

# --- the bridges that run, and which operator keys each of them knows ---

node = Table(
    "node",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("root_keys", JSON, nullable=False),
    Column("at", Instant, nullable=False),
)

# --- from the call center ---

intake = Table(
    "intake",
    metadata,
    Column("seq", Sequence, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    Column("channel", Text, nullable=False),
    Column("key_mac", LargeBinary, nullable=False),
    Column("kind", Text),
    Column("unreadable", Text),
    Column("caller_mac", LargeBinary),
    Column("page", Text, index=True),  # that it joined; those that it opened name it
    Column("data_key", Text, nullable=False, index=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("received_at", Instant, nullable=False),
    Column("reply", Text),  # the fixed words that its source was told, "" for none
    Column("state", Text, nullable=False),
    UniqueConstraint("channel", "key_mac"),
)
Index(
    "ix_intake_alive",
    intake.c.received_at,
    sqlite_where=intake.c.state != "destroyed",
    postgresql_where=intake.c.state != "destroyed",
)
Index("ix_intake_caller", intake.c.caller_mac, intake.c.received_at)
_unread = intake.c.unreadable.is_not(None)
Index("ix_intake_unreadable", intake.c.received_at, sqlite_where=_unread, postgresql_where=_unread)
Index(
    "ix_intake_todo",
    intake.c.seq,
    sqlite_where=intake.c.state == "todo",
    postgresql_where=intake.c.state == "todo",
)

# Fixed words that a channel is to send to whoever wrote; `intake.reply` holds them.
owed_reply = Table(
    "owed_reply",
    metadata,
    Column("intake", Text, ForeignKey("intake.id"), primary_key=True),
    Column("channel", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("at", Instant, nullable=False),
    Column("not_before", Instant, nullable=False),
    Column("begun_at", Instant),  # it may have been sent since
    Column("error", Text),
)
_owed = owed_reply.c.state == "todo"
Index("ix_owed_reply_todo", owed_reply.c.not_before, sqlite_where=_owed, postgresql_where=_owed)

# Numbers that want no texts from a channel, as fingerprints.
opt_out = Table(
    "opt_out",
    metadata,
    Column("number", LargeBinary, primary_key=True),
    Column("since", Instant, nullable=False),
)

# What belongs to an event and is no text: `todo` (to be fetched and made playable), `encrypted` (as it will be
# uploaded), `uploaded`, `failed`, or `destroyed`. `mxc` is its address at the homeserver, there before the upload.
attachment = Table(
    "attachment",
    metadata,
    Column("id", Text, primary_key=True),
    Column("intake", Text, ForeignKey("intake.id"), nullable=False, index=True),
    Column("channel", Text, nullable=False),
    Column("sealed", LargeBinary),  # where it is, or it itself
    Column("sealed_message", LargeBinary),  # what a room is told of it, the file's key among it
    Column("file", LargeBinary),  # ciphertext, until it is uploaded
    Column("mxc", Text),
    Column("state", Text, nullable=False),
    Column("transcript", Text),  # "todo" until it is written down; then "done", or "failed"
    Column("at_source", Text),  # "todo" if it is to be deleted there, once it is in the rooms; then "gone"
    Column("attempts", Integer, nullable=False),
    Column("not_before", Instant, nullable=False),
    Column("error", Text),
    Column("destruction", Text, ForeignKey("destruction.id")),  # with which its address has to go, too
)
_going = attachment.c.destruction.is_not(None)
Index("ix_attachment_destruction", attachment.c.destruction, sqlite_where=_going, postgresql_where=_going)
_unready = attachment.c.state.in_(["todo", "encrypted"])
Index("ix_attachment_todo", attachment.c.not_before, sqlite_where=_unready, postgresql_where=_unready)
_shown = attachment.c.state == "uploaded"
Index("ix_attachment_uploaded", attachment.c.id, sqlite_where=_shown, postgresql_where=_shown)
_to_delete = attachment.c.at_source == "todo"
_unheard = attachment.c.transcript == "todo"
Index("ix_attachment_transcript", attachment.c.id, sqlite_where=_unheard, postgresql_where=_unheard)
Index("ix_attachment_at_source", attachment.c.id, sqlite_where=_to_delete, postgresql_where=_to_delete)

# --- pages and their clocks ---

page = Table(
    "page",
    metadata,
    Column("id", Text, primary_key=True),
    Column("intake", Text, ForeignKey("intake.id"), nullable=False),
    Column("rule", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("priority", Text, nullable=False),
    Column("ladder", Text, nullable=False),
    Column("template", Text, nullable=False),
    Column("retention", Text, nullable=False),
    Column("config_hash", Text, nullable=False),
    Column("why", JSON, nullable=False),
    Column("state", Text, nullable=False),
    Column("opened_at", Instant, nullable=False),
    Column("delivered_at", Instant),
    Column("step", Integer, nullable=False),
    Column("notified", JSON, nullable=False),
    Column("accepted_by", Text),
    Column("accepted_at", Instant),
    Column("closed_at", Instant),
    Column("room", Text),
    Column("declined", JSON, nullable=False),
    Column("bundle_mac", LargeBinary, index=True),
    Column("latest", Text),
    Column("latest_at", Instant, nullable=False),
    Column("event_count", Integer, nullable=False),
    Column("held_until", Instant),
    Column("destroyed_at", Instant),
    UniqueConstraint("intake", "rule", "role"),
)
Index(
    "ix_page_alive",
    page.c.retention,
    page.c.opened_at,
    page.c.id,
    sqlite_where=page.c.destroyed_at.is_(None),
    postgresql_where=page.c.destroyed_at.is_(None),
)
Index("ix_page_destroyed", page.c.destroyed_at)

# An event belongs to the page that it opened, or to one that was open and that it joined.
event_of_page = or_(page.c.intake == intake.c.id, page.c.id == intake.c.page)

Index("ix_page_role_state", page.c.role, page.c.state)

timer = Table(
    "timer",
    metadata,
    Column("page", Text, ForeignKey("page.id"), primary_key=True),
    Column("step", Integer, nullable=False),
    Column("due_at", Instant, nullable=False, index=True),
)

# --- who holds what: what commands changed, and what was ever so ---

shift_change = Table(
    "shift_change",
    metadata,
    Column("id", Sequence, primary_key=True, autoincrement=True),
    Column("role", Text, nullable=False),
    Column("start_at", Instant, nullable=False),
    Column("until", Instant, nullable=False, index=True),
    Column("holder", Text, nullable=False),
    Column("made_by", Text, nullable=False),
    Column("made_at", Instant, nullable=False),
)

held = Table(
    "held",
    metadata,
    Column("id", Sequence, primary_key=True, autoincrement=True),
    Column("role", Text, nullable=False),
    Column("start_at", Instant, nullable=False),
    Column("holder", Text),
    Column("user_id", Text),
    Column("config_hash", Text, nullable=False),
)
Index("ix_held_role_start", held.c.role, held.c.start_at)

leaver = Table(
    "leaver",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("taken_out_by", Text, nullable=False),
    Column("at", Instant, nullable=False),
)

calendar_copy = Table(
    "calendar_copy",
    metadata,
    Column("name", Text, primary_key=True),
    Column("url", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("fetched_at", Instant, nullable=False),
)

reload_request = Table(
    "reload_request",
    metadata,
    Column("id", Sequence, primary_key=True, autoincrement=True),
    Column("asked_at", Instant, nullable=False),
    Column("answer", Text),
)

# --- what the source of an event is told of it, or may ask for ---

report = Table(
    "report",
    metadata,
    Column("seq", Sequence, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),  # the source's way to tell a repetition
    Column("intake", Text, ForeignKey("intake.id"), nullable=False),
    Column("channel", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("nth", Integer, nullable=False),  # of an event's answers
    Column("choice", Integer),
    Column("sealed", LargeBinary),  # an answer's words, under the event's key
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("at", Instant, nullable=False),
    Column("not_before", Instant, nullable=False),
    Column("error", Text),
    Column("poller", Text),  # who fetches it, of those in the configuration
    UniqueConstraint("intake", "kind", "nth"),
)
_untold = report.c.state == "todo"
Index("ix_report_todo", report.c.not_before, sqlite_where=_untold, postgresql_where=_untold)
_held = report.c.state == "held"
Index(
    "ix_report_held",
    report.c.channel,
    report.c.poller,
    report.c.seq,
    sqlite_where=_held,
    postgresql_where=_held,
)

# --- how far each source was asked what has happened ---

reconciliation = Table(
    "reconciliation",
    metadata,
    Column("channel", Text, primary_key=True),
    Column("began", Instant, nullable=False),
    Column("through", Instant, nullable=False),
    Column("day", Text, nullable=False),
    Column("missing", Integer, nullable=False),
    Column("line", Text),
    Column("said_at", Instant),
)

# --- what a channel must know of its source after a restart ---

channel_note = Table(
    "channel_note",
    metadata,
    Column("channel", Text, primary_key=True),
    Column("note", JSON, nullable=False),
)

# --- raw traffic that an operator asked to have recorded ---

capture = Table(
    "capture",
    metadata,
    Column("channel", Text, primary_key=True),
    Column("data_key", Text, nullable=False),
    Column("asked_by", Text, nullable=False),
    Column("asked_at", Instant, nullable=False),
    Column("until", Instant, nullable=False),
    Column("bytes_left", Integer, nullable=False),
)

captured = Table(
    "captured",
    metadata,
    Column("id", Sequence, primary_key=True, autoincrement=True),
    Column("data_key", Text, nullable=False, index=True),
    Column("at", Instant, nullable=False),
    Column("way", Text, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
)

# --- to the homeserver ---

outbox = Table(
    "outbox",
    metadata,
    Column("id", Sequence, primary_key=True, autoincrement=True),
    Column("page", Text, ForeignKey("page.id")),
    Column("destination", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("event_type", Text, nullable=False),
    Column("lane", Integer, nullable=False),
    Column("urgency", Integer, nullable=False),
    Column("target", Text),
    Column("target_event", Text),
    Column("data_key", Text),
    Column("sealed", LargeBinary),
    Column("txn_id", Text, nullable=False, unique=True),
    Column("wire_type", Text),
    Column("wire_content", Text),
    Column("session_id", Text),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("not_before", Instant, nullable=False),
    Column("error", Text),
    Column("room", Text),
    Column("event", Text),
    Column("created_at", Instant, nullable=False),
    Column("sent_at", Instant),
)
_loose = outbox.c.page.is_(None)
Index("ix_outbox_loose", outbox.c.created_at, sqlite_where=_loose, postgresql_where=_loose)
Index("ix_outbox_event", outbox.c.event)
_keyed = outbox.c.data_key.is_not(None)
Index("ix_outbox_data_key", outbox.c.data_key, sqlite_where=_keyed, postgresql_where=_keyed)
Index("ix_outbox_page", outbox.c.page)
Index(
    "ix_outbox_todo",
    outbox.c.destination,
    outbox.c.lane,
    outbox.c.id,
    sqlite_where=outbox.c.state.in_(["todo", "encrypted"]),
    postgresql_where=outbox.c.state.in_(["todo", "encrypted"]),
)

room = Table(
    "room",
    metadata,
    Column("destination", Text, primary_key=True),
    Column("room_id", Text, nullable=False, unique=True),
    Column("created_at", Instant, nullable=False),
)

session_recipient = Table(
    "session_recipient",
    metadata,
    Column("session_id", Text, primary_key=True),
    Column("user_id", Text, primary_key=True),
    Column("device_id", Text, primary_key=True),
    Column("identity_key", Text, nullable=False),
    Column("room_id", Text, nullable=False, index=True),
    Column("outcome", Text, nullable=False),
    Column("at", Instant, nullable=False),
)

# --- from the homeserver ---

sync_position = Table(
    "sync_position",
    metadata,
    Column("device", Text, primary_key=True),
    Column("next_batch", Text, nullable=False),
)

member = Table(
    "member",
    metadata,
    Column("room_id", Text, primary_key=True),
    Column("user_id", Text, primary_key=True),
    Column("membership", Text, nullable=False),
    Column("power", Integer),
    Column("joined_at", Instant),  # for the last time; None if they never did while we looked
)

# Up to which event somebody has read a room, until it is known which pages that covers.
read_receipt = Table(
    "read_receipt",
    metadata,
    Column("room_id", Text, primary_key=True),
    Column("user_id", Text, primary_key=True),
    Column("event_id", Text, nullable=False),
    Column("received_at", Instant, nullable=False),
)

room_state = Table(
    "room_state",
    metadata,
    Column("room_id", Text, primary_key=True),
    Column("type", Text, primary_key=True),
    Column("content", JSON, nullable=False),
)

inbound = Table(
    "inbound",
    metadata,
    Column("seq", Sequence, primary_key=True, autoincrement=True),
    Column("event_id", Text, nullable=False, unique=True),
    Column("room_id", Text, nullable=False),
    Column("sender", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("content", JSON, nullable=False),
    Column("about", Text, index=True),
    Column("sent_at", Instant, nullable=False),
    Column("received_at", Instant, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
)
_kept = inbound.c.state != "destroyed"
Index("ix_inbound_alive", inbound.c.received_at, sqlite_where=_kept, postgresql_where=_kept)
Index(
    "ix_inbound_todo",
    inbound.c.seq,
    sqlite_where=inbound.c.state == "todo",
    postgresql_where=inbound.c.state == "todo",
)

# A file that a person put into a room, by its address at the homeserver: it goes with the message.
room_file = Table(
    "room_file",
    metadata,
    Column("event_id", Text, ForeignKey("inbound.event_id"), primary_key=True),
    Column("mxc", Text, primary_key=True, index=True),
)

device_message = Table(
    "device_message",
    metadata,
    Column("seq", Sequence, primary_key=True, autoincrement=True),
    Column("kind", Text, nullable=False),
    Column("content", JSON, nullable=False),
)

identity_alert = Table(
    "identity_alert",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("master_key", Text, primary_key=True),
    Column("reported_at", Instant, nullable=False),
    Column("approved", Boolean, nullable=False),
)

# --- the end of content ---

hold = Table(
    "hold",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("value", Text, nullable=False),
    Column("start_at", Instant),
    Column("until", Instant),
    Column("sealed_reason", LargeBinary, nullable=False),
    Column("placed_by", Text, nullable=False),
    Column("placed_at", Instant, nullable=False),
    Column("lifted_by", Text),
    Column("lifted_at", Instant),
)

destruction = Table(
    "destruction",
    metadata,
    Column("id", Text, primary_key=True),
    Column("page", Text, index=True),
    Column("facts", JSON, nullable=False),
    Column("at", Instant, nullable=False),
    Column("certificate", Text),
)
_unproved = destruction.c.certificate.is_(None)
Index("ix_destruction_todo", destruction.c.at, sqlite_where=_unproved, postgresql_where=_unproved)

erasure = Table(
    "erasure",
    metadata,
    Column("id", Sequence, primary_key=True, autoincrement=True),
    Column("destruction", Text, ForeignKey("destruction.id"), nullable=False, index=True),
    Column("room", Text, nullable=False),
    Column("event", Text, nullable=False, unique=True),
    Column("redaction", Text),
    Column("state", Text, nullable=False),
)
_waiting = erasure.c.state == "todo"
Index("ix_erasure_todo", erasure.c.id, sqlite_where=_waiting, postgresql_where=_waiting)
