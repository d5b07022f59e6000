# SPDX-License-Identifier: Apache-2.0
"""One exits, all exit: a component that fails, one that throws, one that just returns."""

import unittest

from http_client import fetch, is_refused
from service_case import DRAIN, LINGER, MARGIN, ServiceCase


class ComponentEnds(ServiceCase):
    """The others drain and stop; the first cause is reported and decides the status."""

    def end_by(self, path, status):
        service = self.start()
        held = self.hold(service, "/slow?ms=800", count=3)
        idle = self.connect(service)
        idle.exchange("/")
        fetch(service.app_port, path)
        for connection in held:
            self.assertEqual(connection.reply().status, 200)
        idle.end()
        self.assert_ends(service, status, within=0.8 + DRAIN + LINGER + 2 * MARGIN)
        self.assert_orderly(service, ("starting", "listening", "ready", "draining",
                                      "components stopped", "exit"))
        return service

    def assert_cause(self, service, said, error, *later):
        """It is said before anybody drains; the error comes last, its first cause first."""
        self.assert_orderly(service, (said, "api: draining", "components stopped", "error"))
        line = service.find_line("error: ")
        places = [line.find(part) for part in (error, *later)]
        self.assertNotIn(-1, places, line)
        self.assertEqual(places, sorted(places), line)

    def test_one_that_throws(self):
        service = self.end_by("/crash-component", status=1)
        self.assert_cause(service, "stop: crasher has thrown", "crasher: told to crash")

    def test_one_that_fails(self):
        service = self.end_by("/fail-component", status=1)
        self.assert_cause(service, "stop: crasher has failed", "crasher: told to fail")

    def test_one_that_returns_without_error(self):
        service = self.end_by("/stop-component", status=0)
        self.assert_orderly(service, ("stop: crasher has ended", "api: draining", "exit"))
        self.assertFalse(self.has_said(service, "error"), service.log())

    def test_first_cause_survives_a_cut_drain(self):
        """A request that never ends is cut later: a second failure, not the cause."""
        service = self.start("--shutdown-timeout", "1")
        self.hold(service, "/never")
        fetch(service.app_port, "/crash-component")
        self.assert_ends(service, 1, within=1 + MARGIN + 1)
        self.assert_cause(service, "stop: crasher has thrown", "crasher: told to crash", "/never")

    def test_debug_server_shows_the_drain_and_stops_last(self):
        service = self.start()
        self.assertEqual(fetch(service.debug_port, "/readyz").status, 200)
        [held] = self.hold(service, "/slow?ms=800")
        fetch(service.app_port, "/stop-component")
        service.wait_line("api: draining")
        self.assertEqual(fetch(service.debug_port, "/readyz").status, 503)
        self.assertEqual(fetch(service.debug_port, "/healthz").status, 200)
        self.assertIn(b"waits for sleep", fetch(service.debug_port, "/debug/fibers").body)
        self.assertEqual(held.reply().status, 200)
        self.assertEqual(service.wait(), 0, service.log())
        self.assert_orderly(service, ("api: stopped", "tracker: processed", "debug: stopped"))
        self.assertTrue(is_refused(service.debug_port))


if __name__ == "__main__":
    unittest.main()
