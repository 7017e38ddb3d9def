"""Files at the homeserver (`bridge.model.doors.MediaRepository`): ciphertext without a name or a type."""

from __future__ import annotations

import json
from http import HTTPStatus
from urllib.parse import quote

from aiohttp import ClientError
from mautrix.api import Method
from mautrix.crypto.attachments import decrypt_attachment, encrypt_attachment
from yarl import URL

from bridge.matrix import budget
from bridge.matrix.homeserver import Homeserver, errors_of
from bridge.model.doors import EncryptedFile
from bridge.model.errors import HomeserverError
from bridge.model.phi import Phi

# An address is valid for a day before something is uploaded there (Matrix spec, 'Content repository').
EXPIRED = ("M_NOT_FOUND", "M_FORBIDDEN")
UPLOADED = "M_CANNOT_OVERWRITE_MEDIA"


class MatrixRepository:
    """Uploads to an address that was made before, so that an upload is never made twice."""

    def __init__(self, homeserver: Homeserver) -> None:
        self._homeserver = homeserver

    def encrypt_file(self, content: Phi[bytes]) -> EncryptedFile:
        """AES-CTR under a key of its own (Matrix spec, 'Sending encrypted attachments')."""
        ciphertext, opening = encrypt_attachment(content.reveal())
        document = {name: value for name, value in opening.serialize().items() if name != "url"}
        return EncryptedFile(ciphertext, Phi(json.dumps(document).encode()))

    def decrypt_file(self, file: EncryptedFile) -> Phi[bytes]:
        """Check the hash, and decrypt."""
        opening = json.loads(file.opening.reveal())
        return Phi(
            decrypt_attachment(
                file.ciphertext, opening["key"]["k"], opening["hashes"]["sha256"], opening["iv"]
            )
        )

    async def reserve_file(self) -> str:
        """Make an address (Matrix spec, `POST /_matrix/media/v1/create`)."""
        answer = await self._homeserver.request(Method.POST, "_matrix/media/v1/create", {})
        return str(answer["content_uri"])

    async def upload_file(self, mxc: str, ciphertext: bytes) -> bool:
        """Upload there (`PUT /_matrix/media/v3/upload/{serverName}/{mediaId}`)."""
        headers = {"Content-Type": "application/octet-stream"}
        try:
            async with errors_of("PUT _matrix/media/v3/upload"):
                await self._homeserver.client.api.request(
                    Method.PUT, f"_matrix/media/v3/upload/{_place(mxc)}", ciphertext, headers
                )
        except HomeserverError as error:
            if error.code == UPLOADED:
                return True
            if error.code in EXPIRED:
                return False
            raise
        return True

    async def download_file(self, mxc: str) -> bytes | None:
        """What is there (Matrix spec, `GET /_matrix/client/v1/media/download`); None if nothing is."""
        path = f"_matrix/client/v1/media/download/{_place(mxc)}"
        what = "GET _matrix/client/v1/media/download"
        budget.check("GET", path, None)
        api = self._homeserver.client.api
        url = URL(f"{str(api.base_url).rstrip('/')}/{path}", encoded=True)
        headers = {"Authorization": f"Bearer {api.token}"}
        try:
            async with (
                errors_of(what),
                api.session.get(url, headers=headers, params={"user_id": self._homeserver.bot}) as answer,
            ):
                if answer.status == HTTPStatus.NOT_FOUND:
                    return None
                if answer.status != HTTPStatus.OK:
                    message = f"{what}: the homeserver answers {answer.status}"
                    raise HomeserverError(message, retry=answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR)
                return await answer.read()
        except ClientError as error:
            message = f"{what}: the homeserver does not answer ({type(error).__name__}); is it running?"
            raise HomeserverError(message, retry=True) from None


def _place(mxc: str) -> str:
    return "/".join(quote(part, safe="") for part in mxc.removeprefix("mxc://").split("/"))
