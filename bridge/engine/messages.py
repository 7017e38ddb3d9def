"""Content of Matrix messages, from the texts that policy writes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from bridge.model.phi import Phi
from bridge.policy.rendering import LONGEST, PageText, as_html, shortened

LONGEST_MESSAGE = 2 * LONGEST  # what is left is room for names, numbers and mentions


def message(text: PageText) -> Phi[bytes]:
    """An `m.room.message`. A routine one is a notice, which rings nobody's phone."""
    content = _body(text)
    if len(json.dumps(content)) > LONGEST_MESSAGE:
        # Rather without its end and its looks than not at all.
        plain = shortened(text.plain.reveal())
        content = _body(replace(text, plain=Phi(plain), html=Phi(as_html(plain))))
    return _dump(content)


def replacement(text: PageText) -> Phi[bytes]:
    """An edit (Matrix spec, 'Event replacements'). It mentions nobody: an edit must not ring a second time."""
    new = _body(text)
    fallback = {**new, "body": f"* {new['body']}", "formatted_body": f"* {new['formatted_body']}"}
    return _dump({**fallback, "m.mentions": {}, "m.new_content": new})


def _body(text: PageText) -> dict[str, Any]:
    return {
        "msgtype": "m.notice" if text.notice else "m.text",
        "body": text.plain.reveal(),
        "format": "org.matrix.custom.html",
        "formatted_body": text.html.reveal(),
        "m.mentions": {"user_ids": list(text.mentions)} if text.mentions else {},
    }


def _dump(content: dict[str, Any]) -> Phi[bytes]:
    return Phi(json.dumps(content, ensure_ascii=False).encode())
