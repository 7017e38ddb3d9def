"""A patient's number as it is given on the command line."""

from __future__ import annotations

import re

import typer

from bridge.model.phi import Phi

NO_SUCH_NUMBER = (
    "Nothing of this number is here. It is found only as its source gave it: with its country code, as in "
    "+1 555 000 7001."
)
_FILLER = re.compile(r"[\s().\-/]")


def given_number(text: str) -> Phi[str]:
    """One number, as events are found by. Raises what typer tells the caller."""
    number = _FILLER.sub("", text)
    if not re.fullmatch(r"\+?\d+", number):
        raise typer.BadParameter("the number should be one, with its country code: +1 555 000 7001")
    return Phi(number)
