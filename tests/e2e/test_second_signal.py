# SPDX-License-Identifier: Apache-2.0
"""A second signal during a slow drain: out at once, saying what was in flight."""

import signal
import unittest

from service_case import ServiceCase
from service_process import TIME_SCALE


class SecondSignal(ServiceCase):
    """Exits within 100 ms with 128 + n."""

    def check(self, first, second):
        service = self.start()
        self.hold(service, "/slow?ms=9000", count=2)
        self.hold(service, "/never")
        service.send(first)
        service.wait_line("api: draining")
        service.send(second)
        self.assert_ends(service, 128 + second, within=0.1)
        self.assert_said(service, "/slow")
        self.assert_said(service, "/never")

    def test_term_term(self):
        self.check(signal.SIGTERM, signal.SIGTERM)

    def test_int_int(self):
        self.check(signal.SIGINT, signal.SIGINT)

    def test_term_int(self):
        self.check(signal.SIGTERM, signal.SIGINT)

    def test_int_term(self):
        self.check(signal.SIGINT, signal.SIGTERM)

    def test_first_signal_is_named_and_requests_are_counted(self):
        service = self.start()
        self.hold(service, "/slow?ms=700", count=3)
        service.send(signal.SIGTERM)
        self.assert_ends(service, 0, within=0.7 + 1.0 + 0.5)
        self.assert_orderly(service)
        self.assert_said(service, "stop requested", "SIGTERM")
        self.assert_said(service, "draining", "3 request")

    def test_burst_of_first_signals_is_not_gentle_twice(self):
        """Two signals with nothing between: the second finds the first's drain, or is it."""
        service = self.start()
        self.hold(service, "/never")
        service.send(signal.SIGTERM)
        service.send(signal.SIGINT)
        status = service.wait(5 * TIME_SCALE)
        self.assertIn(status, (128 + signal.SIGINT, 128 + signal.SIGTERM), service.log())


if __name__ == "__main__":
    unittest.main()
