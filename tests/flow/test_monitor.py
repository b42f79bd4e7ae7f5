"""eventflow-monitor with real processes: metrics, history, alerts, streams, Prometheus, InfluxDB.
SPDX-License-Identifier: MIT"""
import contextlib
import gzip
import http.client
import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

from support import Broker, Publisher, Worker, free_ports, select_pause, wait_for

SHARE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../clients/monitor/share")
# Thresholds that a test can wait for.
QUICK = ("--alert-clear", "1s", "--alert-no-worker", "500ms", "--alert-unhealthy", "500ms",
         "--alert-dead", "5", "--probe", "500ms")


class Skip(Exception):
    pass


def tool(name):
    path = shutil.which(name)
    if path is None:
        raise Skip(f"{name} isn't installed")
    return path


class Monitor:
    """One eventflow-monitor beside a broker; its file is in the broker's directory."""

    def __init__(self, broker, *words):
        self.broker = broker
        self.port = free_ports(1)[0]
        self.words = words
        self.log = os.path.join(broker.directory, "monitor.log")
        self.process = None

    def start(self):
        environment = dict(self.broker.environment)
        for name, endpoint in self.broker.endpoints.items():
            environment["EVENTFLOW_" + name.upper()] = endpoint
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(
                [os.path.join(self.broker.binaries, "eventflow-monitor"), "--listen", str(self.port),
                 "--data", os.path.join(self.broker.directory, "monitor.db"), *self.words],
                stderr=log, env=environment)
        wait_for("the monitor answers", self.answers)
        return self

    def answers(self):
        assert self.process.poll() is None, self.logged()
        try:
            return self.ask("/health/live")[0] == 200
        except OSError:
            return False

    def logged(self):
        with open(self.log) as file:
            return file.read()

    def ask(self, path, headers=None, method="GET", body=None):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method,
                                         data=body, headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()

    def json(self, path):
        status, _, body = self.ask(path)
        assert status == 200, (path, status, body)
        return json.loads(body)

    def metrics(self, path="/metrics"):
        status, headers, body = self.ask(path)
        assert status == 200 and headers["Content-Type"].startswith("text/plain"), (status, body)
        values = {}
        for line in body.decode().splitlines():
            if not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                values[name] = float(value)
        return values

    def alerts(self, state="firing"):
        return {alert["id"]: alert for alert in self.json("/api/v1/alerts")["items"]
                if alert["state"] == state}

    def stop(self):
        self.process.terminate()
        code = self.process.wait(timeout=60)
        assert code == 0, (code, self.logged())

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                code = self.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise
            assert kind or code == 0, (code, self.logged())


class Stream:
    """Server-sent events, as they come."""

    def __init__(self, monitor):
        self.socket = socket.create_connection(("127.0.0.1", monitor.port), timeout=60)
        self.socket.sendall(b"GET /api/v1/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        self.file = self.socket.makefile("rb")
        status = self.file.readline()
        assert b" 200 " in status, status
        while self.file.readline().strip():
            pass
        self.rest = b""
        self.passed = []  # notices and alerts that nobody has waited for yet

    def chunk(self):
        size = int(self.file.readline().split(b";")[0], 16)
        data = self.file.read(size)
        self.file.readline()
        return data

    def next(self):
        while b"\n\n" not in self.rest:
            data = self.chunk()
            if not data:
                return None, None
            self.rest += data
        text, self.rest = self.rest.split(b"\n\n", 1)
        lines = dict(line.split(": ", 1) for line in text.decode().splitlines() if line[0] != ":")
        if "event" not in lines:
            return self.next()
        return lines["event"], json.loads(lines["data"])

    def wait(self, event, condition=lambda data: True, seconds=60):
        deadline = time.monotonic() + seconds
        for i, (name, data) in enumerate(self.passed):
            if name == event and condition(data):
                return self.passed.pop(i)[1]
        while time.monotonic() < deadline:
            name, data = self.next()
            assert name, "the stream has ended"
            if name == event and condition(data):
                return data
            if name != "snapshot":
                self.passed.append((name, data))
        raise AssertionError(f"no {event} within {seconds} s")

    def close(self):
        self.file.close()
        self.socket.close()


class Hook(http.server.BaseHTTPRequestHandler):
    """Keeps what is posted; answers what the server's `status` says."""
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = self.server.status
        if status < 300:
            self.server.posts.append((time.monotonic(), self.path, dict(self.headers), body))
        else:
            self.server.refused.append(self.path)
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextlib.contextmanager
def hook():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    server.daemon_threads = True
    server.status, server.posts, server.refused = 200, [], []
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def told(server):
    """Alerts that were posted: (name, topic, state), in order."""
    return [(alert["name"], alert["topic"], alert["state"])
            for _, _, _, body in list(server.posts) for alert in json.loads(body)["alerts"]]


def publish(broker, topic, count):
    publisher = Publisher(broker)
    publisher.publish([[topic, None, {"n": i}] for i in range(count)])
    publisher.confirm()
    publisher.close()


@contextlib.contextmanager
def ended(process, seconds=30):
    """Ends a process whatever happens."""
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def test_monitor_shows_numbers_and_answers_prometheus(binaries):
    with Broker(binaries) as broker:
        broker.start()
        with Monitor(broker) as monitor, ended(
                broker.worker_process("--", "true", topic="email")):
            publish(broker, "email", 30)
            publish(broker, "api", 4)
            wait_for("the numbers are there",
                     lambda: monitor.metrics().get('eventflow_events_completed_total{topic="email"}') == 30)
            values = monitor.metrics()
            assert values["eventflow_up"] == 1
            assert values['eventflow_topic_events{topic="api",state="ready"}'] == 4
            assert values['eventflow_workers{topic="email",state="ready"}'] == 1
            wait_for("the broker wants a worker", lambda: monitor.metrics()[
                'eventflow_pool_desired_workers{topic="api"}'] >= 1)
            assert values["eventflow_event_processing_seconds_count"] == 30
            assert values['eventflow_event_processing_seconds_bucket{le="+Inf"}'] == 30
            assert values["eventflow_journal_fsync_seconds_count"] > 0
            assert values["eventflow_disk_free_bytes"] > 0
            assert values["process_resident_memory_bytes"] > 1e6
            assert not any("detailed" in name for name in values)
            detail = monitor.metrics("/metrics/detailed?topic=em*&topic=api")
            assert detail['eventflow_detailed_event_processing_seconds_count{topic="email"}'] == 30
            assert not any('topic="db"' in name for name in detail)
            assert monitor.ask("/metrics/detailed")[0] == 400
            assert monitor.ask("/metrics/detailed?topic=none")[0] == 404
            if shutil.which("promtool"):
                for path in ("/metrics", "/metrics/detailed?topic=*"):
                    checked = subprocess.run(["promtool", "check", "metrics"],
                                             input=monitor.ask(path)[2], capture_output=True,
                                             timeout=60)
                    assert checked.returncode == 0 and not checked.stdout + checked.stderr, checked
            health = monitor.json("/health")
            assert health["probes"]["broker"]["state"] == "up" and health["history"] == "ok", health
            # the broker's endpoints are here too
            assert {row["topic"] for row in monitor.json("/api/v1/topics")["items"]} >= {"api", "email"}
            assert monitor.json("/api/v1/access") == {
                "name": "loopback", "role": "administer", "read_only": False}


def test_monitor_serves_the_page_from_the_program(binaries):
    with Broker(binaries) as broker:
        broker.start()
        with Monitor(broker) as monitor:
            status, headers, body = monitor.ask("/")
            assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
            [policy] = headers.get_all("Content-Security-Policy")
            assert "default-src 'none'" in policy and "unsafe" not in policy, policy
            assert "require-trusted-types-for 'script'" in policy, policy
            assert headers.get_all("Referrer-Policy") == ["no-referrer"], headers
            assert headers["X-Content-Type-Options"] == "nosniff"
            status, packed, small = monitor.ask("/", {"Accept-Encoding": "br, gzip;q=0.8"})
            assert packed["Content-Encoding"] == "gzip" and gzip.decompress(small) == body
            assert monitor.ask("/", {"Accept-Encoding": "gzip;q=0, br"})[2] == body
            status, _, rest = monitor.ask("/", {"If-None-Match": headers["ETag"]})
            assert status == 304 and rest == b""
            assert monitor.ask("/index.html")[2] == body
            assert monitor.ask("/nothing.js")[0] == 404
            sizes = len(small)
            for name in body.decode().split('"'):
                if name.endswith((".js", ".css", ".svg")):
                    status, headers, part = monitor.ask("/" + name, {"Accept-Encoding": "gzip"})
                    assert status == 200 and headers["Content-Encoding"] == "gzip", name
                    sizes += len(part)
            assert sizes < 150_000, sizes


def test_monitor_behind_a_proxy_leads_to_its_page(binaries):
    """The base path without its slash: what is relative in the page would be looked for beside it."""
    with Broker(binaries) as broker:
        broker.start()
        with Monitor(broker, "--base-path", "/event/flow") as monitor:
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", monitor.port, timeout=20)) as raw:
                for method, path in (("GET", "/event/flow"), ("HEAD", "/event/flow"), ("GET", "/event/flow?x=1"),
                                     ("GET", f"http://127.0.0.1:{monitor.port}/event/flow")):
                    raw.request(method, path)
                    answer = raw.getresponse()
                    assert (answer.status, answer.read()) == (308, b""), (method, path, answer.status)
                    assert answer.headers["Location"] == "/event/flow/", (method, path)
            status, headers, body = monitor.ask("/event/flow")  # followed
            assert status == 200 and headers["Content-Type"].startswith("text/html"), headers
            assert body == monitor.ask("/event/flow/")[2] == monitor.ask("/")[2]
            assert len(headers.get_all("Content-Security-Policy")) == 1
            assert monitor.ask("/event/flow/health/live")[0] == 200
            assert monitor.ask("/event/flowers")[0] == 404


def test_monitor_history_survives_a_restart(binaries):
    query = "/api/v1/history?topic=email&series=in,ready,dead&step=1"
    with Broker(binaries) as broker:
        broker.start()

        def counted(monitor):
            answer = monitor.json(query)
            assert answer["step_s"] == 1
            return sum(value or 0 for value in answer["series"]["in"])

        with Monitor(broker) as monitor:
            wait_for("it has begun", lambda: monitor.metrics()["eventflow_monitor_snapshots_total"] >= 2)
            publish(broker, "email", 50)
            # rates times their second; a sample lasts longer, and the next less, where the machine is busy
            wait_for("the events are in the history", lambda: 0.5 < counted(monitor) < 500, 60)
            wait_for("they wait", lambda: 50 in monitor.json(query)["series"]["ready"])
            before = counted(monitor)
            monitor.stop()
            again = Monitor(broker)
            with again:
                assert abs(counted(again) - before) < 1
                answer = again.json(query)
                assert 50 in answer["series"]["ready"]
                # what it didn't see isn't made up
                assert None in answer["series"]["in"]
                broker_wide = again.json("/api/v1/history?series=in,rss_bytes,oldest_ms")
                assert max(value or 0 for value in broker_wide["series"]["rss_bytes"]) > 1e6
                for bad in ("series=nothing", "from=tomorrow", "step=x", "from=2000000000&to=1000"):
                    status, headers, body = again.ask("/api/v1/history?" + bad)
                    assert status == 400 and "problem+json" in headers["Content-Type"], (bad, body)
                assert again.ask("/api/v1/history?topic=none")[0] == 200
                # From the beginning of the world to its end: what can't be there isn't looked for.
                wide = again.json("/api/v1/history?topic=email&from=0&to=253402300799")
                assert wide["step_s"] > 86400 and wide["series"]["in"], wide
                again.process.kill()  # a crash costs the last seconds, never the file
                again.process.wait()
            with Monitor(broker) as third:
                assert abs(counted(third) - before) < 1


def test_monitor_streams_snapshots_notices_and_alerts(binaries):
    with Broker(binaries) as broker:
        broker.start()
        with Monitor(broker, *QUICK) as monitor:
            stream = Stream(monitor)
            first = stream.wait("snapshot")
            assert {"time", "broker", "process", "topics", "workers", "pools"} <= set(first)
            publish(broker, "email", 12)
            later = stream.wait("snapshot", lambda data: any(
                row["topic"] == "email" and row["ready"] == 12 for row in data["topics"]))
            row = [row for row in later["topics"] if row["topic"] == "email"][0]
            assert {"in_per_s", "done_per_s", "failed_per_s", "oldest_ms", "breakers_open"} <= set(row)
            stream.wait("notice", lambda data: data["kind"] == "stall" and data["topic"] == "email")
            is_ours = lambda data: data["id"] == "no_worker/email"  # a slow disk may have one too
            assert stream.wait("alert", is_ours)["state"] == "firing"
            worker = Worker(broker, ["email"])
            assert stream.wait("alert", is_ours)["state"] == "resolved"
            worker.close()
            wait_for("it is among those that are over",
                     lambda: "no_worker/email" in monitor.alerts("resolved"))
            items = monitor.json("/api/v1/alerts")["items"]
            assert len({item["id"] for item in items}) == len(items), items
            stream.close()


def smtp_server():
    from aiosmtpd.controller import Controller

    class Keep:
        def __init__(self):
            self.mails = []

        async def handle_DATA(self, server, session, envelope):
            self.mails.append((time.monotonic(), envelope.rcpt_tos, envelope.content.decode()))
            return "250 kept"

    keep = Keep()
    return Controller(keep, hostname="127.0.0.1", port=free_ports(1)[0]), keep


def test_monitor_tells_within_5_s_that_the_broker_is_gone(binaries):
    with Broker(binaries, topics="alerts\nemail") as broker, hook() as server:
        mail, keep = smtp_server()
        mail.start()
        try:
            broker.start()
            with Monitor(broker, *QUICK, "--alert-topic", "alerts", "--alert-webhook",
                         server.url + "/hook", "--alert-webhook-header", "X-Key: abc",
                         "--alert-direct", "down", "--mail-server", f"smtp://127.0.0.1:{mail.port}",
                         "--mail-from", "eventflow@example.org", "--mail-to",
                         "ops@example.org, night@example.org") as monitor:
                stream = Stream(monitor)
                stream.wait("snapshot")
                killed = time.monotonic()
                broker.kill()
                down = stream.wait("down")
                seen = time.monotonic() - killed
                assert down["what"] == "broker", down
                wait_for("the webhook was called", lambda: server.posts)
                at, path, headers, body = server.posts[0]
                late = max(seen, at - killed)
                assert path == "/hook" and headers["X-Key"] == "abc"
                assert told(server) == [("broker_down", "", "firing")], body
                wait_for("the mail came", lambda: keep.mails)
                _, receivers, text = keep.mails[0]
                assert receivers == ["ops@example.org", "night@example.org"]
                assert "Subject: [eventflow] firing: broker_down (critical)" in text, text
                assert monitor.metrics()["eventflow_up"] == 0
                assert "broker_down" in monitor.alerts()
                # a page that comes now hears of it at once
                page = Stream(monitor)
                page.wait("down")
                page.close()
                # it is back: all of it is told, the event too
                broker.start()
                stream.wait("up", lambda data: data["what"] == "broker")
                stream.wait("snapshot")
                wait_for("the end was told", lambda: ("broker_down", "", "resolved") in told(server))
                worker = Worker(broker, ["alerts"])
                events = {payload["state"]: payload for payload in alert_events(worker, 2)}
                assert set(events) == {"firing", "resolved"}, events
                assert events["firing"]["name"] == "broker_down"
                worker.close()
                for _ in range(3):  # on a busy machine one of them may be late
                    if late >= 5:
                        late = told_again(broker, server, stream)
                assert late < 5, late
                stream.close()
        finally:
            mail.stop()


def told_again(broker, server, stream):
    """Kills the broker once more: how long until page and webhook say so."""
    posts = len(server.posts)
    killed = time.monotonic()
    broker.kill()
    stream.wait("down")
    seen = time.monotonic() - killed
    wait_for("the webhook was called", lambda: len(server.posts) > posts)
    at = server.posts[posts][0]
    broker.start()
    stream.wait("up", lambda data: data["what"] == "broker")
    wait_for("the end was told", lambda: told(server)[-1][2] == "resolved")
    return max(seen, at - killed)


def alert_events(worker, count):
    """Payloads of alerts that came as events."""
    return [[part for part in item if isinstance(part, list)][0][2] for item in worker.take(count)]


def test_monitor_notices_a_broker_that_hangs(binaries):
    with Broker(binaries) as broker, hook() as server:
        broker.start()
        with Monitor(broker, *QUICK, "--alert-webhook", server.url) as monitor:
            wait_for("it hears the broker", lambda: monitor.metrics()["eventflow_up"] == 1)
            for attempt in range(1, 4):  # on a busy machine one of them may be late
                posts = len(server.posts)
                broker.process.send_signal(signal.SIGSTOP)
                stopped = time.monotonic()
                try:
                    wait_for("it was told",
                             lambda: told(server).count(("broker_down", "", "firing")) == attempt)
                    late = server.posts[posts][0] - stopped
                finally:
                    broker.process.send_signal(signal.SIGCONT)
                wait_for("it is over",
                         lambda: told(server).count(("broker_down", "", "resolved")) == attempt)
                if late < 5:
                    break
            assert late < 5, late


def test_monitor_alerts_survive_a_restart_and_are_told_once(binaries):
    topics = "alerts\nemail\n    attempts = 1"
    with Broker(binaries, topics=topics) as broker, hook() as server:
        server.status = 503  # it is away at first: told again until it takes it
        broker.start()
        words = (*QUICK, "--alert-webhook", server.url, "--alert-topic", "alerts")
        with Monitor(broker, *words) as monitor:
            wait_for("it has begun", lambda: monitor.metrics()["eventflow_monitor_snapshots_total"] >= 2)
            with ended(broker.worker_process("--", "false", topic="email")):
                publish(broker, "email", 9)
                wait_for("they are dead", lambda: broker.topic("email")["dead"] == 9)
                wait_for("the alert counts them all", lambda: monitor.alerts().get(
                    "dead_letters/email", {}).get("value") == 9)
            alert = monitor.alerts()["dead_letters/email"]
            assert "9 events died" in alert["text"], alert
            wait_for("the webhook was tried", lambda: server.refused)
            server.status = 204
            wait_for("it was told", lambda: ("dead_letters", "email", "firing") in told(server))
            worker = Worker(broker, ["alerts"])
            payload = alert_events(worker, 1)[0]
            assert payload["name"] == "dead_letters" and payload["topic"] == "email", payload
            worker.close()
            since = alert["since"]
            monitor.stop()
        with Monitor(broker, *words) as monitor:
            kept = [alert["since"] for alert in monitor.json("/api/v1/alerts")["items"]
                    if alert["id"] == "dead_letters/email"]
            assert kept == [since], (kept, since)  # it may be over by now
            # the window is empty after a restart: it ends as it would have, and was told once
            wait_for("it is over", lambda: ("dead_letters", "email", "resolved") in told(server))
            assert told(server).count(("dead_letters", "email", "firing")) == 1


def test_monitor_sees_breakers_unhealthy_workers_and_the_gateway(binaries):
    topics = "email\n    breaker = 50%\n    breaker_calls = 3\n    breaker_cooldown = 1m\n    retry_base = 10ms"
    with Broker(binaries, topics=topics) as broker:
        broker.start()
        port = free_ports(1)[0]
        words = (*QUICK, "--alert-breaker", "500ms", "--alert-gateway", "500ms", "--gateway",
                 f"http://127.0.0.1:{port}/")
        with Monitor(broker, *words) as monitor:
            wait_for("the gateway is missed", lambda: "gateway_down" in monitor.alerts())
            assert monitor.metrics()["eventflow_gateway_up"] == 0
            with ended(broker.worker_process("--", "false", topic="email")):
                publish(broker, "email", 20)
                wait_for("the breaker's alert", lambda: "breaker_open/email" in monitor.alerts())
            values = monitor.metrics()
            assert values['eventflow_breaker_state{topic="email",state="open"}'] == 1
            broker.admin(["BREAKER.SET", "email", None, "closed"])
            worker = Worker(broker, ["api"])
            worker.send(["PING", {"health": "unhealthy", "reason": "smtp.example:25 refuses <b>"}])
            wait_for("the worker's alert", lambda: "unhealthy/api" in monitor.alerts())
            assert "smtp.example:25 refuses <b>" in monitor.alerts()["unhealthy/api"]["text"]
            wait_for("the breaker's end", lambda: "breaker_open/email" not in monitor.alerts())
            worker.close()


def test_prometheus_scrapes_the_monitor_and_a_rule_fires(binaries):
    prometheus, promtool = tool("prometheus"), tool("promtool")
    checked = subprocess.run([promtool, "test", "rules", "eventflow-alerts-test.yml"], cwd=SHARE,
                             capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked
    with Broker(binaries) as broker:
        broker.start()
        with Monitor(broker) as monitor:
            port = free_ports(1)[0]
            config = os.path.join(broker.directory, "prometheus.yml")
            rules = os.path.abspath(os.path.join(SHARE, "eventflow-alerts.yml"))
            with open(config, "w") as file:
                file.write(f"global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n"
                           f"rule_files: ['{rules}']\nscrape_configs:\n- job_name: eventflow\n"
                           f"  static_configs: [{{targets: ['127.0.0.1:{monitor.port}']}}]\n")
            log = open(os.path.join(broker.directory, "prometheus.log"), "w")
            process = subprocess.Popen(
                [prometheus, f"--config.file={config}", f"--web.listen-address=127.0.0.1:{port}",
                 f"--storage.tsdb.path={broker.directory}/tsdb"], stdout=log, stderr=log)
            log.close()

            def asked(path):
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                        return json.loads(answer.read())["data"]
                except OSError:
                    return None

            def value(query):
                data = asked("/api/v1/query?query=" + urllib.parse.quote(query))
                return float(data["result"][0]["value"][1]) if data and data["result"] else None

            with ended(process):
                publish(broker, "email", 7)
                wait_for("it was scraped", lambda: value(
                    'eventflow_topic_events{topic="email",state="ready"}') == 7, 120)
                assert value("eventflow_up") == 1
                wait_for("workers are wanted", lambda: (value(
                    'eventflow_pool_desired_workers{topic="email"}') or 0) >= 1, 120)
                broker.kill()

                def firing():
                    found = asked("/api/v1/alerts")
                    return found and any(alert["labels"]["alertname"] == "EventflowBrokerDown" and
                                         alert["state"] == "firing" for alert in found["alerts"])

                wait_for("the rule fires", firing, 120)


def test_influxdb_holds_the_series_after_it_was_away(binaries):
    influxd = tool("influxd")
    port, rpc = free_ports(2)
    with Broker(binaries) as broker:
        broker.start()
        folder = os.path.join(broker.directory, "influx")
        environment = dict(os.environ, INFLUXDB_META_DIR=folder + "/meta",
                           INFLUXDB_DATA_DIR=folder + "/data", INFLUXDB_DATA_WAL_DIR=folder + "/wal",
                           INFLUXDB_HTTP_BIND_ADDRESS=f"127.0.0.1:{port}",
                           INFLUXDB_BIND_ADDRESS=f"127.0.0.1:{rpc}",
                           INFLUXDB_REPORTING_DISABLED="true", INFLUXDB_HTTP_LOG_ENABLED="false",
                           HOME=broker.directory)
        with Monitor(broker, "--influx", f"http://127.0.0.1:{port}", "--influx-database", "flow",
                     "--influx-every", "1s") as monitor:
            publish(broker, "email", 11)
            rounds = wait_for("they are seen", lambda: (lambda values: values.get(
                'eventflow_topic_events{topic="email",state="ready"}') == 11 and values[
                    "eventflow_monitor_snapshots_total"])(monitor.metrics()))

            def buffered():
                values = monitor.metrics()
                return values["eventflow_monitor_influx_buffer_bytes"] > 2000 and \
                    values["eventflow_monitor_influx_batches_total"] == 0 and \
                    values["eventflow_monitor_snapshots_total"] >= rounds + 3

            wait_for("batches wait", buffered)  # nobody is there yet
            away = time.time()
            log = open(os.path.join(broker.directory, "influx.log"), "w")
            process = subprocess.Popen([influxd, "-config", "/dev/null"], env=environment, stdout=log,
                                       stderr=log)
            log.close()

            def query(text):
                body = urllib.parse.urlencode({"db": "flow", "epoch": "ms", "q": text}).encode()
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/query", data=body,
                                                timeout=10) as answer:
                        return json.loads(answer.read())["results"][0]
                except OSError:
                    return None

            with ended(process):
                # it is there without the database: 404, which a command mends
                wait_for("influxd is up", lambda: query("SHOW DATABASES"), 120)
                query("CREATE DATABASE flow")
                wait_for("batches were taken", lambda: monitor.metrics()[
                    "eventflow_monitor_influx_batches_total"] >= 3, 120)

                def rows(text):
                    found = query(text)
                    return found["series"][0]["values"] if found and "series" in found else []

                wait_for("all are there", lambda: monitor.metrics()[
                    "eventflow_monitor_influx_buffer_bytes"] == 0, 120)
                points = rows("SELECT ready, paused FROM eventflow_topic WHERE topic='email'")
                early = [row for row in points if row[0] < away * 1000]
                assert early and early[-1][1] == 11 and early[-1][2] is False, points
                assert rows("SELECT disk_free_bytes, space FROM eventflow_broker")[0][2] == "normal"
                values = monitor.metrics()
                assert values["eventflow_monitor_influx_lost_total"] == 0


def test_influxdb_version_2_is_written_with_a_token(binaries):
    with Broker(binaries) as broker, hook() as server:
        broker.start()
        server.status = 503
        with Monitor(broker, "--influx", server.url, "--influx-org", "my org", "--influx-bucket", "flow",
                     "--influx-token", "secret", "--influx-every", "1s") as monitor:
            wait_for("it was refused", lambda: server.refused)
            server.status = 204
            wait_for("batches were taken", lambda: len(server.posts) >= 2)
            _, path, headers, body = server.posts[0]
            assert path == "/api/v2/write?org=my%20org&bucket=flow&precision=ms", path
            assert headers["Authorization"] == "Token secret"
            lines = body.decode().splitlines()
            assert any(line.startswith("eventflow_topic,topic=email ready=0i,") for line in lines), lines
            times = [int(post[3].decode().split()[-1]) for post in server.posts]
            assert times == sorted(times), times  # in order
            server.status = 400  # what it finds wrong is lost, and doesn't hold up the others
            wait_for("one was lost",
                     lambda: monitor.metrics()["eventflow_monitor_influx_lost_total"] >= 1)
            server.status = 204
            count = len(server.posts)
            wait_for("it goes on", lambda: len(server.posts) > count)
        assert "secret" not in monitor.logged()


def test_monitor_drops_slow_pages_and_serves_the_others(binaries):
    names = "\n".join(f"topic{i:03}" for i in range(200))
    with Broker(binaries, topics=names) as broker:
        broker.start()
        with Monitor(broker) as monitor:
            good = Stream(monitor)
            assert len(good.wait("snapshot")["topics"]) >= 200
            slow = [socket.create_connection(("127.0.0.1", monitor.port)) for _ in range(8)]
            for each in slow:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                each.sendall(b"GET /api/v1/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            wait_for("they are there", lambda: monitor.metrics()["eventflow_monitor_streams"] == 9)
            deadline = time.monotonic() + 240
            while monitor.metrics()["eventflow_monitor_streams"] > 1:
                good.wait("snapshot")
                assert time.monotonic() < deadline, "slow pages are kept"
            good.wait("snapshot")
            # Nor are their connections, though nobody reads what was on its way.
            wait_for("they are cut", lambda: monitor.json("/stats")["server"]["connections"] <= 2, 60)
            for each in slow:
                each.close()
            good.close()


def test_monitor_costs_little_with_1000_topics_and_touches_no_delivery(binaries):
    names = "\n".join(f"topic{i:04}" for i in range(1000))
    with Broker(binaries, topics=names) as broker:
        broker.start()
        with Monitor(broker) as monitor:
            wait_for("all topics are known", lambda: monitor.metrics().get("eventflow_topics", 0) >= 1000, 120)
            status, _, body = monitor.ask("/metrics")
            assert status == 200 and len(body) < 1_000_000
            assert b'topic="_other"' in body and b'topic="topic0900"' not in body
            stream = Stream(monitor)
            stream.wait("snapshot")
            used = monitor.metrics()["process_cpu_seconds_total"]
            start = time.monotonic()
            for _ in range(10):
                stream.wait("snapshot")
            share = (monitor.metrics()["process_cpu_seconds_total"] - used) / (time.monotonic() - start)
            stream.close()
            print(f"monitor of 1000 topics: {share * 100:.0f} % of a core")
            if "asan" not in binaries:
                assert share < 0.8, share
            # delivery goes on while it hangs, and when it is killed
            worker = Worker(broker, ["topic0001"], credit=1000)
            monitor.process.send_signal(signal.SIGSTOP)
            publish(broker, "topic0001", 500)
            assert len(worker.take(500)) == 500
            monitor.process.kill()
            monitor.process.wait()
            worker.close()
            publish(broker, "topic0002", 500)
            worker = Worker(broker, ["topic0002"], credit=1000)
            assert len(worker.take(500)) == 500
            worker.close()
            broker.check_law()


def test_monitor_answers_while_publishers_overload_the_broker(binaries):
    with Broker(binaries) as broker:
        broker.start()
        with Monitor(broker) as monitor:
            wait_for("it has begun", lambda: monitor.metrics()["eventflow_monitor_snapshots_total"] >= 2)
            environment = dict(broker.environment, EVENTFLOW_FRONT=broker.endpoints["front"])
            lines = ("{\"payload\": {\"a\": 1}}\n" * 20000).encode()
            feed = subprocess.Popen(
                [os.path.join(binaries, "eventflow"), "publish", "-", "--topic", "api"],
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment)
            is_over = threading.Event()

            def pour():
                with contextlib.suppress(OSError):
                    while not is_over.is_set():
                        feed.stdin.write(lines)

            thread = threading.Thread(target=pour)
            thread.start()
            try:
                rounds = monitor.metrics()["eventflow_monitor_snapshots_total"]
                begun = time.monotonic()
                slowest = 0
                while time.monotonic() - begun < 6:
                    start = time.monotonic()
                    for path in ("/metrics", "/api/v1/history?topic=api", "/api/v1/alerts", "/"):
                        assert monitor.ask(path)[0] == 200
                    slowest = max(slowest, time.monotonic() - start)
                    select_pause()
                values = monitor.metrics()
                assert values["eventflow_monitor_snapshots_total"] - rounds >= 3
                assert slowest < 20, slowest
                assert values['eventflow_events_published_total{topic="api"}'] > 1000
                assert "broker_down" not in monitor.alerts()
            finally:
                is_over.set()
                feed.kill()
                thread.join()
                feed.wait()


def test_monitor_settings_are_checked(binaries):
    program = os.path.join(binaries, "eventflow-monitor")
    helped = subprocess.run([program, "--help"], capture_output=True, text=True, timeout=20)
    assert helped.returncode == 0 and "metrics/detailed" in helped.stdout, helped
    with Broker(binaries) as broker:
        with open(broker.config, "a") as file:
            file.write("monitor\n    alert_oldest = 1m\n    data = \"x.db\"\n    influx_workers = 0\n")
        for words, text in (
                (["--alert-webhook", "ftp://x"], "alert_webhook = ftp://x: expected a URL"),
                (["--mail-server", "smtp://x"], "expected both"),
                (["--influx-org", "x", "--influx", "http://x"], "expected both (version 2) or none"),
                (["--alert-topic", "-x"], "expected a topic's name"),
                (["--alert-oldst", "1s"], "unknown flag --alert-oldst"),
                (["--data", "/nowhere/x.db"], "unable to open database file")):
            bad = subprocess.run([program, "--config", broker.config, "--listen", "0", *words],
                                 capture_output=True, text=True, timeout=30)
            assert bad.returncode == 2 and text in bad.stderr, (words, bad)
        sample = os.path.join(SHARE, "../../../tools/eventflow.cfg")
        for path in (broker.config, sample):
            good = subprocess.run([program, "--config", path, "--check"], capture_output=True,
                                  text=True, timeout=20)
            assert good.returncode == 0, good
        broker.start()  # the broker passes over the section
