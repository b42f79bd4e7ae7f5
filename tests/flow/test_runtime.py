"""What all workers have in common: settings, health, time-outs, the end. SPDX-License-Identifier: MIT"""
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request

import msgpack
import zmq

from support import Broker, Worker, free_ports, wait_for


def worker_words(binaries, *words, environment=None, seconds=60):
    return subprocess.run([os.path.join(binaries, "eventflow-worker"), *words], text=True,
                          capture_output=True, timeout=seconds,
                          env=dict(os.environ, **(environment or {})))


def get(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def health(port, path="/health/ready"):
    try:
        return get(port, path)
    except OSError:
        return 0, ""


def test_settings_come_from_file_environment_and_flags(binaries):
    with Broker(binaries) as broker:
        path = os.path.join(broker.directory, "worker.cfg")
        with open(path, "w") as file:
            file.write("server\n    name = other\nworker\n    defaults\n        grace = 3s\n"
                       "    exec\n        concurrency = 7\n        result = 1\n"
                       "    second\n        concurrency = nine\n")
        good = worker_words(binaries, "exec", "--config", path, "--topic", "api", "--check", "--", "true")
        assert good.returncode == 0, good
        # a worker shows what it took
        broker.start()
        process = broker.worker_process("--config", path, "--grace", "2s", "--", "true", topic="api",
                                        extra={"EVENTFLOW_WORKER_CONCURRENCY": "9"})
        try:
            row = wait_for("the worker is there", lambda: broker.admin(["WORKERS"])[1]["items"])[0]
            assert row["credit"] == 9, row
        finally:
            process.terminate()
            assert process.wait(timeout=60) == 0
        # 0 leaves it to the pool's credit, wherever it is said
        process = broker.worker_process("--config", path, "--concurrency", "0", "--name", "left-open", "--", "true",
                                        topic="api", extra={"EVENTFLOW_CREDIT": "3"})
        try:
            row = wait_for("the worker is there", lambda: [row for row in broker.admin(["WORKERS"])[1]["items"]
                                                           if row["worker"] == "left-open"])[0]
            assert row["credit"] == 3, row
        finally:
            process.terminate()
            assert process.wait(timeout=60) == 0
        for words, environment, expected in (
                (["--section", "second"], {}, "worker.cfg:10: concurrency = nine: expected a number"),
                (["--section", "third"], {}, "expected a section worker/third"),
                (["--timeout", "soon"], {}, "timeout = soon: expected a duration"),
                (["--timeuot", "1s"], {}, "unknown flag --timeuot"),
                (["--result", "--emit"], {}, "--result or --emit, not both"),
                ([], {"EVENTFLOW_EXEC_WHOLE": "yes"}, "EVENTFLOW_EXEC_WHOLE: whole = yes: expected 0 or 1"),
                ([], {"EVENTFLOW_CREDIT": "many"}, "EVENTFLOW_CREDIT")):
            bad = worker_words(binaries, "exec", "--config", path, "--topic", "api", *words, "--",
                               "true", environment=environment)
            assert bad.returncode == 2 and expected in bad.stderr, (words, bad)
        with open(path, "a") as file:
            file.write("    defaults\n        graze = 1s\n")
        bad = worker_words(binaries, "exec", "--config", path, "--topic", "api", "--check", "--", "true")
        assert bad.returncode == 2 and "worker.cfg:12: unknown setting graze: expected perhaps grace" \
            in bad.stderr, bad
        # the broker reads the same file and passes over what is the workers'
        assert "other" not in bad.stdout
        checked = subprocess.run([os.path.join(binaries, "eventflowd"), "--config", path, "--check"],
                                 capture_output=True, text=True)
        assert checked.returncode == 0, checked


def test_no_handler_and_no_topic_are_told(binaries):
    for words, expected in (([], "usage"), (["mail"], "expected a handler, one of: "),
                            (["exec", "--", "true"], "expected --topic"),
                            (["exec", "--topic", "api"], "expected a command behind --")):
        bad = worker_words(binaries, *words)
        assert bad.returncode == 2 and expected in bad.stderr, (words, bad)
    for handler in ("exec",):
        told = worker_words(binaries, handler, "--help")
        assert f"EVENTFLOW_{handler.upper()}_OPTION" in told.stdout, told
        assert told.returncode == 0 and "examples:" in told.stdout and "--grace" in told.stdout


def test_health_is_told_over_http(binaries):
    port = free_ports(1)[0]
    with Broker(binaries) as broker:
        process = broker.worker_process("--health", f"127.0.0.1:{port}", "--", "true", topic="api")
        try:
            status, text = wait_for("it listens", lambda: health(port)[0] and health(port))
            assert status == 503 and json.loads(text)["reason"] == "it has no broker", text
            assert get(port, "/health/live") == (200, "alive\n")
            broker.start()
            wait_for("it is ready", lambda: health(port)[0] == 200)
            for i in range(5):
                broker.cli("publish", "1", "--topic", "api")
            wait_for("all done", lambda: broker.topic("api")["done"] == 5)
            told = wait_for("it counts", lambda: json.loads(get(port, "/health")[1])["done"] == 5 and
                            json.loads(get(port, "/health")[1]))
            assert told["status"] == "ready" and told["handler"] == "exec" and told["rss_bytes"] > 0
            metrics = get(port, "/metrics")[1]
            assert "eventflow_worker_done_total 5\n" in metrics, metrics
            assert "# TYPE eventflow_worker_ready gauge\neventflow_worker_ready 1\n" in metrics
            assert get(port, "/nothing")[0] == 404
        finally:
            process.terminate()
            assert process.wait(timeout=60) == 0


def test_health_address_that_cannot_be(binaries):
    for address in ("nowhere", "1.2.3.4.5:80", "127.0.0.1:99999"):
        bad = worker_words(binaries, "exec", "--topic", "api", "--health", address, "--", "true")
        assert bad.returncode == 2 and "expected an address" in bad.stderr, bad


def test_an_unhealthy_worker_gets_nothing_and_says_why(binaries):
    with Broker(binaries, "api\n    pool\n        command = \"sleep 100\"\n        min = 0\n"
                          "        stall = 100ms") as broker:
        broker.start()
        worker = Worker(broker, ["api"], heartbeat=5000)
        worker.send(["PING", {"health": "unhealthy", "reason": "the disk is on fire", "cpu_ms": 70,
                              "rss": 5 << 20}])
        worker.receive("PONG")
        broker.cli("publish", "1", "--topic", "api")
        row = broker.admin(["WORKERS"])[1]["items"][0]
        assert not row["healthy"] and row["unhealthy"] == "the disk is on fire", row
        assert row["cpu_ms"] == 70 and row["rss_bytes"] == 5 << 20
        assert "the disk is on fire" in broker.cli("worker", "ls")
        event = broker.admin(["EVENTS", {"topic": "api"}])[1]["items"][0]
        told = broker.admin(["EVENT.EXPLAIN", event["id"]])[1]["items"][0]
        assert told["reason"] == "unhealthy" and "the disk is on fire" in told["text"], told
        worker.none(0.5)
        assert broker.topic("api")["stalled_ms"] == 0  # more workers would be unwell too
        assert broker.topic("api")["unwell"] == 1
        # whatever words they are, they are one line that can be shown
        reason = b"two\nlines \x1b[31m \x7f \xff\xc3"
        worker.socket.send(b"\x92\xa4PING\x82\xa6health\xa9unhealthy\xa6reason" + bytes([0xa0 + len(reason)]) + reason)
        worker.receive("PONG")
        row = broker.admin(["WORKERS"])[1]["items"][0]
        assert row["unhealthy"] == "two lines  [31m   ..", row
        worker.send(["PING", {"health": "ok"}])
        tag = worker.take(1)[0][0]
        worker.send(["ACK", [tag], {"seq": 1}])
        worker.receive("ACKED")
        row = broker.admin(["WORKERS"])[1]["items"][0]
        assert row["healthy"] and row["unhealthy"] == "", row
        assert broker.topic("api")["unwell"] == 0


def test_a_time_out_is_a_notice(binaries):
    with Broker(binaries, "api\n    attempts = 1") as broker:
        broker.start()
        stats = broker.socket(zmq.SUB, "stats")
        stats.subscribe(b"notice.timeout")
        process = broker.worker_process("--timeout", "200ms", "--", "sleep", "100", topic="api")
        try:
            wait_for("the worker is there", lambda: broker.admin(["WORKERS"])[1]["items"])
            broker.cli("publish", "1", "--topic", "api")
            assert stats.poll(60000)
            assert msgpack.unpackb(stats.recv_multipart()[1])["topic"] == "api"
            wait_for("it died", lambda: broker.topic("api")["dead"] == 1)
            letter = wait_for("it is kept", lambda: broker.admin(["DLQ.LIST", "api"])[1]["items"])[0]
            assert letter["error"][0] == "TIMEOUT", letter
        finally:
            process.terminate()
            assert process.wait(timeout=60) == 0


def test_a_second_term_gives_everything_back_at_once(binaries):
    with Broker(binaries) as broker:
        broker.start()
        process = broker.worker_process("--grace", "60s", "--", "sleep", "100", topic="api")
        try:
            wait_for("the worker is there", lambda: broker.admin(["WORKERS"])[1]["items"])
            broker.cli("publish", "1", "--topic", "api")
            wait_for("it runs", lambda: broker.topic("api")["leased"] == 1)
            process.send_signal(signal.SIGTERM)
            wait_for("it leaves", lambda: broker.admin(["WORKERS"])[1]["items"][0]["credit"] == 0)
            assert process.poll() is None
            start = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 0 and time.monotonic() - start < 30
            wait_for("it is back", lambda: broker.topic("api")["ready"] == 1)
            assert broker.topic("api")["failed"] == 0
        finally:
            process.kill()
            process.wait()


def test_a_handler_in_twenty_lines(binaries):
    example = os.path.join(os.path.dirname(os.path.abspath(binaries)), "clients", "example_handler")
    with Broker(binaries) as broker:
        broker.start()
        process = subprocess.Popen([example, "api"], stdout=subprocess.PIPE, text=True, env=dict(
            broker.environment, EVENTFLOW_BACK=broker.endpoints["back"]))
        try:
            broker.cli("publish", "1", "--topic", "api", "--id", "one")
            assert process.stdout.readline() == "one, attempt 1\n"
            wait_for("it is done", lambda: broker.topic("api")["done"] == 1)
        finally:
            process.terminate()
            assert process.wait(timeout=60) == 0
            process.stdout.close()


def test_times_are_counted(binaries):
    with Broker(binaries) as broker:
        broker.start()
        for i in range(7):
            broker.cli("publish", "1", "--topic", "api")
        worker = Worker(broker, ["api"])
        taken = worker.take(7)
        worker.send(["ACK", [item[0] for item in taken], {"seq": 1}])
        worker.receive("ACKED")
        topic = broker.topic("api")
        for name in ("took", "waited"):
            assert topic[name]["count"] == 7 and len(topic[name]["below"]) == 18, topic
            assert topic[name]["below"][-1] == 7 and sorted(topic[name]["below"]) == topic[name]["below"]
            assert topic[name + "_p50_ms"] <= topic[name + "_p99_ms"]
        process = broker.admin(["STATUS"])[1]["process"]
        assert process["disk_free_bytes"] > 0
        assert process["sync"]["count"] == process["groups"] >= process["sync"]["below"][-1] > 0
        assert process["sync"]["sum_us"] > 0
