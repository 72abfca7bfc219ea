"""Server-sent events, read from bytes as they come. Whole events only: half of one is never handed on."""

from __future__ import annotations

from interplay.gateway.faults import Fault


class Splitter:
    """Cuts a byte stream into event blocks. limit: bytes of one block, against a stream that never ends one."""

    __slots__ = ("_limit", "_rest")

    def __init__(self, limit: int = 2**20) -> None:
        self._rest = b""
        self._limit = limit

    def feed(self, data: bytes) -> list[bytes]:
        """The blocks that are now complete, without the blank line. Raises Fault("garbage") over the limit."""
        if self._rest:
            data = self._rest + data
        if b"\r" in data:
            if data.endswith(b"\r"):  # the other half of CRLF may still come
                data, held = data[:-1], b"\r"
            else:
                held = b""
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") + held
        *blocks, self._rest = data.split(b"\n\n")
        if len(self._rest) > self._limit:
            raise Fault("garbage", "an event without end")
        return [block for block in blocks if block]

    @property
    def rest(self) -> bytes:
        """What came after the last complete block."""
        return self._rest


def data_of(block: bytes) -> tuple[str, bytes]:
    """Event name ("" if none) and data (b"" for a comment) of one block."""
    if block.startswith(b"data:") and b"\n" not in block:
        return "", block[5:].strip()
    name, data = "", []
    for line in block.split(b"\n"):
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif line.startswith(b"event:"):
            name = line[6:].strip().decode("utf-8", "replace")
    return name, b"\n".join(data)
