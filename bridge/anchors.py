"""Where the ledger's signatures are kept that whoever changes its database can't change as well."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import ClassVar

import aiohttp
from cryptography import x509
from rfc3161_client import (
    TimestampRequestBuilder,
    VerificationError,
    VerifierBuilder,
    decode_timestamp_response,
)

from bridge.config.nightbell import Ledger
from bridge.model.doors import Anchor
from bridge.model.errors import AnchorError

TIMEOUT = aiohttp.ClientTimeout(total=30)
LARGEST_ANSWER = 64 * 1024  # bytes; a time stamp with its certificates has a few thousand


@dataclass(frozen=True, slots=True)
class FileAnchor:
    """A file, each signature a line."""

    kind: ClassVar[str] = "file"

    path: Path

    async def keep(self, line: str) -> None:
        """Add the line. Raises AnchorError."""
        try:
            await asyncio.to_thread(self._append, line)
        except OSError as error:
            raise AnchorError(f"{self.path} can't be written to: {error.strerror}") from error

    def _append(self, line: str) -> None:
        with self.path.open("a", encoding="utf-8") as lines:
            lines.write(line + "\n")


@dataclass(frozen=True, slots=True)
class TimestampAnchor:
    """A time stamping authority (RFC 3161): it sees a hash, and vouches for when it saw it."""

    kind: ClassVar[str] = "timestamp"

    url: str
    certificates: Path

    async def keep(self, line: str) -> bytes:
        """Have the line stamped. Returns the answer (DER) for whoever verifies it. Raises AnchorError."""
        message = line.encode()
        request = TimestampRequestBuilder().data(message).nonce(nonce=True).cert_request(cert_request=True)
        built = request.build()
        answer = await self._ask(built.as_bytes())
        certificates = await asyncio.to_thread(read_certificates, self.certificates)
        stamped_at(answer, message, certificates, nonce=built.nonce)
        return answer

    async def _ask(self, request: bytes) -> bytes:
        headers = {"Content-Type": "application/timestamp-query"}
        try:
            async with (
                aiohttp.ClientSession(timeout=TIMEOUT) as session,
                session.post(self.url, data=request, headers=headers) as response,
            ):
                answer = await response.content.read(LARGEST_ANSWER)
                status = response.status
        except (aiohttp.ClientError, TimeoutError) as error:
            raise AnchorError(f"{self.url} does not answer ({type(error).__name__})") from None
        if status != HTTPStatus.OK:
            raise AnchorError(f"{self.url} answers {status}")
        return answer


def open_anchors(settings: Ledger) -> tuple[Anchor, ...]:
    """The anchors that nightbell.yaml names."""
    file = FileAnchor(settings.anchor) if settings.anchor is not None else None
    authority = settings.timestamps
    stamps = TimestampAnchor(authority.url, authority.certificates) if authority is not None else None
    return tuple(anchor for anchor in (file, stamps) if anchor is not None)


def read_certificates(path: Path) -> list[x509.Certificate]:
    """The authority's certificates, the root among them. Raises AnchorError."""
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise AnchorError(f"{path} can't be read: {error.strerror}") from error
    except ValueError:
        raise AnchorError(f"{path} holds no certificates in PEM form") from None


def stamped_at(
    answer: bytes, message: bytes, certificates: list[x509.Certificate], *, nonce: int | None = None
) -> datetime:
    """When a message was stamped. Raises AnchorError unless the answer is a stamp of it by this authority."""
    builder = VerifierBuilder(
        roots=[one for one in certificates if one.issuer == one.subject],
        intermediates=[one for one in certificates if one.issuer != one.subject],
        nonce=nonce,
    )
    try:
        response = decode_timestamp_response(answer)
        builder.build().verify_message(response, message)
    except (VerificationError, ValueError) as error:
        raise AnchorError(f"this is no time stamp by the authority: {error}") from None
    return response.tst_info.gen_time
