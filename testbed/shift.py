"""The clients of one test: they end with it, while the hospital stays for the next."""

import shutil
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from testbed.clinician import Clinician
from testbed.element import Element
from testbed.hospital import Hospital, password


class Shift:
    """Opens clients of the hospital's people, and closes them all in the end."""

    def __init__(self, hospital: Hospital) -> None:
        self._hospital = hospital
        self._clients = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._clients.aclose()

    async def nio(self, name: str, device: str = "phone", *, signed: bool = True) -> Clinician:
        """A person at matrix-nio. All signed devices of a person are signed by one identity."""
        hospital = self._hospital
        store = hospital.directory / "clients" / f"{name}-{device}"
        known = next(store.parent.glob(f"{name}-*/identity.json"), None)
        if signed and known is not None and not store.exists():
            store.mkdir(parents=True)
            shutil.copy(known, store)
        client = Clinician(
            hospital.synapse.base_url, hospital.user_id(name), password(name), store, signed=signed
        )
        return await self._clients.enter_async_context(client)

    async def element(self, name: str, *, only_signed: bool = True) -> Element:
        """A person at Element's own crypto, with a device and an identity that are new; it has met the bot."""
        hospital = self._hospital
        client = Element(
            hospital.synapse.base_url,
            hospital.user_id(name),
            password(name),
            log=hospital.directory / f"element-{name}.log",
            only_signed=only_signed,
        )
        return await self._clients.enter_async_context(client)
