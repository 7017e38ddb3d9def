"""XML of strangers, read without fetching a DTD or expanding an entity; and strangers' words as XML."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree.ElementTree import Element, ParseError, TreeBuilder
from xml.sax.saxutils import escape

from defusedxml import ElementTree

from bridge.model.phi import Phi


def read_xml(document: Phi[bytes]) -> Element | None:
    """The root of a document, or None if it is none, or one that defines anything by which it could grow.

    A DOCTYPE may stand there, as in most of WCTP: it is passed over.
    """
    parser = _Parser()
    try:
        parser.feed(_in_its_encoding(document.reveal()))
        root: Element = parser.close()
    except (ParseError, ValueError, LookupError):
        return None
    return root


class _Parser(ElementTree.DefusedXMLParser):
    """Forbids attributes by default, too: 60 KB would become hundreds of MB, an attribute for each empty element."""

    def __init__(self) -> None:
        super().__init__(target=TreeBuilder(), forbid_dtd=False)
        self.parser.AttlistDeclHandler = self._refuse

    @staticmethod
    def _refuse(*_: object) -> None:
        raise ValueError("a document defines attributes")


def _in_its_encoding(document: bytes) -> bytes | str:
    """UTF-16 as text: senders declare UTF-8 above it, or leave out its mark, and expat believes them."""
    encoding = next((each for mark, each in _MARKS.items() if document.startswith(mark)), None)
    if encoding is None:
        return document
    return re.sub(r"^\s*<\?xml[^>]*\?>", "", document.decode(encoding).removeprefix("\ufeff"))


_MARKS = {
    b"\xff\xfe": "utf-16-le",
    b"\xfe\xff": "utf-16-be",
    b"<\0": "utf-16-le",
    b"\0<": "utf-16-be",
}


def xml_text(text: str) -> str:
    """Words as an element holds them. What no XML may hold (XML 1.0, 2.2) is `�`, lest nobody can read the rest."""
    return escape(_NO_XML.sub("\N{REPLACEMENT CHARACTER}", text))


_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def named(element: Element, name: str) -> Iterator[Element]:
    """All that lie in an element and have this name, in whichever namespace."""
    return (each for each in element.iter() if local_name(each) == name)


def local_name(element: Element) -> str:
    """An element's name without its namespace."""
    return str(element.tag).rpartition("}")[2]
