"""XML of strangers: read without fetching a DTD or expanding an entity."""

from __future__ import annotations

from xml.etree.ElementTree import Element, ParseError

from defusedxml import ElementTree

from bridge.model.phi import Phi


def read_xml(document: Phi[bytes]) -> Element | None:
    """The root of a document, or None if it is none, or one that defines entities.

    A DOCTYPE may stand there, as in most of WCTP: it is passed over.
    """
    try:
        root: Element = ElementTree.fromstring(document.reveal(), forbid_dtd=False)
    except (ParseError, ValueError, LookupError):
        return None
    return root
