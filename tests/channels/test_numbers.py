"""Telephone numbers of callers, as they are kept."""

from __future__ import annotations

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.channels.numbers import known_region, normal_number
from bridge.model.phi import Phi, reveal_optional


@pytest.mark.parametrize(
    ("written", "region", "kept"),
    [
        ("+15550001111", None, "+15550001111"),
        ("(555) 000-1111", "US", "+15550001111"),
        ("1-555-000-1111", "US", "+15550001111"),
        ("030 123456", "DE", "+4930123456"),
        ("0049 30 123456", "DE", "+4930123456"),
        ("٠٣٠ ١٢٣٤٥٦", "DE", "+4930123456"),
        ("06 12345678", "IT", "+390612345678"),
    ],
)
def test_a_number_is_kept_in_e164(written: str, region: str | None, kept: str) -> None:
    assert normal_number(written, region) == Phi(kept)


@pytest.mark.parametrize(
    ("written", "region"),
    [
        ("72975", "US"),
        ("66555", "DE"),
        ("CLINIC", "US"),
        ("1-800-FLOWERS", "US"),
        ("Praxis Süd", "DE"),
        ("whatsapp:+15550001111", "US"),
        ("555 000 1111", None),
        ("+1 555 000 1111 ext. 12", "US"),
        ("+999999", "US"),
        ("12345678901234567890", "US"),
        ("?", "US"),
    ],
)
def test_what_is_no_full_number_is_kept_as_written(written: str, region: str | None) -> None:
    assert normal_number(written, region) == Phi(written)


@pytest.mark.parametrize("written", [None, "", "  ", "Anonymous", "RESTRICTED", "+266696687", "7378742833"])
def test_a_withheld_number_is_none(written: str | None) -> None:
    assert normal_number(written, "US") is None


@given(st.text(), st.sampled_from([None, *sorted(phonenumbers.SUPPORTED_REGIONS)]))
def test_whatever_a_source_writes_is_kept_somehow(written: str, region: str | None) -> None:
    kept = normal_number(written, region)
    assert reveal_optional(kept) != ""
    assert kept is None or normal_number(kept.reveal(), region) == kept


@pytest.mark.parametrize("region", ["us", "US"])
def test_a_region_may_be_written_small(region: str) -> None:
    assert known_region(region) == "US"


def test_an_unknown_region_is_refused() -> None:
    with pytest.raises(ValueError, match="two letters"):
        known_region("Texas")
