# SPDX-License-Identifier: Apache-2.0
"""Signals other than a first and a second stop."""

import re
import signal
import unittest

from http_client import Connection, request
from service_case import DRAIN, LINGER, MARGIN, ServiceCase
from service_process import TIME_SCALE


class Signals(ServiceCase):
    """SIGQUIT tells all, SIGPIPE is nobody's death, SIGHUP is left alone."""

    def test_quit_prints_every_fiber_and_exits_2(self):
        service = self.start()
        self.hold(service, "/never", count=7)
        service.send(signal.SIGQUIT)
        self.assertEqual(service.wait(), 2, service.log())
        started = re.findall(r"\S+\.(?:cpp|hpp):\d+", service.log())
        self.assertGreaterEqual(len(started), 7, service.log())
        self.assertIn("fiber", service.log().lower())

    def test_quit_during_a_drain(self):
        service = self.start()
        self.hold(service, "/never")
        service.send(signal.SIGTERM)
        service.wait_line("api: draining")
        service.send(signal.SIGQUIT)
        self.assertEqual(service.wait(), 2, service.log())

    def test_writing_to_clients_that_left_kills_nobody(self):
        service = self.start()
        for _ in range(100):
            leaver = Connection(service.app_port)
            leaver.send(request("/64k") * 20)
            leaver.reset()
        for _ in range(50):
            with Connection(service.app_port) as leaver:
                leaver.send(request("/slow?ms=20") * 3)
        self.assert_serves(service)
        self.assertEqual(service.stop(), 0, service.log())

    def test_hangup_has_its_default_action(self):
        service = self.start()
        service.send(signal.SIGHUP)
        self.assertEqual(service.wait(), -signal.SIGHUP, service.log())

    def test_unrelated_signals_do_nothing(self):
        service = self.start()
        for number in (signal.SIGCHLD, signal.SIGWINCH, signal.SIGCONT, signal.SIGURG):
            service.send(number)
        self.assert_serves(service)
        self.assertEqual(service.stop(), 0, service.log())

    def test_stopped_and_continued(self):
        """A pause by the shell is a pause, not an end."""
        service = self.start()
        [held] = self.hold(service, "/slow?ms=300")
        service.send(signal.SIGSTOP)
        service.send(signal.SIGCONT)
        self.assertEqual(held.reply().status, 200)
        self.assertEqual(service.stop(), 0, service.log())

    def test_signal_to_any_thread_is_delivered(self):
        """Whichever thread the kernel may pick: all but those that block it."""
        count = len(self.start("--workers", "2").threads_open_to(signal.SIGTERM))
        self.assertGreaterEqual(count, 3, "main and each worker are open to it")
        for place in range(count):
            with self.subTest(thread=place):
                service = self.start("--workers", "2")
                threads = service.threads_open_to(signal.SIGTERM)
                service.send_to_thread(threads[min(place, len(threads) - 1)], signal.SIGTERM)
                self.assertEqual(service.wait(), 0, service.log())
                self.assertLessEqual(service.seconds_to_end(), DRAIN + LINGER + MARGIN)
                self.assert_orderly(service)


if __name__ == "__main__":
    unittest.main()
