"""The clinician's own encrypted client: matrix-nio, and the cross-signing that it lacks."""

import json
import logging
import time
from dataclasses import dataclass, replace
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import nio
from nio.crypto.attachments import encrypt_attachment

from testbed.identity import Identity
from testbed.listener import Listener

Json = dict[str, Any]

# It complains of every key that a second run is sent again.
logging.getLogger("nio").setLevel(logging.CRITICAL)

# Everything of a burst in one answer: a limited timeline would look like lost messages.
FILTER = {"presence": {"limit": 0}, "room": {"timeline": {"limit": 1000}}}


class ClinicianError(Exception):
    """The homeserver refused what the clinician's client asked for."""


@dataclass(frozen=True)
class Message:
    """A message as she sees it: decrypted, with its latest edit."""

    room_id: str
    event_id: str
    sender: str
    content: Json
    sent_ms: int
    seen: float
    """When her client had decrypted it first, on time.monotonic()."""
    edits: int = 0

    @property
    def body(self) -> str:
        return str(self.content.get("body", ""))


@dataclass(frozen=True)
class Reaction:
    room_id: str
    event_id: str
    sender: str
    target: str
    key: str


class Clinician(Listener):
    """One person at one device, which is reused by a second run with the same store.

    With ``signed=False`` the device stays unsigned, as a client that knows no cross-signing leaves it.
    """

    def __init__(
        self, base_url: str, user_id: str, password: str, store: Path, *, signed: bool = True
    ) -> None:
        super().__init__()
        self.user_id = user_id
        self.redacted: set[str] = set()
        self._password = password
        self._store = store
        self._signed = signed
        self._messages: dict[str, Message] = {}
        self._edits: dict[str, list[Message]] = {}
        self._reactions: dict[str, Reaction] = {}
        self._locked: dict[str, nio.MegolmEvent] = {}
        self._withheld: dict[str, str] = {}
        store.mkdir(parents=True, exist_ok=True)
        self.client = nio.AsyncClient(
            base_url,
            user_id,
            store_path=str(store),
            config=nio.AsyncClientConfig(
                store_name="nio.db", request_timeout=30, max_timeout_retry_wait_time=1, backoff_factor=0.1
            ),
        )
        self.client.add_event_callback(self._on_event, nio.Event)
        self.client.add_event_callback(self._on_invite, nio.InviteMemberEvent)
        self.client.add_to_device_callback(self._on_to_device, nio.UnknownToDeviceEvent)
        self.client.add_response_callback(self._on_sync, nio.SyncResponse)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        await self._log_in()
        if self.client.should_upload_keys:
            _checked(await self.client.keys_upload())
        if self._signed:
            await self._publish_identity()
        self._listen(self.client.sync_forever(timeout=20_000, sync_filter=FILTER))

    async def stop(self) -> None:
        await self._stop_listening()
        await self.client.close()

    async def logout(self) -> None:
        """Give the device up; the next start with this store makes another, signed by the same identity."""
        await self._stop_listening()
        _checked(await self.client.logout())
        for name in ("session.json", "nio.db"):
            (self._store / name).unlink()

    async def replace_identity(self) -> None:
        """What *reset identity* in Element does; whoever trusted the old one has to look again."""
        (self._store / "identity.json").unlink(missing_ok=True)
        await self._publish_identity()

    @property
    def device_id(self) -> str:
        return str(self.client.device_id)

    @property
    def rooms(self) -> set[str]:
        """The rooms she has joined."""
        return set(self.client.rooms)

    @property
    def messages(self) -> list[Message]:
        """In the order they came; without what was redacted."""
        return [
            self._edited(message)
            for message in self._messages.values()
            if message.event_id not in self.redacted
        ]

    @property
    def reactions(self) -> list[Reaction]:
        return [reaction for reaction in self._reactions.values() if reaction.event_id not in self.redacted]

    @property
    def undecryptable(self) -> list[str]:
        """Ids of the events her device has no key for (yet)."""
        return list(self._locked)

    @property
    def sessions(self) -> set[str]:
        """Ids of the Megolm sessions whose keys her device was given."""
        return {session.id for session in self.client.olm.inbound_group_store}

    @property
    def rooms_with_keys(self) -> set[str]:
        """The rooms of which her device was given a key."""
        return {session.room_id for session in self.client.olm.inbound_group_store}

    @property
    def withheld(self) -> dict[str, str]:
        """Sessions whose keys her device was refused, and the code of the reason."""
        return dict(self._withheld)

    async def session_of(self, message: Message) -> str:
        """The Megolm session that a message was encrypted in."""
        _, event = await self.request("GET", f"/rooms/{message.room_id}/event/{message.event_id}")
        return str(event["content"]["session_id"])

    async def message(self, text: str, timeout: float = 30) -> Message:
        """Wait for a message that contains the text."""
        return await self.wait_for(lambda: next((m for m in self.messages if text in m.body), None), timeout)

    async def entrusted(self) -> None:
        """Wait until her device has been given the key of a session: whoever encrypts knows it now."""
        await self.wait_for(lambda: self.sessions)

    async def say(
        self, room_id: str, text: str, *, in_reply_to: str | None = None, thread: str | None = None
    ) -> str:
        """Send an encrypted text; gives its event id."""
        content: Json = {"msgtype": "m.text", "body": text}
        relation: Json = {}
        if thread:
            relation |= {"rel_type": "m.thread", "event_id": thread}
        if in_reply_to:
            relation |= {"m.in_reply_to": {"event_id": in_reply_to}}
        if relation:
            content["m.relates_to"] = relation
        return await self._send(room_id, "m.room.message", content)

    async def show(self, room_id: str, picture: bytes, *, thread: str) -> tuple[str, str]:
        """Send an encrypted picture; gives its event id and its address at the homeserver."""
        ciphertext, file = encrypt_attachment(picture)
        uploaded, _ = await self.client.upload(
            lambda _again, _after: BytesIO(ciphertext), "application/octet-stream", filesize=len(ciphertext)
        )
        mxc = str(_checked(uploaded).content_uri)
        content = {
            "msgtype": "m.image",
            "body": "picture.png",
            "info": {"mimetype": "image/png", "size": len(picture)},
            "file": {**file, "url": mxc},
            "m.relates_to": {"rel_type": "m.thread", "event_id": thread},
        }
        return await self._send(room_id, "m.room.message", content), mxc

    async def edit(self, event_id: str, text: str) -> str:
        """Replace the text of a message of hers; gives the edit's event id."""
        new = {"msgtype": "m.text", "body": text}
        relation = {"rel_type": "m.replace", "event_id": event_id}
        message = await self.wait_for(lambda: self._messages.get(event_id))
        content = new | {"body": f"* {text}", "m.new_content": new, "m.relates_to": relation}
        return await self._send(message.room_id, "m.room.message", content)

    async def react(self, event_id: str, key: str) -> str:
        """Tap a reaction under a message; like all reactions it is not encrypted."""
        relation = {"rel_type": "m.annotation", "event_id": event_id, "key": key}
        room_id = self._messages[event_id].room_id
        return await self._send(room_id, "m.reaction", {"m.relates_to": relation})

    async def read(self, event_id: str) -> None:
        """What her client does by itself once she has looked at a message: tell that she has read up to it."""
        room_id = self._messages[event_id].room_id
        _checked(await self.client.update_receipt_marker(room_id, event_id))

    async def create_room(self, *invited: str) -> str:
        """A private encrypted room; gives its id."""
        encryption = {
            "type": "m.room.encryption",
            "state_key": "",
            "content": {"algorithm": "m.megolm.v1.aes-sha2"},
        }
        response = await self.client.room_create(invite=invited, initial_state=[encryption])
        room_id = str(_checked(response).room_id)
        await self.wait_for(lambda: room_id in self.rooms)
        return room_id

    async def leave(self, room_id: str) -> None:
        _checked(await self.client.room_leave(room_id))

    async def _send(self, room_id: str, kind: str, content: Json) -> str:
        await self.wait_for(lambda: room_id in self.rooms)
        if self.client.should_query_keys:
            _checked(await self.client.keys_query())
        response = await self.client.room_send(room_id, kind, content, ignore_unverified_devices=True)
        return str(_checked(response).event_id)

    async def _log_in(self) -> None:
        session = self._store / "session.json"
        if session.exists():
            known = json.loads(session.read_text())
            self.client.restore_login(self.user_id, known["device_id"], known["access_token"])
            return
        answer = _checked(await self.client.login(self._password, device_name="clinician"))
        session.write_text(json.dumps({"device_id": answer.device_id, "access_token": answer.access_token}))

    async def _publish_identity(self) -> None:
        """Make the identity unless this store has one, and sign this device with it."""
        path = self._store / "identity.json"
        if path.exists():
            identity = Identity.load(path)
        else:
            identity = Identity.generate()
            await self._post("/keys/device_signing/upload", identity.public_keys(self.user_id))
            identity.save(path)
        found = await self._post("/keys/query", {"device_keys": {self.user_id: [self.device_id]}})
        device_keys = found["device_keys"][self.user_id][self.device_id]
        device_keys.pop("unsigned", None)
        signed = identity.sign_device(self.user_id, device_keys)
        await self._post("/keys/signatures/upload", {self.user_id: {self.device_id: signed}})

    async def request(self, method: str, path: str, body: Json | None = None) -> tuple[int, Json]:
        """A request of the client-server API that nio has no method for."""
        headers = {"Authorization": f"Bearer {self.client.access_token}"}
        data = None if body is None else json.dumps(body)
        response = await self.client.send(method, f"/_matrix/client/v3{path}", data, headers)
        return response.status, await response.json()

    async def _post(self, path: str, body: Json) -> Json:
        """Where the server asks for the password, it gets it."""
        status, answer = await self.request("POST", path, body)
        if status == HTTPStatus.UNAUTHORIZED and "session" in answer:
            proof = {
                "type": "m.login.password",
                "identifier": {"type": "m.id.user", "user": self.user_id},
                "password": self._password,
                "session": answer["session"],
            }
            status, answer = await self.request("POST", path, body | {"auth": proof})
        if status != HTTPStatus.OK or answer.get("failures"):
            raise ClinicianError(f"{path}: {status} {answer}")
        return answer

    async def _on_invite(self, room: nio.MatrixRoom, event: nio.InviteMemberEvent) -> None:
        if event.membership == "invite" and event.state_key == self.user_id:
            _checked(await self.client.join(room.room_id))

    async def _on_to_device(self, event: nio.UnknownToDeviceEvent) -> None:
        if event.type == "m.room_key.withheld":
            content = event.source["content"]
            self._withheld[content["session_id"]] = content["code"]

    async def _on_event(self, room: nio.MatrixRoom, event: nio.Event) -> None:
        if isinstance(event, nio.MegolmEvent):
            event.room_id = room.room_id
            self._locked[event.event_id] = event
        else:
            self._take(room.room_id, event)

    async def _on_sync(self, response: nio.SyncResponse) -> None:
        """Two things that nio leaves to its user: rooms left behind, and keys that come after the message."""
        for room_id in response.rooms.leave:
            self.client.rooms.pop(room_id, None)
        for event_id, event in list(self._locked.items()):
            try:
                opened = self.client.decrypt_event(event)
            except nio.EncryptionError:
                continue
            del self._locked[event_id]
            self._take(event.room_id, opened)
        self._heard.set()

    def _take(self, room_id: str, event: nio.Event) -> None:
        content: Json = event.source.get("content", {})
        relation: Json = content.get("m.relates_to", {})
        match event.source.get("type"):
            case _ if isinstance(event, nio.RedactedEvent):
                self.redacted.add(event.event_id)
            case "m.room.redaction":
                self.redacted.add(event.source.get("redacts") or content["redacts"])
            case "m.reaction":
                reaction = Reaction(
                    room_id, event.event_id, event.sender, relation["event_id"], relation["key"]
                )
                self._reactions[event.event_id] = reaction
            case "m.room.message":
                message = Message(
                    room_id, event.event_id, event.sender, content, event.server_timestamp, time.monotonic()
                )
                if relation.get("rel_type") == "m.replace":
                    self._edits.setdefault(relation["event_id"], []).append(message)
                else:
                    self._messages[event.event_id] = message

    def _edited(self, message: Message) -> Message:
        edits = [
            edit
            for edit in self._edits.get(message.event_id, ())
            if edit.sender == message.sender and edit.event_id not in self.redacted
        ]
        if not edits:
            return message
        latest = max(edits, key=lambda edit: edit.sent_ms)
        return replace(message, content=latest.content["m.new_content"], edits=len(edits))


def _checked(response: Any) -> Any:
    if isinstance(response, nio.ErrorResponse):
        raise ClinicianError(str(response))
    return response
