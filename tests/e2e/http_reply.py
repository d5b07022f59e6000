# SPDX-License-Identifier: Apache-2.0
"""HTTP/1 replies out of a byte stream, for clients that must see every byte themselves.

A ReplyReader is fed what arrives and hands out whole replies. It is strict about framing and
indifferent to everything else, so that a server's slip shows as a slip and not as a guess.
"""

from collections import deque


class MalformedReply(ValueError):
    """The bytes are no HTTP/1 reply."""


class Reply:
    """One final reply, with the statuses of the interim ones that came before it."""

    def __init__(self, status, head, interim):
        self.status = status
        self.head = head
        self.interim = interim
        self.body = b""
        self.complete = False

    def fields(self, name):
        """All values of the field, in order, as text without surrounding blanks."""
        wanted = name.lower().encode()
        values = []
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.strip().lower() == wanted:
                values.append(value.strip().decode("latin-1"))
        return values

    def says_close(self):
        """Whether the server announced that this is the connection's last reply."""
        head = self.head.lower()
        if head.startswith(b"http/1.0"):
            return b"keep-alive" not in ",".join(self.fields("connection")).lower().encode()
        if b"\r\nconnection:" not in head:
            return False
        return "close" in ",".join(self.fields("connection")).lower()


class ReplyReader:
    """Takes bytes in any pieces, gives replies in order."""

    def __init__(self):
        self.buffer = bytearray()
        self.interim = []
        self.methods = deque()   # of requests not answered yet; GET when unknown
        self.current = None      # the reply whose head was read and whose body was not
        self.framing = None      # "length", "chunked" or "eof" for the current reply
        self.body_left = 0
        self.body = bytearray()

    def expect(self, method):
        """Says which method the next unanswered request had: it decides about the body."""
        self.methods.append(method)

    def feed(self, data):
        self.buffer += data

    def started(self):
        """Whether part of a reply has arrived that is not whole yet."""
        return bool(self.buffer) or self.current is not None

    def next_reply(self):
        """Returns the next whole reply, or None if more bytes are needed."""
        if self.current is None and not self._read_head():
            return None
        if not self._read_body():
            return None
        return self._finish()

    def end_of_stream(self):
        """Says that nothing more comes. Returns the reply that ends with the stream, or None."""
        if self.current is not None and self.framing == "eof":
            return self._finish()
        return None

    def cut_reply(self):
        """Returns the reply that was begun and never ended, marked incomplete, or None."""
        reply = self.current
        if reply is not None:
            reply.body = bytes(self.body)
        return reply

    def _finish(self):
        reply = self.current
        reply.body = bytes(self.body)
        reply.complete = True
        self.current = None
        self.body.clear()
        return reply

    def _read_head(self):
        while True:
            if not b"HTTP/".startswith(self.buffer[:5]):
                raise MalformedReply(bytes(self.buffer[:60]))
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return False
            head = bytes(self.buffer[:end])
            del self.buffer[:end + 4]
            try:
                status = int(head[9:12])
            except ValueError:
                raise MalformedReply(head[:60]) from None
            if 100 <= status < 200 and status != 101:
                self.interim.append(status)
                continue
            self.current = Reply(status, head, self.interim)
            self.interim = []
            self._choose_framing(self.methods.popleft() if self.methods else "GET")
            return True

    def _choose_framing(self, method):
        reply = self.current
        lower = reply.head.lower()
        if method == "HEAD" or reply.status in (204, 304):
            self.framing, self.body_left = "length", 0
        elif b"\r\ntransfer-encoding:" in lower:
            chunked = reply.fields("transfer-encoding")[-1].lower().endswith("chunked")
            self.framing, self.body_left = ("chunked" if chunked else "eof"), 0
        elif b"\r\ncontent-length:" in lower:
            length = reply.fields("content-length")[0]
            if not length.isdigit():
                raise MalformedReply(b"Content-Length: " + length.encode("latin-1"))
            self.framing, self.body_left = "length", int(length)
        else:
            self.framing = "eof"

    def _read_body(self):
        if self.framing == "chunked":
            return self._read_chunks()
        if self.framing == "eof":
            self.body += self.buffer
            self.buffer.clear()
            return False
        self._take(self.body_left)
        return self.body_left == 0

    def _take(self, count):
        piece = self.buffer[:count]
        self.body += piece
        del self.buffer[:len(piece)]
        self.body_left -= len(piece)

    def _read_chunks(self):
        """body_left counts the bytes of the open chunk, its line end included."""
        while True:
            if self.body_left > 2:
                self._take_of_chunk()
                if self.body_left > 2:
                    return False
            if self.body_left > 0:
                if len(self.buffer) < 2:
                    return False
                if self.buffer[:2] != b"\r\n":
                    raise MalformedReply(b"no line end after a chunk")
                del self.buffer[:2]
                self.body_left = 0
            end = self.buffer.find(b"\r\n")
            if end < 0:
                return False
            try:
                size = int(bytes(self.buffer[:end]).split(b";")[0], 16)
            except ValueError:
                raise MalformedReply(bytes(self.buffer[:60])) from None
            if size == 0:
                trailer_end = self.buffer.find(b"\r\n\r\n", end)
                if trailer_end < 0:
                    return False
                del self.buffer[:trailer_end + 4]
                return True
            del self.buffer[:end + 2]
            self.body_left = size + 2

    def _take_of_chunk(self):
        self._take(min(self.body_left - 2, len(self.buffer)))
