# SPDX-License-Identifier: Apache-2.0
"""Starting: taken ports, signals while it starts, a restart after a kill."""

import random
import signal
import socket
import threading
import time
import unittest

from http_client import Connection, fetch, is_refused, request
from service_case import LIFE, REPEATS, ServiceCase, report
from service_process import TIME_SCALE, ReservedPort, ServiceProcess, says_ready

STARTS = 30 * REPEATS      # starts that a signal comes into


def take_port():
    """A socket that listens on a port, and the port."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    holder.listen(8)
    return holder, holder.getsockname()[1]


class Knocker:
    """Asks a port again and again until told to stop; keeps what was answered."""

    def __init__(self, port):
        self.port = port
        self.answers = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._knock)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _knock(self):
        while not self._stop.is_set():
            try:
                with Connection(self.port) as connection:
                    connection.send(request("/"))
                    self.answers.append(connection.reply(limit=5))
            except (OSError, AssertionError):
                time.sleep(0.0005)      # refused: nothing to wait for, so ask anew soon


class PortTaken(ServiceCase):
    """Both listeners are bound before either serves."""

    def check(self, which):
        holder, port = take_port()
        self.addCleanup(holder.close)
        service = ServiceProcess(**{which: port})
        self.addCleanup(service.__exit__)
        other = service.debug_port if which == "app_port" else service.app_port
        with Knocker(other) as knocker:
            service.start()
            self.assertEqual(service.wait(), 1, service.log())
        self.assertLessEqual(service.seconds_to_end(), 0.5 * TIME_SCALE)
        self.assertIn(f"listen tcp 127.0.0.1:{port}: address already in use", service.log())
        self.assertFalse(any(map(says_ready, service.lines())), service.log())
        self.assertEqual(knocker.answers, [], "something was served")
        self.assertTrue(is_refused(other))

    def test_debug_port(self):
        self.check("debug_port")

    def test_application_port(self):
        self.check("app_port")

    def test_both_options_name_one_port(self):
        holder = ReservedPort()
        self.addCleanup(holder.close)
        service = self.start_only(app_port=holder.number, debug_port=holder.number)
        self.assertEqual(service.wait(), 1, service.log())
        self.assertIn(f"listen tcp 127.0.0.1:{holder.number}: address already in use",
                      service.log())
        self.assertFalse(any(map(says_ready, service.lines())), service.log())


class BadOptions(ServiceCase):
    """What is asked wrongly is refused with a sentence, and nothing is started."""

    def check(self, *options):
        service = self.start_only(*options)
        self.assertNotIn(service.wait(), (0, None), service.log())
        self.assertGreater(service.process.returncode, 0, "killed by a signal")
        self.assertNotEqual(service.log(), "")
        self.assertIsNone(service.find_line("listening"), service.log())

    def test_unknown_option(self):
        self.check("--no-such-option")

    def test_workers_not_a_number(self):
        self.check("--workers", "many")

    def test_help_names_every_option(self):
        service = self.start_only("--help")
        self.assertEqual(service.wait(), 0)
        for option in ("--app", "--debug", "--workers", "--shutdown-timeout", "--drain",
                       "--body-limit", "--header-limit"):
            self.assertIn(option, service.log())


class SignalWhileStarting(ServiceCase):
    """A stop at any moment of the start is an orderly stop.

    Before main() has installed its handlers the default action kills, which no program can
    prevent. Installing them is the first thing it does, so once it has said anything at all, a
    signal ends it with status 0.
    """

    def check(self, number):
        with ServiceProcess() as measured:
            time_to_ready = time.monotonic() - measured.started_at
        seed = random.randrange(1 << 32)
        chance = random.Random(seed)
        statuses = {}
        for start in range(STARTS):
            pause = chance.uniform(0, 1.3 * time_to_ready)
            with self.subTest(seed=seed, start=start, pause=pause):
                service = self.start_only()
                time.sleep(pause)          # the stimulus: a moment of the start
                said_before = bool(service.lines())
                status = service.stop(number)
                statuses[status] = statuses.get(status, 0) + 1
                self.assertIn(status, (0, -number), service.log())
                if status != 0:
                    self.assertFalse(said_before, service.log())
                    self.assertEqual(service.log(), "", "killed after it had begun to speak")
                elif any(map(says_ready, service.lines())):
                    self.assert_orderly(service, LIFE[:1] + LIFE[3:4] + LIFE[-1:])
                self.assert_nothing_left(service)
        self.assertIn(0, statuses, "no signal came late enough to be handled")
        report("signal while starting", statuses=statuses, ready_after=time_to_ready)

    def test_term(self):
        self.check(signal.SIGTERM)

    def test_int(self):
        self.check(signal.SIGINT)


class Restart(ServiceCase):
    """The next one can bind at once, whatever the last one left in the kernel."""

    def restart(self, old):
        new = self.start(app_port=old.app_port, debug_port=old.debug_port)
        self.assert_serves(new)
        self.assertEqual(new.stop(), 0, new.log())

    def test_after_kill_with_connections(self):
        old = self.start()
        busy = [self.connect(old) for _ in range(20)]
        for connection in busy:
            connection.exchange("/")
        self.hold(old, "/never", count=3)
        old.send(signal.SIGKILL)
        self.assertEqual(old.wait(), -signal.SIGKILL)
        self.restart(old)

    def test_after_orderly_stop(self):
        old = self.start()
        for _ in range(20):
            fetch(old.app_port, "/")     # the server closes first, so it keeps TIME_WAIT
        self.assertEqual(old.stop(), 0, old.log())
        self.restart(old)


if __name__ == "__main__":
    unittest.main()
