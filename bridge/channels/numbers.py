"""Telephone numbers as sources write them, and as the bridge keeps them."""

from __future__ import annotations

import re

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumberFormat, ValidationResult

from bridge.model.phi import Phi

# What sources write instead of a number that the caller withheld. The long ones are these words dialled on a
# telephone's keys, as some carriers deliver them.
_WITHHELD = frozenset(
    {"anonymous", "restricted", "blocked", "private", "unknown", "unavailable", "withheld"}
    | {"266696687", "7378742833", "2562533", "8656696", "86282452253"}
)
_LONGEST_SHORT_CODE = 6


def normal_number(written: str | None, region: str | None) -> Phi[str] | None:
    """A number in E.164, or as it was written if it is no number; None if it was withheld.

    `region` (ISO 3166, such as `US`) is where a number without a country code is from. Short codes,
    alphanumeric senders and numbers with an extension stay as they were written: E.164 can't say them.
    """
    plain = (written or "").strip()
    if not plain or plain.lower().lstrip("+") in _WITHHELD:
        return None
    # phonenumbers would dial the letters of an alphanumeric sender: CLINIC is no 254642.
    if re.search(r"[^\W\d_]", plain) or (plain.isdecimal() and len(plain) <= _LONGEST_SHORT_CODE):
        return Phi(plain)
    try:
        number = phonenumbers.parse(plain, region)
    except NumberParseException:
        return Phi(plain)
    possible = phonenumbers.is_possible_number_with_reason(number) == ValidationResult.IS_POSSIBLE
    if not possible or number.extension:
        return Phi(plain)
    return Phi(phonenumbers.format_number(number, PhoneNumberFormat.E164))


def with_plus(written: str | None) -> str | None:
    """A number of a source that leaves out the plus of E.164; short codes and names stay as they are."""
    international = (written or "").isdecimal() and len(written or "") > _LONGEST_SHORT_CODE
    return f"+{written}" if international else written


def known_region(region: str) -> str:
    """Check a region for `normal_number`. Raises `ValueError`."""
    if region.upper() not in phonenumbers.SUPPORTED_REGIONS:
        raise ValueError("should be a country's two letters, such as US, GB or DE")
    return region.upper()
