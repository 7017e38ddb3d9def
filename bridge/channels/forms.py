"""What providers that post forms have in common: the fields, and the URL that they sign."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

from bridge.channels.channel import Request

FORM = "application/x-www-form-urlencoded"

Fields = list[tuple[str, str]]


def form_fields(request: Request) -> Fields | None:
    """The fields of a form, in their order; None if the body is no form.

    Bytes that are not UTF-8 become surrogates, so that the signature is compared over what was sent.
    """
    content_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if content_type != FORM:
        return None
    body = request.body.reveal().decode(errors="surrogateescape")
    return parse_qsl(body, keep_blank_values=True, errors="surrogateescape")


def readable(fields: Fields | None) -> dict[str, str]:
    """The fields by name, as text that can be stored."""
    return {_stored(name): _stored(value) for name, value in fields or []}


def _stored(text: str) -> str:
    return signed_bytes(text).decode(errors="replace")


def signed_bytes(text: str) -> bytes:
    """A text as it was sent."""
    return text.encode(errors="surrogateescape")


def spellings(url: str) -> tuple[str, str]:
    """A URL with its port and without it."""
    parts = urlsplit(url)
    host, colon, port = parts.netloc.rpartition(":")
    if not colon or not port.isdecimal():  # the colons of an IPv6 address stand before its bracket
        host, port = parts.netloc, "443" if parts.scheme == "https" else "80"
    path = url[len(f"{parts.scheme}://{parts.netloc}") :]
    return f"{parts.scheme}://{host}:{port}{path}", f"{parts.scheme}://{host}{path}"
