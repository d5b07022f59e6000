#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Sends the cases of http_cases.json byte by byte and judges the answers.

  http_cases.py HOST PORT [--only NAME,NAME] [--group GROUP] [-v]

Says for each case whether the answer was the best one, an allowed one, or wrong. The exit status
is 0 if none was wrong. What the server must serve stands at the head of the data.
"""

import argparse
import dataclasses
import json
import os
import re
import select
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from http_reply import MalformedReply, ReplyReader

CASES_FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "http_cases.json")

QUIET = 0.5            # all requests answered and so long nothing: the connection stays open
NO_REPLY_LIMIT = 4.0   # the most to wait for the first byte of a reply
MORE_LIMIT = 1.5       # ... for the next byte, once there was a reply
CLOSE_LIMIT = 7.0      # ... for the end that the server announced; it may linger
WRITE_LIMIT = 8.0      # ... for the server to take what is sent
BATCH = 1 << 16


@dataclasses.dataclass
class Answer:
    """All that came back on one connection."""

    statuses: list
    bodies: list
    whole: list          # whether each reply is complete
    heads: list
    interim: list
    closed: bool
    reset: bool

    def summary(self):
        parts = [f"{code}+" for code in self.interim]
        parts += [status if whole else f"{status} cut" for status, whole
                  in zip(self.statuses, self.whole)]
        end = "reset" if self.reset else "closed" if self.closed else "open"
        return f"{' '.join(parts) or 'no answer'}, {end}"


@dataclasses.dataclass
class Verdict:
    """What one case came to: "best", "allowed" or "wrong"."""

    case: dict
    answer: Answer
    rank: str

    def line(self):
        case = self.case
        return (f"{self.rank:7} {case['group']}/{case['name']}: {self.answer.summary()}"
                f"  | {case['about']} (RFC {case['rfc']})")


def load_cases(path=CASES_FILE):
    with open(path, encoding="utf-8") as file:
        return json.load(file)["cases"]


def expand(steps):
    """Yields the steps of a case: bytes to write, or a (name, value) of something else to do."""
    for step in steps:
        if isinstance(step, str):
            yield step.encode("latin-1")
        elif "repeat" in step:
            inner = step["repeat"]
            inner = [inner] if isinstance(inner, str) else inner
            yield b"".join(expand(inner)) * step["times"]
        elif "bytewise" in step:
            for byte in step["bytewise"].encode("latin-1"):
                yield bytes([byte])
        else:
            yield next(iter(step.items()))


class Talk:
    """One connection: writes while it reads, because a server may answer before it has read."""

    def __init__(self, host, port, methods):
        self.socket = socket.create_connection((host, port), 5)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.methods = methods
        self.received = bytearray()
        self.last_byte_at = time.monotonic()
        self.closed = False
        self.reset = False

    def run(self, steps):
        for step in expand(steps):
            if isinstance(step, bytes):
                self.write(step)
            elif step[0] == "half_close":
                self.half_close()
            elif step[0] == "await_interim":
                self.read_until(time.monotonic() + step[1], lambda: b"\r\n\r\n" in self.received)
            else:
                raise ValueError(f"unknown step {step}")
        self.read_to_end()
        self.socket.close()
        return self.interpret()

    def write(self, data):
        rest = memoryview(data)
        deadline = time.monotonic() + WRITE_LIMIT
        while rest and not self.closed and time.monotonic() < deadline:
            readable, writable, _ = select.select([self.socket], [self.socket], [], 0.1)
            if readable:
                self.read_some()
            if writable and not self.closed:
                try:
                    rest = rest[self.socket.send(rest[:BATCH]):]
                except BlockingIOError:
                    pass
                except OSError:
                    return         # the server reads no more; what it said may still come

    def half_close(self):
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass                   # reset already; reading will say so

    def read_some(self):
        try:
            data = self.socket.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            self.closed = self.reset = True
            return
        if data:
            self.received += data
            self.last_byte_at = time.monotonic()
        else:
            self.closed = True

    def read_until(self, deadline, is_enough):
        while not self.closed and not is_enough():
            left = deadline - time.monotonic()
            if left <= 0:
                return
            if select.select([self.socket], [], [], left)[0]:
                self.read_some()

    def read_to_end(self):
        """Reads until the server closes, or until it is clear that it will not."""
        self.last_byte_at = time.monotonic()
        while not self.closed:
            limit = self.how_long_to_wait()
            before = len(self.received)
            self.read_until(self.last_byte_at + limit, lambda: len(self.received) != before)
            if len(self.received) == before and not self.closed:
                return

    def how_long_to_wait(self):
        try:
            replies, reader = self.parse()
        except MalformedReply:
            return MORE_LIMIT
        if not replies:
            return NO_REPLY_LIMIT
        if replies[-1].says_close():
            return CLOSE_LIMIT
        all_answered = len(replies) >= len(self.methods) and not reader.started()
        return QUIET if all_answered else MORE_LIMIT

    def parse(self):
        reader = ReplyReader()
        for method in self.methods:
            reader.expect(method)
        reader.feed(self.received)
        replies = []
        while reply := reader.next_reply():
            replies.append(reply)
        return replies, reader

    def interpret(self):
        try:
            replies, reader = self.parse()
        except MalformedReply:
            text = self.received.decode("latin-1")
            return Answer(["raw"], [text], [True], [b""], [], self.closed, self.reset)
        interim = list(reader.interim)
        last = self.closed and reader.end_of_stream() or reader.cut_reply()
        if last:
            replies.append(last)
        for reply in replies:
            interim += reply.interim
        return Answer([str(reply.status) for reply in replies],
                      [reply.body.decode("latin-1") for reply in replies],
                      [reply.complete for reply in replies], [reply.head for reply in replies],
                      interim, self.closed, self.reset)


def status_fits(pattern, status):
    return any(re.fullmatch(one.replace("x", r"\d"), status) if one != "raw" else status == "raw"
               for one in pattern.split("|"))


def body_fits(wanted, body):
    return len(body) == wanted if isinstance(wanted, int) else body == wanted


def fits(accepted, answer):
    """Whether the answer is the accepted one."""
    if not all(answer.whole):
        return False
    if len(accepted["status"]) != len(answer.statuses):
        return False
    if not all(map(status_fits, accepted["status"], answer.statuses)):
        return False
    if "then" in accepted and answer.closed != (accepted["then"] == "closed"):
        return False
    if "bodies" in accepted and not all(map(body_fits, accepted["bodies"], answer.bodies)):
        return False
    if "interim" in accepted and accepted["interim"] != answer.interim:
        return False
    if "without" in accepted:
        field = b"\r\n" + accepted["without"].encode() + b":"
        if any(field in head.lower() for head in answer.heads):
            return False
    return True


def judge(case, answer):
    """The best answer ends without a reset, which could have destroyed it on the way."""
    for place, accepted in enumerate(case["accept"]):
        if fits(accepted, answer):
            return Verdict(case, answer, "allowed" if place or answer.reset else "best")
    return Verdict(case, answer, "wrong")


def run_case(host, port, case):
    try:
        answer = Talk(host, port, case.get("methods", ["GET"])).run(case["send"])
    except OSError as error:
        answer = Answer([f"error {error}"], [""], [False], [b""], [], True, True)
    return judge(case, answer)


def run_cases(host, port, cases, at_once=16):
    """Runs the cases, several at once. Returns their verdicts in order."""
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(lambda case: run_case(host, port, case), cases))


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--cases", default=CASES_FILE, help="the data (default: beside this file)")
    parser.add_argument("--only", help="names of cases")
    parser.add_argument("--group", help="one group of cases")
    parser.add_argument("-j", dest="at_once", type=int, default=16, help="connections at once")
    parser.add_argument("-v", action="store_true", dest="verbose", help="print all verdicts")
    options = parser.parse_args()
    cases = [case for case in load_cases(options.cases)
             if (not options.only or case["name"] in options.only.split(","))
             and (not options.group or case["group"] == options.group)]
    verdicts = run_cases(options.host, options.port, cases, options.at_once)
    for verdict in verdicts:
        if options.verbose or verdict.rank == "wrong":
            print(verdict.line())
    counts = {rank: sum(verdict.rank == rank for verdict in verdicts)
              for rank in ("best", "allowed", "wrong")}
    print(f"{len(cases)} cases: " + ", ".join(f"{count} {rank}" for rank, count in counts.items()))
    return 1 if counts["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
