# SPDX-License-Identifier: Apache-2.0
"""The routes, by independent clients; byte-level cases; handlers that throw."""

import http.client
import json
import subprocess
import tempfile
import unittest

import http_cases
from http_client import fetch
from service_case import ServiceCase, report, told

# Cases that the service answers otherwise, each with the reason. At most six, and none about
# hosts, fields or chunks.
KNOWN_WRONG = {}
KNOWN_WRONG_MAX = 6
NEVER_WRONG = ("host", "fields", "chunked")


class Routes(ServiceCase):
    """What each route answers, seen by the standard library's client and by curl."""

    def ask(self, service, path, method="GET", body=None):
        connection = http.client.HTTPConnection("127.0.0.1", service.app_port, timeout=20)
        self.addCleanup(connection.close)
        connection.request(method, path, body)
        reply = connection.getresponse()
        return reply, reply.read()

    def test_hello(self):
        reply, body = self.ask(self.start(), "/")
        self.assertEqual((reply.status, body), (200, b"Hello, World!"))
        self.assertTrue(reply.getheader("Content-Type").startswith("text/plain"))

    def test_names_in_paths(self):
        service = self.start()
        reply, body = self.ask(service, "/hello/Ada")
        self.assertEqual(reply.status, 200)
        self.assertIn(b"Ada", body)
        _, body = self.ask(service, "/hello/Ada%20Lovelace")
        self.assertIn(b"Ada Lovelace", body)

    def test_sizes(self):
        service = self.start()
        reply, body = self.ask(service, "/json")
        self.assertEqual((reply.status, len(body)), (200, 1024))
        self.assertTrue(reply.getheader("Content-Type").startswith("application/json"))
        json.loads(body)
        reply, body = self.ask(service, "/64k")
        self.assertEqual((reply.status, len(body)), (200, 65536))

    def test_statuses(self):
        service = self.start()
        for code in (200, 201, 204, 304, 404, 418, 503):
            self.assertEqual(self.ask(service, f"/status?code={code}")[0].status, code)
        self.assertEqual(self.ask(service, "/no/such/path")[0].status, 404)
        reply, _ = self.ask(service, "/echo")
        self.assertEqual(reply.status, 405)
        self.assertIn("POST", reply.getheader("Allow"))

    def test_echo(self):
        service = self.start()
        body = bytes(range(256)) * 400
        self.assertEqual(self.ask(service, "/echo", "POST", body)[1], body)
        reply, _ = self.ask(service, "/echo", "POST", b"z" * (1 << 20))
        self.assertEqual(reply.status, 200)

    def test_limits_are_options(self):
        service = self.start("--body-limit", "100", "--header-limit", "1024")
        self.assertEqual(fetch(service.app_port, "/echo", "POST", b"z" * 100).status, 200)
        self.assertEqual(fetch(service.app_port, "/echo", "POST", b"z" * 101).status, 413)
        self.assertEqual(fetch(service.app_port, "/", fields=("X: " + "v" * 500,)).status, 200)
        self.assertEqual(fetch(service.app_port, "/", fields=("X: " + "v" * 2000,)).status, 431)

    def test_debug_server(self):
        service = self.start()
        held = self.hold(service, "/never")
        self.assertEqual(fetch(service.debug_port, "/healthz").status, 200)
        self.assertEqual(fetch(service.debug_port, "/readyz").status, 200)
        page = fetch(service.debug_port, "/debug/fibers")
        self.assertEqual(page.status, 200)
        self.assertIn(b".cpp:", page.body, "no fiber shows where it started")
        self.assertGreater(page.body.count(b"\n"), 3)
        self.assertEqual(len(held), 1)
        self.assertEqual(fetch(service.app_port, "/healthz").status, 404)

    def test_curl(self):
        """curl speaks to it in its own way, on one connection."""
        service = self.start()
        base = f"http://127.0.0.1:{service.app_port}"
        done = subprocess.run(
            ["curl", "-sS", "-w", "%{http_code} %{num_connects}\n", f"{base}/", "--next", "-sS",
             "-w", "%{http_code} %{num_connects}\n", "-d", "hello", f"{base}/echo", "--next",
             "-sS", "-o", "/dev/null", "-w", "%{http_code} %{num_connects}\n", "-H",
             "Expect: 100-continue", "-H", "Transfer-Encoding: chunked", "--data-binary",
             "@" + __file__, f"{base}/echo"],
            capture_output=True, text=True, check=False, timeout=60)
        self.assertEqual(done.stderr, "")
        self.assertEqual(done.stdout, "Hello, World!200 1\nhello200 0\n200 0\n")
        self.assertEqual(service.stop(), 0, service.log())


class Upload(ServiceCase):
    """A body that a real client sends comes back byte for byte."""

    def test_file_by_curl(self):
        service = self.start()
        with tempfile.NamedTemporaryFile() as file:
            file.write(bytes(range(256)) * 4000)
            file.flush()
            done = subprocess.run(
                ["curl", "-sS", "--data-binary", "@" + file.name,
                 f"http://127.0.0.1:{service.app_port}/echo"],
                capture_output=True, check=False, timeout=60)
        self.assertEqual(done.stdout, bytes(range(256)) * 4000)


class Throwing(ServiceCase):
    """A bug in one place is reported there and stays there."""

    def test_handler(self):
        service = self.start()
        self.assertEqual(fetch(service.app_port, "/throw").status, 500)
        for _ in range(20):
            self.assertEqual(fetch(service.app_port, "/throw").status, 500)
        self.assert_serves(service)
        self.assertEqual(service.stop(), 0, service.log())
        self.assertRegex(told(service), r"(?i)exception|throw|threw|panic")

    def test_fiber(self):
        service = self.start()
        self.assertLess(fetch(service.app_port, "/go-throw").status, 300)
        line = service.wait_line(".cpp:")
        self.assertTrue(line)
        self.assert_serves(service)
        self.assertEqual(service.stop(), 0, service.log())
        self.assertRegex(told(service), r"(?i)started at \S*\.cpp:\d+")
        self.assertRegex(told(service), r"(?i)runtime_error|exception|panic")


class ByteCases(ServiceCase):
    """The cases of http_cases.json."""

    def test_cases(self):
        service = self.start()
        cases = http_cases.load_cases()
        verdicts = http_cases.run_cases("127.0.0.1", service.app_port, cases)
        wrong = {verdict.case["name"]: verdict for verdict in verdicts if verdict.rank == "wrong"}
        report("cases", cases=len(cases), wrong=sorted(wrong),
               allowed=sorted(v.case["name"] for v in verdicts if v.rank == "allowed"))
        news = [verdict.line() for name, verdict in wrong.items() if name not in KNOWN_WRONG]
        self.assertEqual(news, [], "\n" + "\n".join(news))
        self.assertEqual(set(KNOWN_WRONG) - set(wrong), set(), "known as wrong, and no longer so")
        self.assertLessEqual(len(KNOWN_WRONG), KNOWN_WRONG_MAX)
        groups = {case["name"]: case["group"] for case in cases}
        self.assertFalse([name for name in KNOWN_WRONG if groups[name] in NEVER_WRONG])
        self.assert_serves(service)
        self.assertEqual(service.stop(), 0, service.log())


if __name__ == "__main__":
    unittest.main()
