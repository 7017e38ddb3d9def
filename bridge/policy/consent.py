"""Whether a caller wants to be written to: the words by which one says so to any sender of texts.

CTIA, Messaging Principles and Best Practices (2023), 5.1.2 and 5.1.3; 47 CFR 64.1200(a)(10).
"""

from __future__ import annotations

from bridge.policy.conditions import fold

NO_MORE = frozenset(
    (
        "stop",
        "stopall",
        "stop all",
        "stopp",
        "unsubscribe",
        "cancel",
        "end",
        "quit",
        "revoke",
        "optout",
        "opt out",
        "arret",
    )
)
AGAIN = frozenset(("start", "unstop"))


def consent(text: str) -> bool | None:
    """False if a text asks for no more texts, True if for some again; None if it speaks of something else.

    Only a text that is nothing but such a word counts: who writes "stop the bleeding" is a patient.
    """
    said = fold(text)
    if said in NO_MORE:
        return False
    return True if said in AGAIN else None
