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

    def test_one_that_throws(self):
        service = self.end_by("/crash-component", status=1)
        self.assert_said(service, "crash")

    def test_one_that_fails(self):
        service = self.end_by("/fail-component", status=1)
        self.assert_said(service, "fail")

    def test_one_that_returns_without_error(self):
        service = self.end_by("/stop-component", status=0)
        self.assertFalse(self.has_said(service, "error"), service.log())

    def test_first_cause_survives_a_cut_drain(self):
        """A request that never ends is cut later: a second failure, not the cause."""
        service = self.start("--shutdown-timeout", "1")
        self.hold(service, "/never")
        fetch(service.app_port, "/crash-component")
        self.assert_ends(service, 1, within=1 + MARGIN + 1)
        self.assert_said(service, "crash")
        self.assert_said(service, "/never")

    def test_debug_server_stops_with_the_others(self):
        service = self.start()
        self.assertEqual(fetch(service.debug_port, "/healthz").status, 200)
        fetch(service.app_port, "/stop-component")
        self.assertEqual(service.wait(), 0, service.log())
        self.assertTrue(is_refused(service.debug_port))


if __name__ == "__main__":
    unittest.main()
