# SPDX-License-Identifier: Apache-2.0
"""A blocking client for one connection that hides nothing: raw bytes out, whole replies in."""

import socket
import struct
import time

from http_reply import ReplyReader
from service_process import PATIENCE, NotInTime


def request(path, method="GET", body=None, fields=(), host="a", version="1.1"):
    """The bytes of a request. A body, even an empty one, brings its Content-Length."""
    head = [f"{method} {path} HTTP/{version}", f"Host: {host}", *fields]
    if body is not None:
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + (body or b"")


class Connection:
    """One TCP connection to a port of this machine."""

    def __init__(self, port, receive_buffer=None):
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE)
        try:
            self.socket.connect(("127.0.0.1", port))
        except OSError:
            self.socket.close()
            raise
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = ReplyReader()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, data):
        self.socket.sendall(data)

    def ask(self, path, method="GET", body=None, fields=()):
        """Sends a request without waiting for its reply."""
        self.reader.expect(method)
        self.send(request(path, method, body, fields))

    def exchange(self, path, method="GET", body=None, fields=()):
        """Sends a request, returns its reply."""
        self.ask(path, method, body, fields)
        return self.reply()

    def reply(self, limit=PATIENCE):
        """Returns the next reply; raises ConnectionError if the connection ends before it."""
        deadline = time.monotonic() + limit
        while True:
            reply = self.reader.next_reply()
            if reply:
                return reply
            data = self._receive(deadline)
            if not data:
                reply = self.reader.end_of_stream()
                if reply:
                    return reply
                raise ConnectionError("the connection ended without a whole reply")
            self.reader.feed(data)

    def end(self, limit=PATIENCE):
        """Waits for the server to close. Returns the bytes that came before; raises on a reset."""
        deadline = time.monotonic() + limit
        rest = bytearray(self.reader.buffer)
        self.reader.buffer.clear()
        while data := self._receive(deadline):
            rest += data
        return bytes(rest)

    def half_close(self):
        """Says that this side sends no more."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self):
        """Closes so that the server sees a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self):
        self.socket.close()

    def local_port(self):
        return self.socket.getsockname()[1]

    def _receive(self, deadline):
        left = deadline - time.monotonic()
        if left <= 0:
            raise NotInTime("the server neither answered nor closed in time")
        self.socket.settimeout(left)
        try:
            return self.socket.recv(1 << 18)
        except TimeoutError:
            raise NotInTime("the server neither answered nor closed in time") from None


def fetch(port, path, method="GET", body=None, fields=()):
    """One request on a connection of its own; returns the reply."""
    with Connection(port) as connection:
        return connection.exchange(path, method, body, ("Connection: close", *fields))


def is_refused(port):
    """Whether nothing listens on the port."""
    try:
        Connection(port).close()
    except ConnectionRefusedError:
        return True
    return False
