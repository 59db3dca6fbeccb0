"""Universal Binary JSON as XGBoost writes it: arrays of one type are read at once."""

import struct
from typing import Any

import numpy as np

KINDS = {b"i": ">i1", b"U": ">u1", b"I": ">i2", b"l": ">i4", b"L": ">i8", b"d": ">f4", b"D": ">f8"}
PACKED = {kind: struct.Struct({">i1": ">b", ">u1": ">B", ">i2": ">h", ">i4": ">i", ">i8": ">q", ">f4": ">f", ">f8": ">d"}[code]) for kind, code in KINDS.items()}
WORDS = {b"Z": None, b"T": True, b"F": False}


def ubjson(data: bytes) -> Any:
    """The value that some bytes hold; ValueError where they hold none."""
    try:
        return _Reader(data).value()
    except (IndexError, struct.error, UnicodeDecodeError, RecursionError) as e:
        raise ValueError(f"no Universal Binary JSON: {e}") from None


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def byte(self) -> bytes:
        self.at += 1
        if self.at > len(self.data):
            raise ValueError("it ends too soon")
        return self.data[self.at - 1 : self.at]

    def value(self, kind: bytes = b"") -> Any:
        kind = kind or self.byte()
        if kind in PACKED:
            form = PACKED[kind]
            self.at += form.size
            return form.unpack_from(self.data, self.at - form.size)[0]
        if kind == b"{":
            return self.mapping()
        if kind == b"[":
            return self.array()
        if kind == b"S":
            return self.text()
        if kind in WORDS:
            return WORDS[kind]
        raise ValueError(f"a value of unknown kind {kind!r}")

    def text(self) -> str:
        at = self.at
        if self.data[at] == 76 and not self.data[at + 1]:  # "L", how XGBoost writes every length
            n, self.at = int.from_bytes(self.data[at + 1 : at + 9], "big"), at + 9
        else:
            n = self.value()
        if not isinstance(n, int) or n < 0 or self.at + n > len(self.data):
            raise ValueError("a text of impossible length")
        self.at += n
        return self.data[self.at - n : self.at].decode()

    def mapping(self) -> dict[str, Any]:
        out = {}
        while self.data[self.at : self.at + 1] != b"}":
            name = self.text()
            out[name] = self.value()
        self.at += 1
        return out

    def array(self) -> Any:
        kind, count = b"", -1
        if self.data[self.at : self.at + 1] == b"$":
            self.at += 1
            kind = self.byte()
        if self.data[self.at : self.at + 1] == b"#":
            self.at += 1
            count = self.value()
        if kind in KINDS:
            form = np.dtype(KINDS[kind])
            out = np.frombuffer(self.data, form, count, self.at).astype(form.newbyteorder("="))
            self.at += count * form.itemsize
            return out
        if count >= 0:
            return [self.value(kind) for _ in range(count)]
        items = []
        while self.data[self.at : self.at + 1] != b"]":
            items.append(self.value())
        self.at += 1
        return items
