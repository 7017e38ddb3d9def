from __future__ import annotations

import pytest

from tests.channels.wire import RememberingInbox


@pytest.fixture
def inbox() -> RememberingInbox:
    return RememberingInbox()
