"""Webhooks beside a bare loop of libcurl's. SPDX-License-Identifier: MIT"""
import os
import subprocess
import time

from support import Broker, wait_for
from test_api import Api, flood
from web import Nginx


def test_api_rate_beside_a_bare_loop(binaries):
    """Requests into nginx, in turns with a loop of libcurl's that does nothing else, with as many connections.

    EVENTFLOW_TEST_RATES=1: more of them, and the ratio that is promised; else a floor that a busy machine keeps."""
    is_long = bool(os.environ.get("EVENTFLOW_TEST_RATES"))
    turns, count, floor = (6, 40000, 0.6) if is_long else (3, 8000, 0.3)
    bare = os.path.join(os.path.abspath(binaries), "..", "tests", "bare_http")
    ratios = []
    with Nginx(logs=False) as nginx, Broker(binaries).start() as broker:
        for turn in range(turns):
            by_itself = float(subprocess.check_output([bare, nginx.url + "/ok", str(count), "64", '{"n":123456}'],
                                                      timeout=120))
            flood(broker, turn * count, count)
            with Api(broker, "--url", nginx.url + "/ok", "--concurrency", "64"):
                before = wait_for("it has begun", lambda: (
                    lambda done: done if done > turn * count else None)(broker.topic("api")["done"]))
                start = time.monotonic()
                wait_for("all are done", lambda: broker.topic("api")["done"] == (turn + 1) * count, 120)
                rate = ((turn + 1) * count - before) / (time.monotonic() - start)
            ratios.append(rate / by_itself)
            print(f"  {rate:.0f}/s, bare {by_itself:.0f}/s: {ratios[-1]:.2f}")
    middle = sorted(ratios)[len(ratios) // 2]
    assert middle >= floor, ratios
