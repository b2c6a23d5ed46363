"""An HTTP/2 client that says what it likes, and stops where it likes."""

import collections
import contextlib
import socket
import struct
import threading

_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_WINDOW = 8
_ACKNOWLEDGE, _END_STREAM, _END_HEADERS = 1, 1, 4
_INITIAL_WINDOW = 4  # of the settings
_FRAME_BYTES = 16_384


def _frame(kind, flags, stream, data=b""):
    length = struct.pack(">I", len(data))[1:]
    return length + struct.pack(">BBI", kind, flags, stream) + data


def _literal(name, value):
    """A header, as HPACK has it without tables and without compression."""
    parts = name.encode(), value.encode()
    return b"\0" + b"".join(bytes([len(part)]) + part for part in parts)


class Connection:
    """A connection to a gRPC server; closed by `close`."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self._socket = socket.create_connection((host, int(port)), 20)
        self._changed = threading.Condition()
        self._initial = 65_535
        self._windows = collections.defaultdict(lambda: self._initial)
        self.ended = set()  # the streams that the server has ended
        self.closed = False
        self._next = 1
        self._socket.settimeout(None)
        self._socket.sendall(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(_SETTINGS, 0, 0)
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def close(self):
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join(20)
        self._socket.close()

    def call(self, path, **metadata):
        """Begins a call, and sends no message; returns its stream."""
        headers = {
            ":method": "POST",
            ":scheme": "http",
            ":path": path,
            ":authority": "center",
            "te": "trailers",
            "content-type": "application/grpc",
            **{name.replace("_", "-"): v for name, v in metadata.items()},
        }
        stream, self._next = self._next, self._next + 2
        data = b"".join(_literal(*pair) for pair in headers.items())
        self._socket.sendall(_frame(_HEADERS, _END_HEADERS, stream, data))
        return stream

    def send(self, stream, announced, sent):
        """Announces a message, and sends these or so many of its bytes.

        Returns how many the server has let in.
        """
        data = memoryview(struct.pack(">BI", 0, announced) + bytes(sent))
        done = 0
        while done < len(data):
            with self._changed:
                self._changed.wait_for(
                    lambda: self._over(stream) or self._room(stream) > 0, 2
                )
                if self._over(stream) or self._room(stream) <= 0:
                    break
                size = min(self._room(stream), _FRAME_BYTES, len(data) - done)
                self._windows[0] -= size
                self._windows[stream] -= size
            part = data[done : done + size]
            try:
                self._socket.sendall(_frame(_DATA, 0, stream, bytes(part)))
            except OSError:
                break
            done += size
        return done

    def wait_for_end(self, stream, seconds=30.0):
        """Whether the server ends a call within a while."""
        with self._changed:
            return self._changed.wait_for(lambda: self._over(stream), seconds)

    def _over(self, stream):
        return self.closed or stream in self.ended

    def _room(self, stream):
        return min(self._windows[0], self._windows[stream])

    def _read(self):
        with contextlib.suppress(OSError), self._socket.makefile("rb") as file:
            while len(head := file.read(9)) == 9:
                length = int.from_bytes(head[:3], "big")
                kind, flags, stream = struct.unpack(">BBI", head[3:])
                with self._changed:
                    self._take(kind, flags, stream, file.read(length))
                    self._changed.notify_all()
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    def _take(self, kind, flags, stream, data):
        if kind == _SETTINGS and not flags & _ACKNOWLEDGE:
            for begin in range(0, len(data), 6):
                name, value = struct.unpack_from(">HI", data, begin)
                if name == _INITIAL_WINDOW:
                    for known in self._windows.keys() - {0}:
                        self._windows[known] += value - self._initial
                    self._initial = value
            self._socket.sendall(_frame(_SETTINGS, _ACKNOWLEDGE, 0))
        elif kind == _PING and not flags & _ACKNOWLEDGE:
            self._socket.sendall(_frame(_PING, _ACKNOWLEDGE, 0, data))
        elif kind == _WINDOW:
            self._windows[stream] += int.from_bytes(data, "big")
        elif kind == _RESET or (kind == _HEADERS and flags & _END_STREAM):
            self.ended.add(stream)
        elif kind == _GOAWAY:
            self.closed = True
