#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Stops a server in the middle of load and accounts for each single request.

Starts the server, keeps connections busy (each sends its next request when it has its reply),
sends a signal, and watches until the server has ended. Every request that was sent ends up in
exactly one column: answered, or lost, and a lost one under the name of how it was lost:

  fresh       the first request of its connection; no byte of a reply came
  reused      a later request of a connection that had answered before; no byte came
  unsent      the connection was made and then reset before the request could be written
  truncated   part of the reply had come
  garbled     what came is no HTTP reply
  unanswered  the server has ended and the connection shows neither reply nor end

each with "before" or "after" (was it sent before the signal?) and "fin" or "rst". Not lost: a
connection closed while it had no request, one answered with Connection: close, one refused after
the door was closed.

Besides the load there are connections with a script of their own: idle ones, half a head, half a
body (both may be completed some time after the signal), slow readers, requests that never end.

  drain_load.py --cmd 'build/release/examples/service --app 127.0.0.1:8080' --port 8080

The exit status is 0 only if the verdict is PASS; "reasons" says why it is not.
"""

import argparse
import contextlib
import dataclasses
import errno
import heapq
import json
import os
import random
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter

from http_reply import MalformedReply, ReplyReader

READ = select.EPOLLIN | select.EPOLLRDHUP
READ_WRITE = READ | select.EPOLLOUT
SETTLE_BEFORE_LOAD = 0.2     # a server that accepts may still be starting its other parts
SETTLE_AFTER_EXIT = 0.3      # what the kernel still delivers after the server has ended
RETRY_PAUSE = 0.005


@dataclasses.dataclass
class Options:
    """What to run and how to stop it; the command line has the same names."""

    cmd: str = ""
    port: int = 0
    host: str = "127.0.0.1"
    path: str = "/"
    method: str = "GET"
    body_size: int = 0
    signal: str = "TERM"
    trigger: str = ""
    conns: int = 64
    new_conns: int = 0
    think_ms: float = 0
    before: float = 1.0
    after: float = 15.0
    second_after: float = None
    second_signal: str = ""
    idle: int = 0
    half_head: int = 0
    half_body: int = 0
    half_complete: float = None
    slow_readers: int = 0
    slow_path: str = "/64k"
    slow_bps: float = 20e6
    hung: int = 0
    hung_path: str = "/never"
    keep_trying: bool = False
    expect_exit: int = 0
    max_exit: float = None
    ready_timeout: float = 10.0
    seed: int = 1


class ServerNotReady(RuntimeError):
    """The server ended, or took no connection, before the load could begin."""


# ---- the loop


class Loop:
    """Sockets by epoll, timers by a heap; everything happens on one thread."""

    def __init__(self):
        self._epoll = select.epoll()
        self._handlers = {}
        self._timers = []
        self._timer_count = 0

    def close(self):
        self._epoll.close()

    def watch(self, descriptor, mask, handler):
        self._handlers[descriptor] = handler
        self._epoll.register(descriptor, mask)

    def change(self, descriptor, mask):
        self._epoll.modify(descriptor, mask)

    def forget(self, descriptor):
        self._epoll.unregister(descriptor)
        del self._handlers[descriptor]

    def later(self, seconds, action):
        self._timer_count += 1
        heapq.heappush(self._timers, (time.monotonic() + seconds, self._timer_count, action))

    def step(self):
        """Waits for sockets until the next timer, then runs what is due."""
        wait = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else 1.0
        for descriptor, events in self._epoll.poll(wait, 256):
            handler = self._handlers.get(descriptor)
            if handler:
                handler(events)
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2]()


# ---- the server


class Server:
    """The program under test, its output in a file, its end told to the loop."""

    def __init__(self, command):
        self.output = tempfile.TemporaryFile()
        self.process = subprocess.Popen(shlex.split(command), stdin=subprocess.DEVNULL,
                                        stdout=self.output, stderr=self.output,
                                        start_new_session=True)
        self.ended_at = None
        self.end_reader, self._end_writer = socket.socketpair()
        threading.Thread(target=self._await_end, daemon=True).start()

    def _await_end(self):
        self.process.wait()
        self.ended_at = time.monotonic()
        self._end_writer.close()     # the loop sees the other end become readable

    def wait_listening(self, address, limit):
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline and self.ended_at is None:
            try:
                socket.create_connection(address, 1).close()
                return
            except OSError:
                time.sleep(0.01)
        self.kill()
        raise ServerNotReady(f"status {self.process.returncode}: {self.text()[-500:]}")

    def send(self, name):
        if self.ended_at is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, getattr(signal, "SIG" + name))

    def kill(self):
        """Ends the server and whatever it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def text(self):
        self.output.seek(0)
        return self.output.read().decode("utf-8", "replace")

    def close(self):
        self.kill()
        self.end_reader.close()
        self.output.close()


# ---- the account


class Ledger:
    """Where each request and each connection ended."""

    def __init__(self):
        self.sent = 0
        self.answered = 0
        self.answered_after_signal = 0
        self.told_to_close = 0
        self.lost = Counter()
        self.bad_statuses = Counter()
        self.refused = 0
        self.connect_errors = Counter()
        self.closed_idle = Counter()
        self.first_refused = None
        self.last_answer = None

    def lost_total(self):
        return sum(self.lost.values())


# ---- connections


class Connection:
    """A non-blocking connection that tells its kind of client what happens."""

    PIECE = 1 << 18              # most bytes taken by one read

    def __init__(self, run):
        self.run = run
        self.socket = None
        self.watched = False
        self.connecting = False
        self.unsent = b""
        self.mask = 0

    def open(self):
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.prepare()
        error = self.socket.connect_ex((self.run.options.host, self.run.options.port))
        if error not in (0, errno.EINPROGRESS):
            self.drop_socket()
            self.connect_failed(error)
            return
        self.connecting = True
        self.resume(READ_WRITE)

    def is_open(self):
        return self.socket is not None

    def close(self):
        if self.is_open():
            self.pause()
            self.drop_socket()

    def drop_socket(self):
        self.socket.close()
        self.socket = None
        self.connecting = False

    def pause(self):
        """Hears nothing of the socket until resume(), not even its end."""
        if self.watched:
            self.watched = False
            self.run.loop.forget(self.socket.fileno())

    def resume(self, mask):
        self.watched = True
        self.mask = mask
        self.run.loop.watch(self.socket.fileno(), mask, self.on_event)

    def listen_for(self, mask):
        if mask != self.mask:
            self.mask = mask
            self.run.loop.change(self.socket.fileno(), mask)

    def write(self, data):
        self.unsent = data
        self.flush()

    def flush(self):
        try:
            self.unsent = self.unsent[self.socket.send(self.unsent):]
        except BlockingIOError:
            pass
        except OSError:
            self.unsent = b""
            self.ended("rst")
            return
        self.listen_for(READ_WRITE if self.unsent else READ)

    def on_event(self, events):
        if self.connecting:
            error = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                self.close()
                self.connect_failed(error)
                return
            if not events & select.EPOLLOUT:
                return
            self.connecting = False
            self.connected()
            return
        if self.unsent and events & select.EPOLLOUT:
            self.flush()
        if self.is_open() and events & ~select.EPOLLOUT:
            self.read()

    def read(self):
        try:
            data = self.socket.recv(self.PIECE)
        except BlockingIOError:
            return
        except OSError:
            self.ended("rst")
            return
        if data:
            self.received(data)
        else:
            self.ended("fin")

    # What a kind of client does about it.

    def prepare(self):
        """Before connect()."""

    def connected(self):
        raise NotImplementedError

    def connect_failed(self, error):
        raise NotImplementedError

    def received(self, data):
        raise NotImplementedError

    def ended(self, how):
        raise NotImplementedError


class LoadConnection(Connection):
    """Sends a request, waits for its reply, thinks, sends the next; opens anew when closed."""

    def __init__(self, run, one_request_each):
        super().__init__(run)
        self.one_request_each = one_request_each
        self.waiting = False       # a request is out and its reply is not whole
        self.sent_at = None
        self.answers = 0           # on this connection
        self.reader = None

    def open(self):
        if self.run.stopping:
            return
        self.reader = ReplyReader()
        self.answers = 0
        self.waiting = False
        super().open()

    def connect_failed(self, error):
        ledger = self.run.ledger
        if error == errno.ECONNREFUSED:
            ledger.refused += 1
            ledger.first_refused = ledger.first_refused or time.monotonic()
        elif error in (errno.ECONNRESET, errno.EPIPE):
            ledger.sent += 1
            ledger.lost[f"unsent_{self.run.phase()}_rst"] += 1
        else:
            ledger.connect_errors[errno.errorcode.get(error, str(error))] += 1
        if self.run.options.keep_trying or self.run.signalled_at is None:
            self.run.loop.later(RETRY_PAUSE, self.open)

    def connected(self):
        self.send_request()

    def send_request(self):
        if not self.is_open() or self.waiting:
            return
        if self.run.stopping:
            self.close()
            return
        self.run.ledger.sent += 1
        self.waiting = True
        self.sent_at = time.monotonic()
        self.reader.expect(self.run.options.method)
        self.write(self.run.last_request if self.one_request_each else self.run.request)

    def received(self, data):
        if not self.waiting:
            return                 # for example a 408; the end of the connection follows
        try:
            self.reader.feed(data)
            reply = self.reader.next_reply()
        except MalformedReply:
            self.lose("garbled", "data")
            return
        if reply:
            self.answer(reply)

    def ended(self, how):
        if not self.waiting:
            self.run.ledger.closed_idle[how] += 1
            self.close()
            self.open_again()
            return
        reply = self.reader.end_of_stream() if how == "fin" else None
        if reply:
            self.answer(reply)
        elif self.reader.started():
            self.lose("truncated", how)
        else:
            self.lose("reused" if self.answers else "fresh", how)

    def answer(self, reply):
        run, ledger = self.run, self.run.ledger
        self.waiting = False
        self.answers += 1
        ledger.answered += 1
        if not 200 <= reply.status < 300:
            ledger.bad_statuses[reply.status] += 1
        is_last = self.one_request_each or reply.says_close()
        if run.signalled_at is not None:
            ledger.answered_after_signal += 1
            ledger.last_answer = time.monotonic()
            ledger.told_to_close += is_last and not self.one_request_each
        if is_last:
            self.close()
            self.open_again()
        elif run.options.think_ms:
            run.loop.later(run.random.uniform(0, 2 * run.options.think_ms) / 1e3,
                           self.send_request)
        else:
            self.send_request()

    def lose(self, kind, how):
        when = "before" if self.run.was_before_signal(self.sent_at) else "after"
        self.run.ledger.lost[f"{kind}_{when}_{how}"] += 1
        self.waiting = False
        self.close()
        self.open_again()

    def open_again(self):
        if not self.run.stopping and (self.run.options.keep_trying or not self.run.server_gone):
            self.run.loop.later(0, self.open)


class ScriptedConnection(Connection):
    """One request at most, sent whole or in part; remembers how the connection ended."""

    kind = ""

    def __init__(self, run):
        super().__init__(run)
        self.reader = ReplyReader()
        self.outcome = "still open"
        self.outcome_at = None

    def first_part(self):
        raise NotImplementedError

    def connected(self):
        self.write(self.first_part())

    def connect_failed(self, error):
        self.note("connect " + errno.errorcode.get(error, str(error)))

    def received(self, data):
        try:
            self.reader.feed(data)
            reply = self.reader.next_reply()
        except MalformedReply:
            self.finish("garbled")
            return
        if reply:
            self.replied(reply)

    def replied(self, reply):
        self.finish(f"complete {reply.status}")

    def ended(self, how):
        reply = self.reader.end_of_stream() if how == "fin" else None
        if reply:
            self.replied(reply)
            return
        cut = self.reader.cut_reply()
        self.finish(how + (f" truncated after {len(cut.body)} bytes" if cut else "")
                    + (" at exit" if self.run.server_gone else ""))

    def finish(self, outcome):
        self.note(outcome)
        self.close()

    def note(self, outcome):
        self.outcome = outcome
        self.outcome_at = time.monotonic()

    def was_answered(self):
        return self.outcome == "complete 200"


class IdleConnection(ScriptedConnection):
    """Has had one reply and stays, silent."""

    kind = "idle"

    def __init__(self, run):
        super().__init__(run)
        self.status = None

    def first_part(self):
        return self.run.make_request("/")

    def replied(self, reply):
        self.status = reply.status
        if reply.says_close():
            self.finish(f"complete {reply.status}, told to close")

    def ended(self, how):
        self.finish(how + (f" after {self.status}" if self.status else "")
                    + (" at exit" if self.run.server_gone else ""))


class HalfRequest(ScriptedConnection):
    """Sends a request up to a point; complete() sends the rest, if anyone calls it."""

    def parts(self):
        raise NotImplementedError

    def first_part(self):
        return self.parts()[0]

    def complete(self):
        if self.is_open() and not self.connecting:
            self.write(self.parts()[1])


class HalfHead(HalfRequest):
    kind = "half_head"

    def parts(self):
        request = self.run.make_request("/")
        return request[:-2], request[-2:]


class HalfBody(HalfRequest):
    kind = "half_body"

    def parts(self):
        request = self.run.make_request("/echo", "POST", b"y" * 10)
        return request[:-5], request[-5:]


class SlowReader(ScriptedConnection):
    """Takes its reply at a limited rate, through a small receive buffer."""

    kind = "slow"
    PIECE = 65536

    def prepare(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.PIECE)

    def first_part(self):
        return self.run.make_request(self.run.options.slow_path)

    def received(self, data):
        super().received(data)
        if self.is_open():
            self.pause()
            self.run.loop.later(len(data) / self.run.options.slow_bps, self.go_on)

    def go_on(self):
        if self.is_open():
            self.resume(READ)


class HungRequest(ScriptedConnection):
    """Asks for a reply that never comes."""

    kind = "hung"

    def first_part(self):
        return self.run.make_request(self.run.options.hung_path)


class Trigger(ScriptedConnection):
    """Stops the server by a request in place of a signal."""

    kind = "trigger"

    def first_part(self):
        return self.run.make_request(self.run.options.trigger)


# ---- one run


@dataclasses.dataclass
class Outcome:
    """What happened, and what is wrong with it."""

    ledger: Ledger
    outstanding: int
    exit_status: int             # None if the server had to be killed
    exit_seconds: float          # from the first signal; None likewise
    first_refused: float
    last_answer: float
    scripted: dict               # kind -> {how it ended: how often}
    output: str
    reasons: list

    def passed(self):
        return not self.reasons

    def as_dict(self):
        ledger = self.ledger
        result = {
            "sent": ledger.sent, "answered": ledger.answered,
            "answered_after_signal": ledger.answered_after_signal,
            "told_to_close": ledger.told_to_close,
            "lost_total": ledger.lost_total(), "lost": dict(ledger.lost),
            "bad_statuses": dict(ledger.bad_statuses), "refused": ledger.refused,
            "connect_errors": dict(ledger.connect_errors),
            "closed_idle": dict(ledger.closed_idle), "outstanding": self.outstanding,
            "exit_seconds": self.exit_seconds,
            "exit_status": "killed by test" if self.exit_status is None else self.exit_status,
            "first_refused": self.first_refused, "last_answer": self.last_answer,
            "scripted": self.scripted, "output": self.output[-300:],
        }
        if self.reasons:
            result["reasons"] = "; ".join(self.reasons)
        result["verdict"] = "PASS" if self.passed() else "FAIL"
        return result


class DrainRun:
    """One server, one load, one stop."""

    def __init__(self, options):
        self.options = options
        self.random = random.Random(options.seed)
        self.loop = Loop()
        self.ledger = Ledger()
        self.signalled_at = None
        self.signals_sent = 0
        self.server_gone = False
        self.stopping = False      # nobody sends or connects any more
        self.finished = False
        self.load = []
        self.scripted = []
        body = b"x" * options.body_size
        self.request = self.make_request(options.path, options.method, body)
        self.last_request = self.make_request(options.path, options.method, body,
                                              "Connection: close\r\n")

    def make_request(self, path, method="GET", body=b"", more=""):
        if body or method == "POST":
            more += f"Content-Length: {len(body)}\r\n"
        host = f"{self.options.host}:{self.options.port}"
        return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n".encode() + body

    def phase(self):
        return "before" if self.signalled_at is None else "after"

    def was_before_signal(self, moment):
        return self.signalled_at is None or moment < self.signalled_at

    def execute(self):
        options = self.options
        self.server = Server(options.cmd)
        try:
            self.server.wait_listening((options.host, options.port), options.ready_timeout)
            time.sleep(SETTLE_BEFORE_LOAD)
            self.open_connections()
            self.loop.later(options.before, self.stop_server)
            self.loop.watch(self.server.end_reader.fileno(), select.EPOLLIN, self.server_ended)
            while not self.finished:
                self.loop.step()
            outcome = self.sum_up(self.server_gone)
            outcome.reasons = list(judge(options, outcome, self))
            return outcome
        finally:
            self.server.close()
            for connection in (*self.load, *self.scripted):
                connection.close()
            self.loop.close()

    def open_connections(self):
        options = self.options
        kinds = ((IdleConnection, options.idle), (HalfHead, options.half_head),
                 (HalfBody, options.half_body), (SlowReader, options.slow_readers),
                 (HungRequest, options.hung))
        self.scripted = [kind(self) for kind, count in kinds for _ in range(count)]
        self.load = ([LoadConnection(self, False) for _ in range(options.conns)]
                     + [LoadConnection(self, True) for _ in range(options.new_conns)])
        for connection in (*self.scripted, *self.load):
            connection.open()

    def stop_server(self):
        options = self.options
        first = self.signals_sent == 0
        self.signals_sent += 1
        if first:
            self.signalled_at = time.monotonic()
            self.loop.later(options.after, self.finish)
            if options.second_after is not None:
                self.loop.later(options.second_after, self.stop_server)
            if options.half_complete is not None:
                for connection in self.scripted:
                    if isinstance(connection, HalfRequest):
                        self.loop.later(options.half_complete, connection.complete)
            if options.trigger:
                self.scripted.append(Trigger(self))
                self.scripted[-1].open()
                return
        name = options.signal if first else options.second_signal or options.signal
        if name != "NONE":
            self.server.send(name)

    def server_ended(self, _events):
        self.loop.forget(self.server.end_reader.fileno())
        self.server_gone = True
        self.stopping = not self.options.keep_trying
        if self.signalled_at is None:
            self.signalled_at = self.server.ended_at
        self.loop.later(SETTLE_AFTER_EXIT, self.finish)

    def finish(self):
        self.finished = True

    def sum_up(self, ended):
        outstanding = sum(connection.is_open() and connection.waiting for connection in self.load)
        if ended and outstanding:
            self.ledger.lost["unanswered"] += outstanding
        self.server.kill()
        scripted = {}
        for connection in self.scripted:
            scripted.setdefault(connection.kind, Counter())[connection.outcome] += 1
        return Outcome(
            ledger=self.ledger, outstanding=outstanding,
            exit_status=self.server.process.returncode if ended else None,
            exit_seconds=self.since_signal(self.server.ended_at) if ended else None,
            first_refused=self.since_signal(self.ledger.first_refused),
            last_answer=self.since_signal(self.ledger.last_answer),
            scripted={kind: dict(ends) for kind, ends in scripted.items()},
            output=self.server.text(), reasons=[])

    def since_signal(self, moment):
        if moment is None or self.signalled_at is None:
            return None
        return round(moment - self.signalled_at, 3)


def judge(options, outcome, run):
    """Yields what is wrong with the outcome."""
    ledger = outcome.ledger
    if ledger.lost_total():
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(ledger.lost.items()))
        yield f"{ledger.lost_total()} requests lost ({kinds})"
    if outcome.exit_status is None:
        yield f"no end by itself within {options.after} s"
    elif outcome.exit_status != options.expect_exit:
        yield f"exit status {outcome.exit_status}, expected {options.expect_exit}"
    if outcome.exit_status is not None and options.max_exit is not None \
            and outcome.exit_seconds > options.max_exit:
        yield f"ended after {outcome.exit_seconds} s, allowed are {options.max_exit} s"
    if run.load and not ledger.answered:
        yield "no request answered"
    if ledger.bad_statuses:
        yield f"statuses outside 2xx: {dict(ledger.bad_statuses)}"
    if outcome.first_refused is not None and outcome.first_refused < 0:
        yield "connections refused before the signal"
    for connection in run.scripted:
        has_to = isinstance(connection, SlowReader) or (
            isinstance(connection, HalfRequest) and options.half_complete is not None)
        if has_to and not connection.was_answered():
            yield f"{connection.kind}: {connection.outcome}"


def run(options):
    """Runs once. Returns the Outcome; raises ServerNotReady."""
    return DrainRun(options).execute()


def parse_command_line(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    help_of = {
        "cmd": "the command that starts the server", "port": "where it listens",
        "signal": "TERM, INT, ...; NONE if it ends by itself",
        "trigger": "a path to GET in place of the signal",
        "conns": "keep-alive connections", "new_conns": "clients that connect for each request",
        "think_ms": "mean pause between a reply and the next request",
        "before": "seconds of load before the signal",
        "after": "seconds after the signal until it is killed",
        "second_after": "signal again after so many seconds",
        "half_complete": "complete half requests so many seconds after the signal",
        "slow_bps": "bytes a second that slow readers take",
        "hung": "requests that never end", "keep_trying": "go on connecting after the signal",
        "max_exit": "most seconds from the signal to the end",
    }
    for field in dataclasses.fields(Options):
        switch = "--" + field.name.replace("_", "-")
        text = help_of.get(field.name, f"default: {field.default}")
        if field.type is bool:
            parser.add_argument(switch, action="store_true", help=text)
        else:
            parser.add_argument(switch, type=field.type, default=field.default, help=text,
                                required=field.name in ("cmd", "port"))
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    values = vars(parser.parse_args(arguments))
    as_json = values.pop("json")
    return Options(**values), as_json


def main():
    options, as_json = parse_command_line()
    try:
        outcome = run(options)
    except ServerNotReady as error:
        sys.exit(f"server not ready: {error}")
    if as_json:
        print(json.dumps(outcome.as_dict()))
    else:
        for key, value in outcome.as_dict().items():
            print(f"{key:22} {value}")
    return 0 if outcome.passed() else 1


if __name__ == "__main__":
    sys.exit(main())
