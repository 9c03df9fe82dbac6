"""What the referee and a stranger's process say to each other, over a socket: a line of JSON, and arrays behind it.

Arrays go one way alone, to the player; logits come back in memory that both have. Nothing that comes from the player is
more than JSON of a bounded length: it cannot name a type, and nothing is unpickled.
"""

import contextlib
import json
import math
import socket
import time
from typing import Any

import numpy as np

_LONGEST_LINE = 2**16


class ChannelError(Exception):
    """The other side is gone, or what it said is no answer."""


class Channel:
    def __init__(self, connection: socket.socket, seconds: float | None = None, until: float = math.inf) -> None:
        """`seconds`: how long to wait for an answer, at most, None: for ever; `until`: for none of them any longer
        than that, by time.monotonic."""
        connection.settimeout(seconds)
        self.connection, self.file = connection, connection.makefile("rwb")
        self.seconds, self.until = seconds, until

    def send(self, message: dict[str, Any], *arrays: np.ndarray) -> None:
        described = [[array.dtype.str, list(array.shape)] for array in arrays]
        try:
            self.file.write(json.dumps({**message, "arrays": described}).encode() + b"\n")
            for array in arrays:
                self.file.write(np.ascontiguousarray(array).data if array.size else b"")
            self.file.flush()
        except OSError as error:
            raise ChannelError(f"cannot be told anything: {error}") from None

    def receive(self) -> dict[str, Any]:
        try:
            line = self._line(self.seconds) if self.seconds else self.file.readline(_LONGEST_LINE)
        except OSError as error:
            raise ChannelError(f"gives no answer: {error}") from None
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            raise ChannelError("has ended" if not line else f"gives no answer but {line[:80]!r}")
        return message

    def _line(self, seconds: float) -> bytes:
        """A line, also of one who sends it byte by byte. Raises OSError where it is not there in time."""
        line, deadline = b"", min(time.monotonic() + seconds, self.until)
        while len(line) < _LONGEST_LINE and not line.endswith(b"\n"):
            if (left := deadline - time.monotonic()) <= 0:
                raise TimeoutError("timed out")
            self.connection.settimeout(left)
            there = self.file.peek(1)
            if not there:
                break
            line += self.file.read(min(there.find(b"\n") + 1 or len(there), _LONGEST_LINE - len(line)))
        self.connection.settimeout(seconds)
        return line

    def arrays(self, message: dict[str, Any]) -> list[np.ndarray]:
        """Those that stand behind a message of the referee."""
        return [self._array(np.dtype(kind), shape) for kind, shape in message["arrays"]]

    def _array(self, kind: np.dtype[Any], shape: list[int]) -> np.ndarray:
        size = int(np.prod(shape)) * kind.itemsize
        return np.frombuffer(bytearray(self.file.read(size)), kind).reshape(shape)

    def close(self) -> None:
        for end in (self.file, self.connection):
            with contextlib.suppress(OSError):  # the other side was gone before it had heard all
                end.close()
