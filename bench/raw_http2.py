"""A caller that speaks HTTP/2 by hand, to do what no gRPC library does. Blocking."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from dataclasses import dataclass

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_INITIAL_WINDOW = 65_535
#: A frame's content, as peers take it before they say otherwise.
_MAX_FRAME_BYTES = 16_384
GENERATE = "/darkroom.v1.ImageService/Generate"
WATCH = "/grpc.health.v1.Health/Watch"


def frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    """One frame on the wire."""
    return struct.pack(">I", len(content))[1:] + struct.pack(">BBI", kind, flags, stream) + content


def message(content: bytes, announced_bytes: int | None = None) -> bytes:
    """A gRPC message, which may say that it is longer than it is."""
    return struct.pack(">BI", 0, announced_bytes or len(content)) + content


def _text(text: str) -> bytes:
    encoded = text.encode()
    assert len(encoded) < 127
    return bytes([len(encoded)]) + encoded


def _header(name: str, value: str) -> bytes:
    return b"\0" + _text(name) + _text(value)


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame that came."""

    kind: int
    flags: int
    stream: int
    content: bytes


class RawConnection:
    """One connection. Window updates are heeded; `frames` is everything that came."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=10)
        self.socket.sendall(_PREFACE + frame(SETTINGS, 0, 0, b""))
        self.frames: list[Frame] = []
        self._windows = {0: _INITIAL_WINDOW}
        self._initial_window = _INITIAL_WINDOW
        self._unparsed = b""
        self._next_stream = 1

    def open(self, path: str = GENERATE, key: str = "") -> int:
        """Begins a call; its stream."""
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        headers = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "x"}
        headers |= {"content-type": "application/grpc", "te": "trailers"}
        headers |= {"authorization": f"Bearer {key}"} if key else {}
        block = b"".join(_header(*one) for one in headers.items())
        self.socket.sendall(frame(HEADERS, END_HEADERS, stream, block))
        self._windows[stream] = self._initial_window
        return stream

    def send(self, stream: int, content: bytes, *, for_s: float = 5.0) -> int:
        """Sends what is let in within the time; how many bytes that were."""
        sent_bytes, until_s = 0, time.monotonic() + for_s
        while sent_bytes < len(content) and not self.has_ended(stream):
            room = min(self._windows[0], self._windows[stream], _MAX_FRAME_BYTES)
            piece = content[sent_bytes : sent_bytes + max(0, room)]
            if piece:
                self.socket.sendall(frame(DATA, 0, stream, piece))
                self._windows[0] -= len(piece)
                self._windows[stream] -= len(piece)
                sent_bytes += len(piece)
            elif time.monotonic() > until_s:
                break
            self.read(0.0 if piece else 0.05)
        return sent_bytes

    def end(self, stream: int) -> None:
        """Says that the request is whole."""
        self.socket.sendall(frame(DATA, END_STREAM, stream, b""))

    def read(self, for_s: float) -> bool:
        """Takes what has come, or comes within the time; false at the connection's end."""
        self.socket.settimeout(max(for_s, 1e-4))
        try:
            came = self.socket.recv(1 << 16)
        except TimeoutError:
            return True
        except OSError:
            return False
        finally:
            with contextlib.suppress(OSError):
                self.socket.settimeout(10)
        self._unparsed += came
        while len(self._unparsed) >= 9:
            length = int.from_bytes(self._unparsed[:3], "big")
            if len(self._unparsed) < 9 + length:
                break
            kind, flags, stream = struct.unpack(">BBI", self._unparsed[3:9])
            content = self._unparsed[9 : 9 + length]
            self._unparsed = self._unparsed[9 + length :]
            self._take(Frame(kind, flags, stream, content))
        return bool(came)

    def _take(self, one: Frame) -> None:
        self.frames.append(one)
        if one.kind == WINDOW_UPDATE and one.stream in self._windows:
            self._windows[one.stream] += int.from_bytes(one.content, "big")
        elif one.kind == SETTINGS and not one.flags & ACK:
            for name, value in struct.iter_unpack(">HI", one.content):
                if name == 4:
                    for stream in self._windows.keys() - {0}:
                        self._windows[stream] += value - self._initial_window
                    self._initial_window = value
            self.socket.sendall(frame(SETTINGS, ACK, 0, b""))
        elif one.kind == PING and not one.flags & ACK:
            self.socket.sendall(frame(PING, ACK, 0, one.content))

    def has_ended(self, stream: int) -> bool:
        """Whether the service has ended the call."""
        return any(
            one.stream == stream
            and (one.kind == RST_STREAM or (one.kind == HEADERS and one.flags & END_STREAM))
            for one in self.frames
        )

    def open_count(self) -> int:
        """Calls that the service has not ended."""
        return sum(not self.has_ended(stream) for stream in self._windows if stream)

    def read_until_ended(self, *, left: int = 0, for_s: float = 30.0) -> None:
        """Reads until at most so many calls are open."""
        until_s = time.monotonic() + for_s
        while self.open_count() > left and time.monotonic() < until_s:
            if not self.read(0.05):
                break
        assert self.open_count() <= left

    def close(self) -> None:
        """Leaves."""
        self.socket.close()
