#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A server that answers every head with the same reply and stops in a chosen way.

The tools are tried on it: they must pass the gentle one and find what is wrong with each other.

  sample_server.py PORT MANNER
"""

import ctypes
import os
import selectors
import signal
import socket
import struct
import sys

SO_ATTACH_FILTER = 26  # Linux; the socket module does not name it.
BODY = b"Hello, World!"
DRAIN = 0.5

# What a server of this manner does.
MANNERS = {
    "gentle": "empties the accept queue, answers what still comes, lingers",
    "abrupt": "is gone with the signal",
    "door_slammer": "closes idle connections at once",
    "stubborn": "does not hear the signal",
    "truncating": "sends half a reply and leaves",
    "mumbling": "answers in no known protocol",
    "failing": "answers 500",
    "ashamed": "stops gently, with status 3",
    "silent": "accepts, and never answers",
}


class SampleServer:
    """One thread, level-triggered, a reply for each blank line."""

    def __init__(self, port, manner):
        self.manner = manner
        self.draining = False
        self.selector = selectors.DefaultSelector()
        self.buffers = {}
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", port))
        self.listener.listen(4096)
        self.listener.setblocking(False)
        self.selector.register(self.listener, selectors.EVENT_READ)
        self.wake_reader, wake_writer = socket.socketpair()
        wake_writer.setblocking(False)
        self.wake_writer = wake_writer
        signal.set_wakeup_fd(wake_writer.fileno())
        signal.signal(signal.SIGTERM, lambda *_: None)
        self.selector.register(self.wake_reader, selectors.EVENT_READ)

    def run(self):
        while not self.draining or self.buffers:
            ready = self.selector.select(DRAIN if self.draining else None)
            if self.draining and not ready:
                break
            for key, _ in ready:
                if key.fileobj is self.listener:
                    if not self.draining:            # closed by the same round's wake-up
                        self.accept_all()
                elif key.fileobj is self.wake_reader:
                    self.wake_reader.recv(64)
                    self.stop()
                else:
                    self.serve(key.fileobj)
        return 3 if self.manner == "ashamed" else 0

    def accept_all(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except BlockingIOError:
                return
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.buffers[connection] = b""
            self.selector.register(connection, selectors.EVENT_READ)

    def stop(self):
        if self.manner == "stubborn":
            return
        if self.manner == "abrupt":
            os._exit(0)
        self.draining = True
        self.refuse_newcomers()
        self.accept_all()
        self.selector.unregister(self.listener)
        self.listener.close()
        if self.manner == "door_slammer":
            for connection in list(self.buffers):
                self.drop(connection)

    def refuse_newcomers(self):
        """From here on the kernel drops what asks for a connection, so that none comes into the
        queue between the last accept() and close(), which would reset it."""
        syn_without_ack = [(0x30, 0, 0, 13),     # A = the TCP header's flags
                           (0x54, 0, 0, 0x12),   # A &= SYN | ACK
                           (0x15, 0, 1, 0x02),   # SYN alone:
                           (0x06, 0, 0, 0),      #   drop it
                           (0x06, 0, 0, 0xffffffff)]
        steps = b"".join(struct.pack("=HBBI", *step) for step in syn_without_ack)
        buffer = ctypes.create_string_buffer(steps)
        program = struct.pack("@HP", len(syn_without_ack), ctypes.addressof(buffer))
        self.listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)

    def drop(self, connection):
        self.selector.unregister(connection)
        del self.buffers[connection]
        connection.close()

    def serve(self, connection):
        try:
            data = connection.recv(65536)
        except OSError:
            data = b""
        if not data:
            self.drop(connection)
            return
        if self.buffers[connection] is None or self.manner == "silent":
            return                                   # lingering: what still comes is dropped
        self.buffers[connection] += data
        while self.buffers.get(connection) and b"\r\n\r\n" in self.buffers[connection]:
            _, _, self.buffers[connection] = self.buffers[connection].partition(b"\r\n\r\n")
            self.answer(connection)

    def answer(self, connection):
        status = b"500 Sorry" if self.manner == "failing" else b"200 OK"
        last = b"Connection: close\r\n" if self.draining else b""
        reply = (b"HTTP/1.1 " + status + b"\r\n" + last
                 + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY)
        if self.manner == "mumbling":
            reply = b"who is there?\r\n\r\n"
        if self.manner == "truncating" and self.draining:
            reply = reply[:-5]
        try:
            connection.send(reply)
            if self.draining:
                connection.shutdown(socket.SHUT_WR)
                self.buffers[connection] = None
        except OSError:
            self.drop(connection)


if __name__ == "__main__":
    sys.exit(SampleServer(int(sys.argv[1]), sys.argv[2]).run())
