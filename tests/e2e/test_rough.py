# SPDX-License-Identifier: Apache-2.0
"""Breaking it on purpose: crowds, slow clients, noise, too few descriptors."""

import random
import resource
import signal
import socket
import time
import unittest

import slow_clients
from http_client import Connection, request
from service_case import DRAIN, LINGER, ServiceCase, report
from service_process import PATIENCE, TIME_SCALE

CROWD = 10_000
CROWD_SPARE = 200             # descriptors that either side needs for other things
SLOW_WATCH = 15.0
PROBE_WORST_MS = 1000
NOISE_CONNECTIONS = 300


def most_descriptors():
    """Raises this process's limit as far as it may; returns (limit, to be given to the service)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class Crowds(ServiceCase):
    """Many at once."""

    def test_ten_thousand_connections(self):
        """Each is served, all stay, the stop ends them all in time. Fewer if the limit is low."""
        limit = most_descriptors()
        size = min(CROWD, limit - CROWD_SPARE)
        service = self.start(descriptor_limit=(limit, limit))
        before = service.resident_bytes()
        crowd = []
        self.addCleanup(lambda: [connection.close() for connection in crowd])
        for _ in range(size):
            crowd.append(Connection(service.app_port))
        for connection in crowd:
            connection.ask("/")
        for connection in crowd:
            self.assertEqual(connection.reply().status, 200)
        report("crowd", size=size, bytes_each=(service.resident_bytes() - before) / size)
        self.assert_serves(service)
        service.send(signal.SIGTERM)
        self.assertEqual(service.wait(), 0, service.log()[-2000:])
        self.assertLessEqual(service.seconds_to_end(), (DRAIN + LINGER + 1.5) * TIME_SCALE)
        for connection in crowd:
            self.assertEqual(connection.end(), b"")

    def test_thousand_dripping_clients(self):
        service = self.start()
        outcome = slow_clients.crowd("127.0.0.1", service.app_port, 1000)
        report("dripping crowd", **outcome)
        self.assertEqual(outcome["size"], 1000)
        self.assertEqual(outcome["unanswered"], 0)
        self.assertLess(outcome["worst ms"], PROBE_WORST_MS * TIME_SCALE)
        self.assertEqual(service.stop(), 0, service.log()[-2000:])

    def test_five_hundred_silent_clients_and_a_stop(self):
        service = self.start()
        silent = [self.connect(service) for _ in range(500)]
        self.assert_serves(service)
        self.assertEqual(service.stop(), 0, service.log())
        self.assertLessEqual(service.seconds_to_end(), (DRAIN + LINGER + 0.5) * TIME_SCALE)
        self.assertEqual(len(silent), 500)


class SlowClients(ServiceCase):
    """Who is too slow with a head is sent away; nobody is answered what he did not ask."""

    def test_each_kind(self):
        service = self.start()
        outcome = slow_clients.watch_kinds("127.0.0.1", service.app_port, SLOW_WATCH)
        report("slow clients", **outcome)
        for kind in ("silent", "half request line", "header drip"):
            self.assertEqual(outcome[kind]["how"], "closed", outcome)
            self.assertIn(outcome[kind]["status"], (None, 400, 408), outcome)
        for kind in ("body never sent", "body drip"):
            self.assertNotEqual(outcome[kind]["how"], "reset", outcome)
            self.assertIn(outcome[kind]["status"], (None, 400, 408), outcome)
        self.assertEqual(outcome["idle after a reply"]["status"], 200)
        self.assert_serves(service)
        self.assertEqual(service.stop(), 0, service.log())


class Noise(ServiceCase):
    """What no client sends, and somebody will."""

    def test_random_bytes(self):
        service = self.start()
        seed = random.randrange(1 << 32)
        chance = random.Random(seed)
        for _ in range(NOISE_CONNECTIONS):
            with Connection(service.app_port) as connection:
                self.send_noise(connection, chance)
        self.assert_serves(service)
        self.assertEqual(service.stop(), 0, f"seed {seed}\n{service.log()}")

    def send_noise(self, connection, chance):
        """Bytes without sense, or a request with some of its bytes replaced."""
        data = bytearray(request("/echo", "POST", b"hello") if chance.random() < 0.7
                         else chance.randbytes(chance.randrange(1, 4000)))
        for _ in range(chance.randrange(6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            connection.send(data)
            if chance.random() < 0.3:
                connection.half_close()
            connection.socket.settimeout(0.01)
            connection.socket.recv(4096)
        except OSError:
            return                # a reset is an answer, too

    def test_half_requests_that_close(self):
        service = self.start()
        whole = request("/echo", "POST", b"hello")
        for end in range(1, len(whole)):
            with Connection(service.app_port) as connection:
                connection.send(whole[:end])
        self.assert_serves(service)
        self.assertEqual(service.stop(), 0, service.log())

    def test_half_closed_client_gets_its_answer(self):
        service = self.start()
        connection = self.connect(service)
        connection.ask("/slow?ms=100")
        connection.half_close()
        self.assertEqual(connection.reply().status, 200)
        self.assertEqual(service.stop(), 0, service.log())


class FewDescriptors(ServiceCase):
    """Out of descriptors is a pause in accepting, neither an end nor a busy loop."""

    LIMIT = 64

    def test_more_clients_than_descriptors(self):
        service = self.start(descriptor_limit=(self.LIMIT, self.LIMIT))
        crowd = [Connection(service.app_port) for _ in range(2 * self.LIMIT)]
        try:
            crowd[0].exchange("/")
            before = service.cpu_seconds()
            time.sleep(1.0)              # the measured time itself
            self.assertLess(service.cpu_seconds() - before, 0.3 * TIME_SCALE,
                            "spins while it cannot accept")
        finally:
            for connection in crowd:
                connection.close()
        self.assert_recovers(service)
        self.assertEqual(service.stop(), 0, service.log())

    def assert_recovers(self, service):
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.assert_serves(service)
                return
            except (OSError, socket.timeout):
                if time.monotonic() > deadline:
                    raise


if __name__ == "__main__":
    unittest.main()
