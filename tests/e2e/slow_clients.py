#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How a server bounds clients that are slow or silent.

  slow_clients.py HOST PORT [--watch SECONDS] [--crowd N]

Watches one connection of each kind until the server ends it, or for so many seconds; then lets a
crowd drip header bytes while a normal client asks. Prints one line of JSON.
"""

import argparse
import contextlib
import dataclasses
import json
import select
import socket
import sys
import time

from http_reply import MalformedReply, ReplyReader

DRIP_PAUSE = 0.2           # five bytes a second
PROBES = 10                # normal requests while the crowd drips
PROBE_PAUSE = 0.3
PROBE_LIMIT = 5.0

POST_HEAD = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"

# name -> (what is sent at once, what is dripped over and over)
KINDS = {
    "silent": (b"", b""),
    "half request line": (b"GET / HT", b""),
    "header drip": (b"GET / HTTP/1.1\r\nHost: a\r\n", b"X-A: 1\r\n"),
    "body never sent": (POST_HEAD, b""),
    "body drip": (POST_HEAD, b"x"),
    "idle after a reply": (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b""),
}


@dataclasses.dataclass
class Watched:
    """One slow client and what the server did about it."""

    kind: str
    socket: socket.socket
    drip: bytes
    since: float
    dripped: int = 0
    answer: bytes = b""
    ended_after: float = None
    how: str = "open"

    def status(self):
        return int(self.answer[9:12]) if self.answer.startswith(b"HTTP/") else None

    def read(self):
        try:
            data = self.socket.recv(1 << 16)
        except OSError:
            self.end("reset")
            return
        if data:
            self.answer += data
        else:
            self.end("closed")

    def send_drop(self):
        if self.drip:
            with contextlib.suppress(OSError):      # the end shows when it is read
                place = self.dripped % len(self.drip)
                self.socket.send(self.drip[place:place + 1])
                self.dripped += 1

    def end(self, how):
        self.how = how
        self.ended_after = round(time.monotonic() - self.since, 2)
        self.socket.close()

    def as_dict(self):
        return {"how": self.how, "after": self.ended_after, "status": self.status()}


def watch_kinds(host, port, seconds, kinds=None):
    """Returns, for each kind, how the server ended it within the time, if it did."""
    watched = []
    for kind in kinds or KINDS:
        first, drip = KINDS[kind]
        connection = socket.create_connection((host, port), 5)
        connection.sendall(first)
        watched.append(Watched(kind, connection, drip, time.monotonic()))
    end = time.monotonic() + seconds
    next_drop = time.monotonic() + DRIP_PAUSE
    while (now := time.monotonic()) < end:
        alive = {client.socket: client for client in watched if client.how == "open"}
        if not alive:
            break
        if now >= next_drop:
            next_drop = now + DRIP_PAUSE
            for client in alive.values():
                client.send_drop()
        for ready in select.select(list(alive), [], [], max(0, min(next_drop, end) - now))[0]:
            alive[ready].read()
    for client in watched:
        client.socket.close()
    return {client.kind: client.as_dict() for client in watched}


def normal_request(host, port):
    """Seconds until a whole reply had come, or None if none came."""
    begin = time.monotonic()
    try:
        with socket.create_connection((host, port), PROBE_LIMIT) as connection:
            connection.settimeout(PROBE_LIMIT)
            connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            reader = ReplyReader()
            while not (reply := reader.next_reply()):
                data = connection.recv(4096)
                if not data:
                    return None
                reader.feed(data)
    except (OSError, MalformedReply):
        return None
    return time.monotonic() - begin if reply.status == 200 else None


def crowd(host, port, size, probes=PROBES):
    """`size` clients drip header bytes; a normal client asks now and then."""
    clients = []
    try:
        for _ in range(size):
            client = socket.create_connection((host, port), PROBE_LIMIT)
            clients.append(client)
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
            client.setblocking(False)
        times = []
        for _ in range(probes):
            for client in clients:
                with contextlib.suppress(OSError):
                    client.send(b"y")
            times.append(normal_request(host, port))
            time.sleep(PROBE_PAUSE)
        return {"size": len(clients), "still open": sum(map(is_open, clients)),
                "unanswered": times.count(None),
                "worst ms": round(1e3 * max((t for t in times if t is not None), default=0), 1)}
    finally:
        for client in clients:
            client.close()


def is_open(connection):
    try:
        return connection.recv(1 << 16) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--watch", type=float, default=15, help="seconds (default: 15)")
    parser.add_argument("--crowd", type=int, default=1000, help="clients (default: 1000)")
    options = parser.parse_args()
    result = watch_kinds(options.host, options.port, options.watch)
    result["crowd"] = crowd(options.host, options.port, options.crowd)
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
