"""Twilio's signature, compared with Twilio's own SDK."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict
from twilio.request_validator import RequestValidator

from bridge.channels.channel import Request
from bridge.channels.forms import form_fields
from bridge.channels.twilio import is_signed
from bridge.model.phi import Phi

CAPTURED = json.loads((Path(__file__).parent / "captures" / "twilio_signed_requests.json").read_text())
TOKEN = "a token with ünïcode"

text = st.text(st.characters(codec="utf-8"))
word = st.from_regex("[a-z]{1,8}", fullmatch=True)
fields = st.lists(st.tuples(text, text | st.sampled_from(["", "+", "&", "=", "%"])), max_size=8)
origins = st.builds(
    "{}://{}{}".format,
    st.sampled_from(["https", "http"]),
    st.sampled_from(["bridge.example", "xn--bcher-kva.example", "10.0.0.1"]),
    st.sampled_from(["", ":443", ":80", ":8443"]),
)
# Without a bare "?", which the SDK drops.
targets = st.builds("/intake/{}{}".format, word, st.sampled_from(["", "?a=b", "?b=%41&a=+", "?x=:80"]))


def form(target: str, body: str, headers: dict[str, str]) -> Request:
    content = {"Content-Type": "application/x-www-form-urlencoded; charset=UTF-8"}
    return Request(target, content | headers, Phi(body.encode()))


def accepts(request: Request, origin: str, *tokens: str) -> bool:
    return is_signed(request, form_fields(request), origin, tokens)


@pytest.mark.parametrize("case", CAPTURED["cases"], ids=["form", "json"])
def test_captured_requests_are_signed(case: dict[str, str | dict[str, str]]) -> None:
    origin, slash, target = str(case["url"]).partition("/twilio")
    signature = {"X-Twilio-Signature": str(case["X-Twilio-Signature"])}
    if isinstance(params := case.get("params"), dict):
        request = form(slash + target, urlencode(params), signature)
    else:
        headers = {"Content-Type": "application/json"} | signature
        request = Request(slash + target, headers, Phi(str(case["body"]).encode()))
    assert accepts(request, origin, CAPTURED["auth_token"])


@given(origins, targets, fields, st.sampled_from(["HMAC_SHA1", "HMAC_SHA256"]))
def test_what_the_sdk_signs_is_accepted(
    origin: str, target: str, sent: list[tuple[str, str]], algorithm: str
) -> None:
    signature = RequestValidator(TOKEN).compute_signature(origin + target, MultiDict(sent), algorithm)
    settings = f"key=webhooks_1, algorithm={algorithm}"
    headers = {"X-Twilio-Signature": signature, "X-Twilio-Webhooks-Signature-Settings": settings}
    assert accepts(form(target, urlencode(sent), headers), origin, "another token", TOKEN)


@given(origins, origins, targets, fields, fields)
def test_requests_are_accepted_exactly_when_the_sdk_accepts_them(
    signed_origin: str, origin: str, target: str, signed: list[tuple[str, str]], sent: list[tuple[str, str]]
) -> None:
    validator = RequestValidator(TOKEN)
    signature = validator.compute_signature(signed_origin + target, MultiDict(signed))
    for params in (signed, sent):
        request = form(target, urlencode(params), {"X-Twilio-Signature": signature})
        expected = validator.validate(origin + target, MultiDict(params), signature)
        assert accepts(request, origin, TOKEN) == expected


@given(origins, st.text(), st.text())
def test_a_body_that_is_no_form_is_accepted_exactly_when_the_sdk_accepts_it(
    origin: str, hashed: str, sent: str
) -> None:
    hashed, sent = (each.encode(errors="replace").decode() for each in (hashed, sent))
    target = f"/intake/door?bodySHA256={hashlib.sha256(hashed.encode()).hexdigest()}"
    validator = RequestValidator(TOKEN)
    headers = {"X-Twilio-Signature": validator.compute_signature(origin + target, {})}
    for body in (hashed, sent):
        expected = validator.validate(origin + target, body, headers["X-Twilio-Signature"])
        assert accepts(Request(target, headers, Phi(body.encode())), origin, TOKEN) == expected


@given(fields, st.text())
def test_a_signature_of_any_text_is_refused(sent: list[tuple[str, str]], signature: str) -> None:
    given_signature = signature.encode(errors="replace").decode()
    request = form("/intake/door", urlencode(sent), {"X-Twilio-Signature": given_signature})
    assert not accepts(request, "https://bridge.example", TOKEN)


def test_an_unknown_algorithm_is_refused() -> None:
    signature = RequestValidator(TOKEN).compute_signature("https://bridge.example/intake/door", {})
    settings = "key=webhooks_1,algorithm=HMAC_MD5"
    headers = {"X-Twilio-Signature": signature, "X-Twilio-Webhooks-Signature-Settings": settings}
    assert not accepts(form("/intake/door", "", headers), "https://bridge.example", TOKEN)


def test_the_port_of_an_ipv6_address_may_be_left_out_or_given() -> None:
    for signed_origin in ("https://[2001:db8::1]", "https://[2001:db8::1]:443"):
        for origin in ("https://[2001:db8::1]", "https://[2001:db8::1]:443"):
            signature = RequestValidator(TOKEN).compute_signature(f"{signed_origin}/intake/door", {})
            request = form("/intake/door", "", {"X-Twilio-Signature": signature})
            assert accepts(request, origin, TOKEN)
