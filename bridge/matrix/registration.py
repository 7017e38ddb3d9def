"""The appservice registration: who the bridge is to the homeserver."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from bridge.model.errors import NightbellError

MODE = 0o600


class RegistrationError(NightbellError):
    """The registration file is missing or incomplete."""


@dataclass(frozen=True, slots=True)
class Registration:
    """What the bridge needs of it."""

    as_token: str

    def __repr__(self) -> str:
        return "Registration(as_token=…)"


def read_registration(file: Path) -> Registration:
    """Read the tokens. Raises RegistrationError, saying how to make the file."""
    remedy = f"make it with: nightbell registration --output {file}"
    try:
        document = YAML(typ="safe").load(file.read_text(encoding="utf-8"))
    except OSError as error:
        message = f"the registration {file} can't be read ({error.strerror}); {remedy}"
        raise RegistrationError(message) from None
    except YAMLError:
        message = f"the registration {file} is not YAML; {remedy}"
        raise RegistrationError(message) from None
    token = document.get("as_token") if isinstance(document, dict) else None
    if not isinstance(token, str) or not token:
        message = f"the registration {file} has no as_token; {remedy}"
        raise RegistrationError(message)
    return Registration(token)


def new_registration(bot: str, server_name: str) -> str:
    """The text of a registration with fresh tokens.

    `url: null` has Synapse push nothing: the bridge reads by `/sync`, so that nothing has to reach it.
    `sender_localpart` is another user than the bot, since Synapse lets that one have no device.
    """
    domain = server_name.replace(".", r"\.")
    document = {
        "id": "nightbell",
        "url": None,
        "as_token": secrets.token_urlsafe(48),
        "hs_token": secrets.token_urlsafe(48),
        "sender_localpart": f"_{bot}_{secrets.token_hex(8)}",
        "rate_limited": False,
        "io.element.msc4190": True,
        "namespaces": {
            "users": [{"exclusive": True, "regex": f"@{bot}(_.*)?:{domain}"}],
            "aliases": [],
            "rooms": [],
        },
    }
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.representer.add_representer(
        type(None), lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    out = StringIO()
    yaml.dump(document, out)
    return out.getvalue()


def write_registration(file: Path, text: str) -> None:
    """Write it so that only its owner can read it. Raises RegistrationError if it exists: its tokens are in use."""
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
    except FileExistsError:
        message = f"{file} exists, and the homeserver may know its tokens; remove it first to make new ones"
        raise RegistrationError(message) from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
