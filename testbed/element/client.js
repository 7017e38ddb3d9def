// A Matrix client with Element Web's own crypto. It obeys one JSON request per line of stdin and writes to stdout one
// JSON answer per request, and one report per event whenever the way a person would see that event has changed.

import { createInterface } from "node:readline";

import * as sdk from "matrix-js-sdk";
import {
  AllDevicesIsolationMode,
  EventShieldColour,
  EventShieldReason,
  OnlySignedDevicesIsolationMode,
} from "matrix-js-sdk/lib/crypto-api/index.js";

// stdout is the wire, so what the SDK logs goes to stderr.
console.log = console.info = console.debug = console.trace = console.error;

const FEW_SYNCS = 1000; // js-sdk leaves the server's limit of 10, where a burst looks like lost messages
let client;
let password;

function write(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

async function report(event) {
  const locked = event.isEncrypted() && !event.isRedacted();
  if (locked && !event.getClearContent() && !event.isDecryptionFailure()) {
    return; // not tried yet: reported once it is
  }
  const encryption = locked ? await client.getCrypto().getEncryptionInfoForEvent(event) : null;
  write({
    event: {
      event_id: event.getId(),
      room_id: event.getRoomId(),
      sender: event.getSender(),
      type: event.getType(),
      content: event.getContent(),
      relation: event.getRelation() ?? {},
      encrypted: event.isEncrypted(),
      edited: Boolean(event.replacingEvent()),
      redacted: event.isRedacted(),
      shield: encryption && EventShieldColour[encryption.shieldColour].toLowerCase(),
      shield_reason: encryption?.shieldReason == null ? null : EventShieldReason[encryption.shieldReason],
      failure: event.isDecryptionFailure() ? event.decryptionFailureReason : null,
    },
  });
}

function isSent(event) {
  return event.getId().startsWith("$");
}

async function withPassword(makeRequest) {
  try {
    await makeRequest(null);
  } catch (error) {
    const identifier = { type: "m.id.user", user: client.getUserId() };
    await makeRequest({ type: "m.login.password", identifier, password, session: error.data.session });
  }
}

function findEvent(eventId) {
  for (const room of client.getRooms()) {
    const event = room.findEventById(eventId);
    if (event) return event;
  }
  throw new Error(`no event ${eventId}`);
}

const methods = {
  async start({ base_url: baseUrl, user_id: userId, password: secret, only_signed: onlySigned }) {
    password = secret;
    const login = await sdk.createClient({ baseUrl }).loginRequest({
      type: "m.login.password",
      identifier: { type: "m.id.user", user: userId },
      password,
      initial_device_display_name: "element",
    });
    client = sdk.createClient({
      baseUrl,
      userId: login.user_id,
      deviceId: login.device_id,
      accessToken: login.access_token,
    });
    await client.initRustCrypto({ useIndexedDB: false });
    const mode = onlySigned ? new OnlySignedDevicesIsolationMode() : new AllDevicesIsolationMode(false);
    client.getCrypto().setDeviceIsolationMode(mode);

    client.on(sdk.RoomEvent.Timeline, (event) => {
      if (!isSent(event)) return;
      event.on(sdk.MatrixEventEvent.Replaced, () => report(event));
      client.decryptEventIfNeeded(event);
      report(event);
    });
    client.on(sdk.RoomEvent.Redaction, (redaction, room) => {
      const event = room.findEventById(redaction.getAssociatedId());
      if (event) report(event);
    });
    client.on(sdk.MatrixEventEvent.Decrypted, report);
    client.on(sdk.RoomMemberEvent.Membership, (_event, member) => {
      if (member.userId === userId && member.membership === "invite") client.joinRoom(member.roomId);
    });

    const prepared = new Promise((resolve) => {
      client.on(sdk.ClientEvent.Sync, (state) => state === "PREPARED" && resolve());
    });
    const filter = new sdk.Filter(userId);
    filter.setTimelineLimit(FEW_SYNCS);
    await client.startClient({ initialSyncLimit: 100, filter });
    await prepared;
    await client.getCrypto().bootstrapCrossSigning({
      authUploadDeviceSigningKeys: withPassword,
      setupNewCrossSigning: true,
    });
    return { device_id: login.device_id };
  },

  async say({ room_id: roomId, text, in_reply_to: inReplyTo }) {
    const relation = inReplyTo ? { "m.relates_to": { "m.in_reply_to": { event_id: inReplyTo } } } : {};
    return (await client.sendMessage(roomId, { msgtype: "m.text", body: text, ...relation })).event_id;
  },

  async react({ event_id: eventId, key }) {
    const relation = { rel_type: "m.annotation", event_id: eventId, key };
    return (await client.sendEvent(findEvent(eventId).getRoomId(), "m.reaction", { "m.relates_to": relation })).event_id;
  },

  async mark_read({ event_id: eventId }) {
    await client.sendReadReceipt(findEvent(eventId));
  },

  async create_room({ invited }) {
    const encryption = { type: "m.room.encryption", state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } };
    return (await client.createRoom({ invite: invited, initial_state: [encryption] })).room_id;
  },

  // Matrix spec, "Sending encrypted attachments", by the browser's own crypto, as Element does it.
  async download({ event_id: eventId }) {
    const { file } = findEvent(eventId).getContent();
    const url = client.mxcUrlToHttp(file.url, undefined, undefined, undefined, true, true, true);
    const response = await fetch(url, { headers: { Authorization: `Bearer ${client.getAccessToken()}` } });
    if (!response.ok) throw new Error(`the homeserver answers ${response.status}`);
    const ciphertext = await response.arrayBuffer();
    const digest = Buffer.from(await crypto.subtle.digest("SHA-256", ciphertext));
    if (!digest.equals(Buffer.from(file.hashes.sha256, "base64"))) throw new Error("the hash is another one");
    const key = await crypto.subtle.importKey("jwk", file.key, "AES-CTR", false, ["decrypt"]);
    const counter = Buffer.from(file.iv, "base64");
    const content = await crypto.subtle.decrypt({ name: "AES-CTR", counter, length: 64 }, key, ciphertext);
    return {
      content: Buffer.from(content).toString("base64"),
      stored_as: response.headers.get("content-type"),
      named: response.headers.get("content-disposition"),
    };
  },

  async joined_rooms() {
    return client.getRooms().filter((room) => room.getMyMembership() === "join").map((room) => room.roomId);
  },

  async sessions() {
    return (await client.getCrypto().exportRoomKeys()).map((key) => key.session_id);
  },

  async identity_of({ user_id: userId }) {
    const known = await client.getCrypto().userHasCrossSigningKeys(userId);
    const { needsUserApproval } = await client.getCrypto().getUserVerificationStatus(userId);
    return { known, changed: needsUserApproval };
  },

  async stop() {
    await client?.logout(true);
    client?.stopClient();
  },
};

async function answer({ id, method, params }) {
  try {
    write({ id, result: (await methods[method](params)) ?? null });
  } catch (error) {
    write({ id, error: String(error?.stack ?? error) });
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  const answered = answer(request);
  if (request.method === "stop") {
    await answered;
    break;
  }
}
process.exit(0);
