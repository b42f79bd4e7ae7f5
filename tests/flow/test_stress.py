"""eventflow stress: events sent at a rate into a system that runs, each accounted for.
SPDX-License-Identifier: MIT"""
import json
import os
import re
import signal
import subprocess
import sys
import threading

import support
from http_gateway import Gateway

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
ONE_ATTEMPT = "defaults\n    attempts = 1\nemail\ndb\napi"


def readme_worker():
    """The worker of the README, which does what an event asks for."""
    with open(os.path.join(ROOT, "tools", "README.md")) as file:
        return re.search(r"```python\n# readme: stress_worker\n(.*?)```", file.read(), re.S)[1]


def work(broker, *topics):
    for topic in topics:
        broker.worker_process("--persistent", "--", sys.executable, "-c", readme_worker(),
                              topic=topic)


def environment(broker):
    return dict(broker.environment,
                **{"EVENTFLOW_" + name.upper(): e for name, e in broker.endpoints.items()})


def start(broker, *words):
    return subprocess.Popen([os.path.join(broker.binaries, "eventflow"), "stress", *words],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env=environment(broker))


def stress(broker, *words, code=0, seconds=240):
    """The summary and what was said beside it."""
    process = start(broker, "--json", *words)
    try:
        out, errors = process.communicate(timeout=seconds)
    finally:
        process.kill()
    assert process.returncode == code, (process.returncode, out, errors)
    return json.loads(out) if out else None, errors


def check(result):
    assert result["adds_up"], result
    assert result["sent"] == result["confirmed"] + result["refused"] + result["unknown"], result
    assert result["confirmed"] == sum(result[k] for k in (
        "done", "dead", "removed", "waiting", "gone")), result
    assert result["confirm_us"]["count"] == result["confirmed"]
    times = [result["confirm_us"][k] for k in ("p50", "p90", "p99", "p999", "max")]
    assert times == sorted(times) and times[0] > 0, times


def test_front_accounts_for_each_event_beside_others(binaries):
    with support.Broker(binaries, ONE_ATTEMPT).start() as broker:
        work(broker, "api")
        publisher = support.Publisher(broker)
        ends = threading.Event()

        def others():
            for n in range(10000):
                publisher.publish([["api", f"stress-of-others-{n}", {"n": n, "fail": n % 2 == 0}]])
                publisher.confirm()
                if ends.wait(0.02):
                    return
        thread = threading.Thread(target=others)
        thread.start()
        try:
            result, errors = stress(broker, "--topic", "api", "--rate", "300/s", "--for", "2s",
                                    "--fail", "10%", "--size", "300")
        finally:
            ends.set()
            thread.join()
        check(result)
        assert result["sent"] == result["confirmed"] == 600, result
        assert result["dead"] == result["asked_to_fail"] == result["asked_dead"], result
        assert 20 < result["dead"] < 120 and result["done"] == 600 - result["dead"], result
        assert 0 < result["done_us"]["count"] <= result["done"], result  # a sample
        assert result["done_us"]["p50"] > 0, result
        [topic] = result["topics"]
        assert topic["topic"] == "api" and topic["own"] == 600 and topic["others"] > 0, result
        assert re.search(r"^ +\d+ s  \w+: sent \d+  confirmed \d+ .* p99 ", errors, re.M), errors
        shown = json.loads(broker.cli("event", "show", result["prefix"] + "599", "--json"))
        payload = shown["event"]["payload"]
        assert list(payload) == ["n", "fail", "pad"] and payload["n"] == 599, payload
        assert 200 < len(json.dumps(payload)) < 400


def test_http_accounts_for_each_event_of_the_routes(binaries):
    with support.Broker(binaries, ONE_ATTEMPT).start() as broker, Gateway(broker) as gateway:
        work(broker, "api", "email", "db")
        result, _ = stress(broker, "--http", gateway.url(""), "--types", "USER_SIGNUP,PAYMENT",
                           "--rate", "200/s", "--for", "2s", "--fail", "0.25", "--connections", "8",
                           "--payload", '{"to": "a@example.org"}', "--fail-payload", '{"to": 1}')
        check(result)
        sent = result["sent"]  # connections are few, and the machine may be slow
        assert 20 <= sent == result["confirmed"] <= 400 and result["via"] == "http", result
        assert result["dead"] == result["asked_to_fail"] > 2, result
        own = {item["topic"]: item["own"] for item in result["topics"]}
        first, second = (sent + 1) // 2, sent // 2
        assert own == {"email": first, "db": first, "api": second}, own  # two topics: two copies
        letter = json.loads(broker.cli("dlq", "ls", "api", "--json").splitlines()[0])
        shown = json.loads(broker.cli("event", "show", letter["id"], "--topic", "api", "--json"))
        assert shown["event"]["payload"]["to"] == 1, shown


def test_refusals_are_told_by_code(binaries):
    with support.Broker(binaries, "api\n    capacity = 50\n    on_full = refuse").start() as broker:
        with Gateway(broker) as gateway:
            result, _ = stress(broker, "--http", gateway.url("/"), "--topic", "api", "--rate",
                               "100/s", "--for", "2s", "--drain", "0s")
        check(result)
        assert 50 <= result["confirmed"] == result["waiting"] <= 66, result  # and what came at once
        assert result["codes"] == {"FULL": result["sent"] - result["confirmed"]}, result
        assert result["refused"] > 0, result
        result, _ = stress(broker, "--topic", "nowhere", "--rate", "100/s", "--for", "100ms",
                           "--drain", "0s")
        assert result["codes"] == {"UNKNOWN_TOPIC": 10} and result["sent"] == 10, result


def test_the_summary_is_for_people(binaries):
    with support.Broker(binaries).start() as broker:
        out = broker.cli("stress", "--topic", "api", "--rate", "100/s", "--for", "200ms", "--drain", "0s")
        assert re.search(r"^sent 20 in \d.* by front, ids stress-[0-9a-f]{12}-0 and on$", out, re.M), out
        assert "= 20 confirmed + 0 refused + 0 unknown" in out
        assert "= 0 done + 0 dead + 20 still waiting" in out, out
        assert re.search(r"^due to confirmed +p50 \d.* ms, p90 .*at the most", out, re.M), out


def test_a_signal_ends_it_early_with_the_summary(binaries):
    with support.Broker(binaries, ONE_ATTEMPT).start() as broker:
        work(broker, "api")
        process = start(broker, "--json", "--topic", "api", "--rate", "100/s", "--for", "10m")
        try:
            support.wait_for("some are done", lambda: broker.topic("api")["done"] > 20)
            process.send_signal(signal.SIGINT)
            out, errors = process.communicate(timeout=180)
        finally:
            process.kill()
        assert process.returncode == 0, errors
        result = json.loads(out)
        check(result)
        assert result["cut_short"] and 20 < result["sent"] < 60000, result
        assert result["waiting"] == 0, result


def test_a_broker_that_dies_meanwhile_loses_nothing(binaries):
    with support.Broker(binaries, ONE_ATTEMPT).start() as broker:
        work(broker, "api")
        process = start(broker, "--json", "--topic", "api", "--rate", "200/s", "--for", "4s",
                        "--timeout", "20s")
        try:
            support.wait_for("some are done", lambda: broker.topic("api")["done"] > 50)
            broker.kill()
            broker.start()
            out, errors = process.communicate(timeout=240)
        finally:
            process.kill()
        assert process.returncode == 0, (out, errors)
        result = json.loads(out)
        check(result)
        assert result["sent"] == result["confirmed"] == 800 and result["waiting"] == 0, result


def test_confirmed_events_that_vanish_are_told(binaries):
    """Another broker takes the place of the one that has confirmed them."""
    with support.Broker(binaries).start() as broker, support.Broker(binaries).start() as other:
        process = subprocess.run(
            [os.path.join(broker.binaries, "eventflow"), "stress", "--topic", "api", "--rate",
             "100/s", "--for", "200ms", "--drain", "1s", "--front", broker.endpoints["front"],
             "--admin", other.endpoints["admin"]], env=broker.environment, capture_output=True, text=True, timeout=180)
        assert process.returncode == 1, process
        assert "the numbers don't add up: 20 events were confirmed and are lost" in process.stderr
        assert "20 LOST" in process.stdout, process.stdout


def test_nobody_there_is_said(binaries):
    with support.Broker(binaries).start() as broker:
        nowhere = f"127.0.0.1:{support.free_ports(1)[0]}"
        for words in (["--admin", "tcp://" + nowhere], ["--front", "tcp://" + nowhere],
                      ["--http", "http://" + nowhere]):
            _, errors = stress(broker, "--topic", "api", "--for", "1m", "--timeout", "1s", *words,
                               code=5, seconds=90)
            assert "eventflow: " in errors, (words, errors)


def test_wrong_words_are_refused_before_anything_is_sent(binaries):
    with support.Broker(binaries).start() as broker:
        for words in ([], ["--topic", "api", "word"], ["--topic", "api", "--rate", "fast"],
                      ["--topic", "api", "--fail", "2"], ["--topic", "api", "--fail", "-0.1"],
                      ["--topic", "api", "--for", "1"], ["--types", "a,,b"], ["--types", ""],
                      ["--topic", "api", "--size", "1000000"], ["--topic", "api", "--http", "here"],
                      ["--topic", "api", "--connections", "0"], ["--topic", "t" * 54],
                      ["--topic", "api", "--rate", "1000000/s", "--for", "1h"],
                      ["--topic", "api", "--payload", "[]"], ["--topic", "api", "--payload", "{"],
                      ["--topic", "api", "--payload", '{"pad": 1}'],
                      ["--topic", "api", "--fail-payload", '{"n": 1}'],
                      ["--topic", "api", "--front", "tcp://127.0.0.1:1", "--http", "http://h"]):
            _, errors = stress(broker, *words, code=2)
            assert errors.startswith("eventflow: "), (words, errors)
        assert broker.topic("api")["accepted"] == 0
        assert "eventflow stress --http" in broker.cli("stress", "--help")
