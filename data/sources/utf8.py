"""Bytes to text: UTF-8 with or without its mark, in pieces, and what becomes of bytes that are none."""

import codecs
from collections.abc import Iterator
from typing import BinaryIO

from longrun.base.errors import DataError

from .notes import Notes

PIECE = 1 << 22  # bytes read at a time
POLICIES = ("replace", "refuse")
_MARK = codecs.BOM_UTF8


def decoded(file: BinaryIO, place: str, what: str, policy: str, notes: Notes) -> Iterator[str]:
    """The text of a binary file in pieces of about four million characters, without its byte order mark.

    policy: "replace" writes U+FFFD for what is not UTF-8 and notes it once a file; "refuse" raises DataError.
    place: the file's name, for messages.  what: the kind of thing it is, for the note.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("strict")
    noted, position = False, 0  # position: bytes given to the decoder
    while True:
        block = file.read(PIECE)
        last = len(block) < PIECE
        mark = len(_MARK) if position == 0 and block.startswith(_MARK) else 0
        waiting = len(decoder.getstate()[0])  # the beginning of a character, at the end of the block before
        state = decoder.getstate()
        try:
            text = decoder.decode(block[mark:], final=last)
        except UnicodeDecodeError as error:
            where = f"{place}, byte {position + mark - waiting + error.start}"
            if policy == "refuse":
                raise invalid(where, error.object[error.start]) from None
            if not noted:
                notes.add(f"{what} with invalid UTF-8 replaced", where)
            noted = True
            decoder = codecs.getincrementaldecoder("utf-8")("replace")
            decoder.setstate(state)
            text = decoder.decode(block[mark:], final=last)
        position += len(block)
        yield text
        if last:
            return


def line_of(raw: bytes, place: str, policy: str, notes: Notes) -> str:
    """The text of one line of a file; `place` names it."""
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        where = f"{place}, byte {error.start} of the line"
        if policy == "refuse":
            raise invalid(where, error.object[error.start]) from None
        notes.add("lines with invalid UTF-8 replaced", where)
        return raw.decode("utf-8-sig", errors="replace")


def invalid(where: str, byte: int) -> DataError:
    return DataError(
        f"{where}: 0x{byte:02x} is not UTF-8.\n"
        "Convert the file, or let such bytes become U+FFFD: data.invalid_utf8=replace."
    )
