# SPDX-License-Identifier: Apache-2.0
"""The tracker: every event that was answered 202 is processed, or counted as dropped.

POST /events takes ?ms=N, the time that the worker spends on the event.
"""

import signal
import threading
import unittest

from http_client import Connection, fetch
from service_case import DRAIN, LINGER, MARGIN, ServiceCase, told
from service_process import TIME_SCALE, count_after


class Poster(threading.Thread):
    """Posts events one after the other on one connection until it ends; counts the answers."""

    def __init__(self, port, path="/events"):
        super().__init__()
        self.port = port
        self.path = path
        self.statuses = {}
        self.warm = threading.Event()

    def run(self):
        try:
            with Connection(self.port) as connection:
                while True:
                    reply = connection.exchange(self.path, "POST", b"{}")
                    self.statuses[reply.status] = self.statuses.get(reply.status, 0) + 1
                    if self.statuses[reply.status] == 50:
                        self.warm.set()
                    if reply.says_close():
                        return
        except OSError:
            return
        finally:
            self.warm.set()


def post_all(service, path, count):
    """Posts `count` events at once, each on its own connection; returns the statuses."""
    connections = [Connection(service.app_port) for _ in range(count)]
    try:
        for connection in connections:
            connection.ask(path, "POST", b"{}")
        return [connection.reply().status for connection in connections]
    finally:
        for connection in connections:
            connection.close()


class Accounting(ServiceCase):
    """What clients were told and what the tracker printed add up."""

    def assert_adds_up(self, service, accepted):
        processed = count_after(told(service), "processed")
        dropped = count_after(told(service), "dropped")
        self.assertIsNotNone(processed, f"the tracker printed no count:\n{service.log()}")
        self.assertIsNotNone(dropped, f"the tracker printed no count:\n{service.log()}")
        self.assertEqual(processed + dropped, accepted, service.log())
        return processed, dropped

    def test_all_are_processed_before_a_quiet_stop(self):
        service = self.start()
        statuses = post_all(service, "/events", 40)
        self.assertEqual(statuses, [202] * 40)
        self.assertEqual(service.stop(), 0, service.log())
        self.assertEqual(self.assert_adds_up(service, 40), (40, 0))

    def test_stop_under_load(self):
        """Events keep coming while the server drains; none of those accepted is lost."""
        service = self.start()
        posters = [Poster(service.app_port) for _ in range(8)]
        for poster in posters:
            poster.start()
        for poster in posters:
            poster.warm.wait(20 * TIME_SCALE)
        service.send(signal.SIGTERM)
        for poster in posters:
            poster.join()
        self.assertEqual(service.wait(), 0, service.log())
        accepted = sum(poster.statuses.get(202, 0) for poster in posters)
        self.assertGreaterEqual(accepted, 8 * 50)
        self.assertEqual(self.assert_adds_up(service, accepted), (accepted, 0))

    def test_event_that_arrives_during_the_drain(self):
        """The tracker outlives the server: what a late request hands over is processed."""
        service = self.start()
        late = self.connect(service)
        late.exchange("/")
        service.send(signal.SIGTERM)
        service.wait_line("api: draining")
        reply = late.exchange("/events", "POST", b"{}")
        self.assertEqual(reply.status, 202)
        late.close()
        self.assert_ends(service, 0, within=DRAIN + LINGER + MARGIN)
        self.assertEqual(self.assert_adds_up(service, 1), (1, 0))

    def test_backlog_is_finished_within_the_bound(self):
        service = self.start("--shutdown-timeout", "5")
        self.assertEqual(post_all(service, "/events?ms=200", 5), [202] * 5)
        self.assertEqual(service.stop(), 0, service.log())
        self.assertEqual(self.assert_adds_up(service, 5), (5, 0))

    def test_backlog_beyond_the_bound_is_dropped_and_counted(self):
        service = self.start("--shutdown-timeout", "1")
        self.assertEqual(post_all(service, "/events?ms=700", 6), [202] * 6)
        service.send(signal.SIGTERM)
        self.assert_ends(service, 1, within=1 + MARGIN)
        _, dropped = self.assert_adds_up(service, 6)
        self.assertGreaterEqual(dropped, 3)
        self.assert_said(service, "dropped")

    def test_event_that_takes_for_ever(self):
        """One event that is never done keeps neither the process nor the count from ending."""
        service = self.start("--shutdown-timeout", "1")
        self.assertEqual(fetch(service.app_port, "/events?ms=600000", "POST", b"{}").status, 202)
        service.send(signal.SIGTERM)
        self.assert_ends(service, 1, within=1 + MARGIN)
        self.assertEqual(self.assert_adds_up(service, 1), (0, 1))

    def test_full_buffer_answers_503(self):
        """With the worker busy, the buffer fills; who finds it full to the end gets 503."""
        service = self.start("--shutdown-timeout", "1")
        statuses = []
        while 503 not in statuses and len(statuses) < 5000:
            statuses += post_all(service, "/events?ms=600000", 500)
        self.assertEqual(set(statuses), {202, 503})
        self.assert_serves(service)
        service.send(signal.SIGTERM)
        self.assert_ends(service, 1, within=1 + MARGIN)
        self.assert_adds_up(service, statuses.count(202))


if __name__ == "__main__":
    unittest.main()
