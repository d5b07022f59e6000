# SPDX-License-Identifier: Apache-2.0
"""A stop under load loses no request, ends with status 0, and ends in time.

EXEUNT_E2E_REPEATS says how often each case runs (1).
"""

import unittest

import drain_load
from service_case import REPEATS, report
from service_process import BINARY, TIME_SCALE, ReservedPort

LOADS = {
    "keep_alive": {"path": "/"},
    "keep_alive_with_pauses": {"path": "/", "conns": 256, "think_ms": 2},
    "connection_per_request": {"path": "/", "conns": 0, "new_conns": 64},
    "handlers_of_50_ms": {"path": "/slow?ms=50"},
    "handlers_of_500_ms": {"path": "/slow?ms=500"},
    "posts": {"path": "/echo", "method": "POST", "body_size": 1024},
    "bodies_of_64_k": {"path": "/64k", "conns": 32, "new_conns": 16},
    "mixed_company": {"path": "/slow?ms=20", "idle": 20, "half_head": 4, "half_body": 4,
                      "half_complete": 0.3, "slow_readers": 2, "max_exit": 8},
    "slow_readers_of_their_last_reply": {"path": "/", "conns": 8, "slow_readers": 8,
                                         "slow_bps": 60000, "before": 0.3},
}


def drain(**settings):
    app, debug = ReservedPort(), ReservedPort()
    try:
        command = f"{BINARY} --app 127.0.0.1:{app.number} --debug 127.0.0.1:{debug.number}"
        settings.setdefault("max_exit", 3)
        settings["max_exit"] *= TIME_SCALE
        return drain_load.run(drain_load.Options(cmd=command, port=app.number, **settings))
    finally:
        app.close()
        debug.close()


class DrainCase(unittest.TestCase):
    """Repeats one load and wants nothing to be wrong with any outcome."""

    def check(self, name, **settings):
        for repetition in range(REPEATS):
            with self.subTest(repetition=repetition):
                outcome = drain(seed=repetition, **settings)
                report(name, **outcome.as_dict())
                self.assertEqual(outcome.reasons, [], outcome.as_dict())


class StopUnderLoad(DrainCase):
    """One test for each load and signal, made here."""


def add_tests():
    for name, load in LOADS.items():
        for signal in ("TERM", "INT"):
            def test(self, name=name, load=load, signal=signal):
                self.check(f"{name} {signal}", signal=signal, **load)
            setattr(StopUnderLoad, f"test_sig{signal.lower()}_{name}", test)


add_tests()


class StopByComponent(DrainCase):
    """A component that ends takes the others with it as gently as a signal does."""

    def test_component_that_throws_loses_no_request(self):
        self.check("crash", path="/slow?ms=20", trigger="/crash-component", expect_exit=1)

    def test_component_that_returns_loses_no_request(self):
        self.check("return", path="/slow?ms=20", trigger="/stop-component", expect_exit=0)


if __name__ == "__main__":
    unittest.main()
