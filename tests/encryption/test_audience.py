"""When a session is for exactly those who may read, and when it reaches anybody."""

from mautrix.types import DeviceID, DeviceIdentity, IdentityKey, SigningKey, TrustState, UserID

from bridge.matrix.audience import Audience
from bridge.model.ids import DeviceId, UserId
from bridge.store.recipients import Outcome, Recipient

ANN, BEN = "@ann:nightbell.test", "@ben:nightbell.test"


def device(user: str, name: str = "PHONE", key: str = "key") -> DeviceIdentity:
    return DeviceIdentity(
        UserID(user),
        DeviceID(name),
        IdentityKey(f"{user} {name} {key}"),
        SigningKey("signing"),
        TrustState.UNVERIFIED,
        deleted=False,
        name=name,
    )


def given(of: DeviceIdentity, outcome: Outcome = Outcome.SHARED) -> Recipient:
    return Recipient(UserId(of.user_id), DeviceId(of.device_id), str(of.identity_key), outcome)


def test_a_session_fits_as_long_as_the_devices_are_the_same() -> None:
    audience = Audience({UserId(ANN)}, [device(ANN), device(ANN, "TABLET")])
    assert audience.fits([given(device(ANN)), given(device(ANN, "TABLET"))])
    assert not audience.fits([given(device(ANN))])
    assert not audience.fits([given(device(ANN)), given(device(ANN, "TABLET")), given(device(BEN))])


def test_a_device_that_lacked_a_key_belongs_to_the_session_and_one_that_was_refused_does_not() -> None:
    audience = Audience({UserId(ANN)}, [device(ANN)])
    assert audience.fits([given(device(ANN), Outcome.NO_ONE_TIME_KEY)])
    assert not audience.fits([given(device(ANN), Outcome.REFUSED_UNSIGNED)])


def test_the_same_name_with_another_key_is_another_device() -> None:
    audience = Audience({UserId(ANN)}, [device(ANN, key="new")])
    assert not audience.fits([given(device(ANN, key="old"))])


def test_a_key_given_to_somebody_who_is_only_invited_reaches_nobody_yet() -> None:
    audience = Audience({UserId(ANN)}, [device(ANN), device(BEN)])
    assert not audience.is_reached_by([given(device(ANN), Outcome.NO_ONE_TIME_KEY), given(device(BEN))])
    assert audience.is_reached_by([given(device(ANN)), given(device(BEN))])


def test_each_refused_device_is_told_so_once_for_a_session() -> None:
    first, second = (
        (device(ANN, "FIRST"), Outcome.REFUSED_UNSIGNED),
        (device(ANN, "SECOND"), Outcome.REFUSED_CHANGED),
    )
    audience = Audience({UserId(ANN)}, [], [first, second])
    assert audience.newly_refused([given(first[0], first[1])]) == [second]
    assert audience.newly_refused([given(*first), given(*second)]) == []
