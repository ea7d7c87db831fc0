"""Decoding of UTF-8 in pieces, with or without a byte order mark, and the policies for invalid bytes."""

import codecs
from collections.abc import Iterator
from typing import BinaryIO

from longrun.base.errors import DataError

from .import_warnings import ImportWarnings

PIECE = 1 << 22  # bytes read at a time
_MARK = codecs.BOM_UTF8


def decode_file(file: BinaryIO, name: str, policy: str, warnings: ImportWarnings) -> Iterator[str]:
    """Yield the text of a binary file in pieces of about four million characters, without its byte order mark.

    name: for messages.
    policy: "replace" writes U+FFFD for invalid bytes and counts the file once; "refuse" raises DataError.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("strict")
    counted, position = False, 0  # position: bytes passed to the decoder
    while True:
        block = file.read(PIECE)
        last = len(block) < PIECE
        mark = len(_MARK) if position == 0 and block.startswith(_MARK) else 0
        pending = len(decoder.getstate()[0])  # first bytes of a character, from the end of the previous block
        state = decoder.getstate()
        try:
            text = decoder.decode(block[mark:], final=last)
        except UnicodeDecodeError as error:
            place = f"{name}, byte {position + mark - pending + error.start}"
            if policy == "refuse":
                raise invalid_byte(place, error.object[error.start]) from None
            if not counted:
                warnings.add("files with invalid UTF-8 replaced", place)
            counted = True
            decoder = codecs.getincrementaldecoder("utf-8")("replace")
            decoder.setstate(state)
            text = decoder.decode(block[mark:], final=last)
        position += len(block)
        yield text
        if last:
            return


def decode_line(raw: bytes, place: str, policy: str, warnings: ImportWarnings) -> str:
    """Return the text of one line; `place` is FILE:LINE, `policy` as for `decode_file`."""
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = f"{place}, byte {error.start} of the line"
        if policy == "refuse":
            raise invalid_byte(place, error.object[error.start]) from None
        warnings.add("lines with invalid UTF-8 replaced", place)
        return raw.decode("utf-8-sig", errors="replace")


def invalid_byte(place: str, byte: int) -> DataError:
    return DataError(
        f"{place}: 0x{byte:02x} is not UTF-8.\n"
        "Convert the file, or replace such bytes by U+FFFD with data.invalid_utf8=replace."
    )
