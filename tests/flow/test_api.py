"""The worker api against nginx and a server that misbehaves. SPDX-License-Identifier: MIT"""
import base64
import hashlib
import hmac
import http.client
import json
import os
import re
import subprocess
import time

import msgpack

from delivery import accept, ask, item
from support import Broker, Publisher, free_ports, wait_for
from web import CODES, TRANSIENT, Authority, Nginx, Recorder

TOPICS = "defaults\n    retry_base = 20ms\n    retry_cap = 50ms\n    attempts = 3\n    retry_jitter = 0"


class Skip(Exception):
    pass


class Api:
    """A worker api of a broker, and what becomes of events that it works on."""

    def __init__(self, broker, *words, allow="127.0.0.1", extra=None, topic="api"):
        self.broker = broker
        self.log = os.path.join(broker.directory, f"api-{time.monotonic_ns()}")
        environment = dict(broker.environment, EVENTFLOW_BACK=broker.endpoints["back"], **(extra or {}))
        allowed = ["--allow", allow] if allow else []
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [os.path.join(broker.binaries, "eventflow-worker"), "api", "--topic", topic, *allowed, *words],
                env=environment, stderr=log)

    def logged(self):
        with open(self.log) as file:
            return file.read()

    def stop(self, code=0, seconds=30):
        if self.process.poll() is None:
            self.process.terminate()
        assert self.process.wait(timeout=seconds) == code, self.logged()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None and self.process.poll() is None:
            return self.stop()
        self.process.kill()
        self.process.wait()


def publish(broker, payloads, topic="api", **meta):
    """Publishes {id: payload}."""
    accept(broker, [[topic, name, payload, meta] for name, payload in payloads.items()])


def ended(broker, name, state="done", seconds=30):
    """Waits until an event is in a state, and shows it."""
    def look():
        try:
            shown = item(broker, name, "EVENT.SHOW", topic="api")
        except AssertionError:
            return None
        # A dead letter is kept a moment after it was counted.
        return shown if shown["state"] == state and (state != "dead" or shown["history"]) else None
    return wait_for(f"{name} is {state}", look, seconds)


def failure(shown):
    """The last attempt's code and text."""
    return shown["history"][-1][0], shown["history"][-1][1]


def dies(broker, name, code, attempts=1):
    shown = ended(broker, name, "dead")
    assert failure(shown)[0] == code and shown["attempts"] == attempts, shown
    return failure(shown)[1]


def test_api_every_status_of_nginx(binaries):
    with Nginx() as nginx, Broker(binaries, TOPICS).start() as broker, Api(broker, "--keep-response", "all"):
        publish(broker, {f"s{code}": {"url": f"{nginx.url}/status/{code}", "body": {"n": code}} for code in CODES})
        for code in CODES:
            if code < 300:
                assert ended(broker, f"s{code}")["result"]["status"] == code
                continue
            text = dies(broker, f"s{code}", code, 3 if code in TRANSIENT else 1)
            assert text.startswith(str(code)), text
        seen = nginx.seen(len(CODES) + 2 * len(TRANSIENT))
        for code in CODES:
            mine = [line for line in seen if line[0] == f"s{code}"]
            assert mine == [[f"s{code}", "POST", f"/status/{code}", str(code)]] * (3 if code in TRANSIENT else 1), mine
        broker.check_law()
    with Recorder() as server, Broker(binaries, TOPICS).start() as broker, Api(broker):  # nginx hangs up for a 408
        publish(broker, {"s408": {"url": f"{server.url}/status/408"}})
        assert dies(broker, "s408", 408, 3) == "408 Request Timeout: the body of 408"
        assert [r.id for r in server.seen()] == ["s408"] * 3


def test_api_network_errors_are_tried_again_with_the_same_id(binaries):
    with Recorder() as server, Broker(binaries, TOPICS).start() as broker, Api(broker, "--request-timeout", "3s"):
        words = {"hang": "TIMEOUT", "slow/20": "TIMEOUT", "reset": "RESET", "truncated": "TRUNCATED",
                 "garbage": "PROTOCOL", "status/503?times=1": 503, "status/429?times=2": 429}
        publish(broker, {word: {"url": f"{server.url}/{word}", "body": word} for word in words})
        for word, code in words.items():
            shown = ended(broker, word)
            assert failure(shown)[0] == code, shown
            mine = server.seen("/" + word)
            assert len(mine) == shown["attempts"] + 1 and {r.id for r in mine} == {word}, mine
            assert {r.body for r in mine} == {word.encode()}
        publish(broker, {"refused": {"url": f"http://127.0.0.1:{free_ports(1)[0]}/"},
                         "nobody": {"url": "http://no-such-host.invalid/"}})
        assert "127.0.0.1" in dies(broker, "refused", "CONNECT", 3)


def test_api_names_that_dont_resolve_are_tried_again(binaries):
    with Broker(binaries, TOPICS).start() as broker, Api(broker, allow=None):
        publish(broker, {"nobody": {"url": "http://no-such-host.invalid/"}})
        dies(broker, "nobody", "RESOLVE", 3)


def test_api_event_time_is_over(binaries):
    with Recorder() as server, Broker(binaries, TOPICS).start() as broker, Api(broker, "--timeout", "2s") as api:
        publish(broker, {"e": {"url": f"{server.url}/hang?always=1"}})
        assert "longer" in dies(broker, "e", "TIMEOUT", 3)
        publish(broker, {"next": {"url": f"{server.url}/json"}})
        ended(broker, "next")
        api.stop()


def test_api_connecting_has_a_time_of_its_own(binaries):
    import socket
    with socket.socket() as full, Broker(binaries, TOPICS).start() as broker, Api(broker, "--connect-timeout", "300ms"):
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = []  # its backlog is full: what comes now gets no answer
        for _ in range(8):
            each = socket.socket()
            each.setblocking(False)
            each.connect_ex(full.getsockname())
            waiting.append(each)
        publish(broker, {"e": {"url": f"http://127.0.0.1:{full.getsockname()[1]}/"}})
        start = time.monotonic()
        dies(broker, "e", "TIMEOUT", 3)
        assert time.monotonic() - start < 30  # far less than three times the 15 s of a request
        for each in waiting:
            each.close()


def test_api_tls_is_verified(binaries):
    with Authority() as ours, Authority() as theirs:
        good = ours.certificate("IP:127.0.0.1,DNS:localhost")
        other = ours.certificate("DNS:elsewhere.example")
        with Nginx(good) as nginx, Recorder(other) as wrong, Recorder(good) as server, \
                Broker(binaries, TOPICS).start() as broker:
            url = f"https://127.0.0.1:{nginx.tls_port}/ok"
            with Api(broker, "--ca-file", ours.ca):
                publish(broker, {"good": {"url": url}, "python": {"url": f"{server.url}/json"},
                                 "name": {"url": f"{wrong.url}/json"}})
                ended(broker, "good")
                assert ended(broker, "python")["result"]["body"] == {"charge": 17, "ok": True}
                dies(broker, "name", "TLS", 3)
            for words in (["--ca-file", theirs.ca], []):
                with Api(broker, *words):
                    publish(broker, {f"wrong{len(words)}": {"url": url}})
                    assert "certificate" in dies(broker, f"wrong{len(words)}", "TLS", 3)
            assert [r.id for r in server.seen()] == ["python"] and wrong.seen() == []
            assert [line[0] for line in nginx.seen(1)] == ["good"]


def test_api_private_addresses_are_denied(binaries):
    with Recorder() as server, Broker(binaries, TOPICS).start() as broker:
        port = server.port
        hosts = ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "127.1", "0x7f.0.0.1",
                 "2130706433", "169.254.169.254", "10.0.0.1", "192.168.0.1"]
        with Api(broker, allow=None):
            publish(broker, {host: {"url": f"http://{host}:{port}/"} for host in hosts})
            for host in hosts:
                assert "isn't allowed" in dies(broker, host, "DENIED_ADDRESS"), host
            publish(broker, {"file": {"url": "file:///etc/passwd"}, "gopher": {"url": "gopher://127.0.0.1/x"}})
            dies(broker, "file", "BAD_URL")
            dies(broker, "gopher", "BAD_URL")
        assert server.seen() == []
        with Api(broker, allow="localhost"):  # a name that is allowed is so with its addresses
            publish(broker, {"name": {"url": f"http://localhost:{port}/"}, "number": {"url": f"http://127.0.0.1:{port}/"}})
            ended(broker, "name")
            dies(broker, "number", "DENIED_ADDRESS")
        with Api(broker, allow=f"127.0.0.0/8:{port}, *.example.org"):
            publish(broker, {"in": {"url": f"http://127.0.0.1:{port}/"}, "by name": {"url": f"http://localhost:{port}/"},
                             "port": {"url": "http://127.0.0.1:9/"}, "public": {"url": "http://8.8.8.8/"}})
            ended(broker, "in")
            ended(broker, "by name")
            dies(broker, "port", "DENIED_ADDRESS")
            dies(broker, "public", "DENIED_ADDRESS")


def test_api_redirects(binaries):
    with Recorder() as server, Recorder(address="127.0.0.2") as other, Broker(binaries, TOPICS).start() as broker:
        with Authority() as authority, Recorder(authority.certificate("IP:127.0.0.1")) as tls, \
                Api(broker, "--ca-file", authority.ca, "--secret", "geheim", allow=f"127.0.0.1, 127.0.0.2:{other.port}"):
            elsewhere = f"http://127.0.0.2:{other.port}"

            def to(url, code=302):
                return f"{server.url}/to?code={code}&url={url}"
            own = {"Authorization": "Bearer x", "X-Own": "y"}
            requests = {f"kept{code}": {"url": to("/json", code), "method": "PUT", "headers": own, "body": "b"}
                        for code in (301, 302, 307, 308)}
            requests["see"] = {"url": to("/text", 303), "body": "b", "headers": own}
            requests["away"] = {"url": to(elsewhere + "/json", 307), "body": "b", "headers": own}
            requests["loop"] = {"url": f"{server.url}/loop"}
            requests["private"] = {"url": to("http://127.0.0.3:1/x")}
            requests["meta"] = {"url": to("http://169.254.169.254/latest/meta-data")}
            requests["file"] = {"url": to("file:///etc/passwd")}
            requests["clear"] = {"url": f"{tls.url}/to?url={server.url}/json"}
            requests["nowhere"] = {"url": f"{server.url}/status/302"}
            publish(broker, requests)
            for code in (301, 302, 307, 308):
                assert ended(broker, f"kept{code}")["result"]["body"] == {"charge": 17, "ok": True}
            assert ended(broker, "see")["result"]["body"] == "gr\u00fc\u00dfe"
            ended(broker, "away")
            dies(broker, "loop", 307)
            assert "127.0.0.3" in dies(broker, "private", "DENIED_ADDRESS")
            dies(broker, "meta", "DENIED_ADDRESS")
            dies(broker, "file", "BAD_URL")
            assert "https to http" in dies(broker, "clear", 302)
            dies(broker, "nowhere", 302)
            assert len(server.seen("/loop")) == 4  # itself and three redirects
            kept = [r for r in server.seen("/json") if r.id.startswith("kept")]
            assert [(r.method, r.body, r.headers["authorization"]) for r in kept] == [("PUT", b"b", "Bearer x")] * 4
            assert all("x-eventflow-signature" in r.headers for r in kept)
            see, = server.seen("/text")
            assert (see.method, see.body, see.headers["x-own"]) == ("GET", b"", "y")
            away, = other.seen()
            assert (away.method, away.body, away.id) == ("POST", b"b", "away"), away.headers
            assert not {"authorization", "x-own", "x-eventflow-signature"} & set(away.headers), away.headers


def test_api_retry_after_is_respected(binaries):
    import email.utils
    topics = TOPICS + "\n    attempts = 5"
    with Recorder() as server, Broker(binaries, topics).start() as broker, Api(broker):
        until = int(time.time()) + 6
        date = email.utils.formatdate(until, usegmt=True).replace(" ", "%20").replace(":", "%3A")
        urls = {"seconds": "status/429?times=1&after=2", "date": f"status/503?times=1&after={date}",
                "now": "status/503?times=1&after=0", "never": "status/404?after=1"}
        start = time.time()
        publish(broker, {name: {"url": f"{server.url}/{url}"} for name, url in urls.items()})
        dies(broker, "never", 404)
        for name, least in (("now", 0), ("seconds", 2), ("date", 0)):
            ended(broker, name)
            times = [r.time for r in server.seen() if r.id == name]
            assert len(times) == 2, times
            assert least <= times[1] - times[0] <= 25, (name, times)
            assert name != "date" or times[1] > until - 0.1, (until, times)
        assert [r.time for r in server.seen() if r.id == "now"][1] - start < 20
        day = {"url": f"{server.url}/status/503?after=999999999"}
        publish(broker, {"day": day})
        shown = ended(broker, "day", "retrying")
        assert 86300_000 < shown["due"] - time.time() * 1000 <= 86401_000, shown


def test_api_signature_verified_by_the_receiver(binaries):
    with Recorder() as server, Broker(binaries, TOPICS).start() as broker:
        secret = os.path.join(broker.directory, "secret")
        with open(secret, "w") as file:
            file.write("geheim\n")
        url = f"{server.url}/status/503?times=1"
        with Api(broker, "--url", url, "--secret-file", secret, "--timestamp-header", "X-Time"):
            publish(broker, {f"h{i}": {"i": i, "text": "\u00e4" * i} for i in range(20)})
            for i in range(20):
                ended(broker, f"h{i}")
        assert len(server.seen()) == 40
        for request in server.seen():
            at = request.headers["x-time"]
            wanted = hmac.new(b"geheim", at.encode() + b"." + request.body, hashlib.sha256).hexdigest()
            assert request.headers["x-eventflow-signature"] == "sha256=" + wanted
            assert abs(float(at) - request.time) < 20
            assert json.loads(request.body) == {"i": int(request.id[1:]), "text": "\u00e4" * int(request.id[1:])}
        text = open(os.path.join(os.path.dirname(__file__), "..", "..", "workers", "api", "README.md")).read()
        shown = {}
        exec(re.search(r"```python\n# readme: webhook\n(.*?)```", text, re.S)[1], shown)
        with Api(broker, "--url", f"{server.url}/readme", "--secret-file", secret):
            publish(broker, {"readme": {"a": 1}})
            ended(broker, "readme")
        request, = server.seen("/readme")
        headers = http.client.HTTPMessage()
        for name, value in request.headers.items():
            headers[name] = value
        assert shown["is_genuine"](b"geheim", headers, request.body)
        assert not shown["is_genuine"](b"geheim", headers, request.body + b" ")
        server.requests.clear()
        key = os.urandom(24)
        with Api(broker, "--url", server.url + "/x", "--signature", "standard",
                 extra={"EVENTFLOW_API_SECRET": "whsec_" + base64.b64encode(key).decode()}):
            publish(broker, {"a": "x"})
            accept(broker, [["api", b"\xff id", "y"]])
            wait_for("both came", lambda: len(server.seen()) == 2)
        for request in server.seen():
            name, at = request.headers["webhook-id"], request.headers["webhook-timestamp"]
            signed = f"{name}.{at}.".encode() + request.body
            wanted = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
            assert request.headers["webhook-signature"] == "v1," + wanted
            assert name == request.id
        assert {r.id for r in server.seen()} == {"a", "%FF%20id"}


def test_api_configured_headers_stay_at_home(binaries):
    with Recorder() as home, Recorder() as other, Broker(binaries, TOPICS).start() as broker:
        file = os.path.join(broker.directory, "headers")
        with open(file, "w") as out:
            out.write("Authorization: Bearer geheim\r\n\nX-Two: 2\n")
        with Api(broker, "--url", home.url + "/x/{{id}}", "--header", "X-One: 1", "--header-file", file, "--secret", "s"):
            publish(broker, {"home": {"id": "a/b"}, "asked": {"url": home.url + "/y"}, "away": {"url": other.url + "/z"},
                             "bad": {"url": other.url + "/z", "headers": {"Authorization": "mine"}}, "no id": {}})
            for name in ("home", "asked", "away"):
                ended(broker, name)
            dies(broker, "bad", "BAD_HEADER")
            dies(broker, "no id", "MISSING_FIELD")
        names = {"authorization", "x-one", "x-two", "x-eventflow-signature"}
        assert {r.path for r in home.seen()} == {"/x/a%2Fb", "/y"}
        assert all(names <= set(r.headers) for r in home.seen()), home.seen()[0].headers
        away, = other.seen()
        assert not names & set(away.headers), away.headers


def test_api_cloudevents(binaries):
    with Recorder() as server, Broker(binaries, TOPICS).start() as broker:
        parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        meta = {"type": "order.new", "key": "k 1", "time": 1700000001000, "headers": {"traceparent": parent}}
        with Api(broker, "--url", server.url + "/status/500?times=1", "--mode", "cloudevents_binary"):
            publish(broker, {"b\u00e4": {"a": 1}}, **meta)
            ended(broker, "b\u00e4")
        with Api(broker, "--url", server.url + "/s", "--mode", "cloudevents_structured", "--source", "/shop"):
            publish(broker, {"s": {"a": 1}, "bytes": b"\0\1"}, **meta)
            ended(broker, "s")
            ended(broker, "bytes")
        first, second = server.seen("/status")
        assert first.headers == second.headers
        wanted = {"ce-specversion": "1.0", "ce-id": "b%C3%A4", "ce-source": "eventflow/api", "ce-type": "order.new",
                  "ce-time": "2023-11-14T22:13:21.000Z", "ce-partitionkey": "k%201", "ce-traceparent": parent,
                  "traceparent": parent, "content-type": "application/json"}
        assert wanted.items() <= first.headers.items(), first.headers
        assert json.loads(first.body) == {"a": 1}
        events = {}
        for request in server.seen("/s"):
            if request.path == "/s":
                assert request.headers["content-type"] == "application/cloudevents+json"
                events[request.id] = json.loads(request.body)
        common = {"specversion": "1.0", "source": "/shop", "type": "order.new", "time": "2023-11-14T22:13:21.000Z",
                  "partitionkey": "k 1", "traceparent": parent}
        assert events["s"] == {**common, "id": "s", "datacontenttype": "application/json", "data": {"a": 1}}
        assert events["bytes"] == {**common, "id": "bytes", "datacontenttype": "application/octet-stream",
                                   "data_base64": "AAE="}


def requests_of_payloads(binaries, *words):
    with Recorder() as server, Broker(binaries, TOPICS).start() as broker, Api(broker, *words):
        publish(broker, {
            "put": {"url": server.url + "/put?a=b", "method": "PUT", "headers": {"X-A": "\u00e4", "N": 1}, "body": b"\0\xff"},
            "get": {"url": server.url + "/get", "method": "get"}, "head": {"url": server.url + "/json", "method": "HEAD"},
            "delete": {"url": server.url + "/delete", "method": "DELETE"},
            "patch": {"url": server.url + "/patch", "method": "PATCH", "body": {"x": [1]}},
            "user": {"url": f"http://me:pw@127.0.0.1:{server.port}/user"},
            "after": {"url": server.url + "/after", "body": "y"},
            "empty": {"url": server.url + "/empty"}, "large": {"url": server.url + "/large", "body": "x" * 900_000},
            "inject": {"url": server.url + "/x", "headers": {"A": "b\r\nHost: c"}}, "text": "no request", "none": None,
            "spaces": {"url": server.url + "/a b"}, "port": {"url": "http://127.0.0.1:99999/"}, "what": {"url": "http://"}})
        for name in ("put", "get", "head", "delete", "patch", "empty", "large", "user", "after"):
            ended(broker, name)
        dies(broker, "inject", "BAD_HEADER")
        dies(broker, "text", "NO_URL")
        dies(broker, "none", "NO_URL")
        # None of these goes where the request before went, nor bears its user.
        publish(broker, {url: {"url": url} for url in ("/admin", "//127.0.0.1/x", "?a=b", "x")})
        for name in ("spaces", "port", "what", "/admin", "//127.0.0.1/x", "?a=b", "x"):
            dies(broker, name, "BAD_URL")
        got = {r.id: r for r in server.seen()}
        assert len(server.seen()) == len(got) == 9
        assert {name: (r.method, r.body[:9]) for name, r in got.items()} == {
            "put": ("PUT", b"\0\xff"), "get": ("GET", b""), "head": ("HEAD", b""), "delete": ("DELETE", b""),
            "patch": ("PATCH", b'{"x":[1]}'), "empty": ("POST", b""), "large": ("POST", b"x" * 9), "user": ("POST", b""),
            "after": ("POST", b"y")}
        assert len(got["large"].body) == 900_000
        assert got["put"].headers["x-a"].encode("latin-1").decode() == "\u00e4" and got["put"].headers["n"] == "1"
        assert got["put"].path == "/put?a=b" and got["put"].headers["content-type"] == "application/octet-stream"
        assert got["user"].headers["authorization"] == "Basic " + base64.b64encode(b"me:pw").decode()
        assert [name for name, r in got.items() if "authorization" in r.headers] == ["user"]
        assert [name for name, r in got.items() if "x-a" in r.headers] == ["put"]
        for request in got.values():
            assert request.headers["user-agent"].startswith("eventflow/")
            assert len(request.names) == len(set(request.names)), request.names


def test_api_requests_of_payloads(binaries):
    requests_of_payloads(binaries)


def test_api_requests_of_payloads_one_after_the_other(binaries):
    """All through one handle: nothing of a request is left over for the next one."""
    requests_of_payloads(binaries, "--concurrency", "1")


def test_api_responses_are_kept(binaries):
    with Recorder() as server, Broker(binaries, TOPICS).start() as broker:
        urls = {"json": "/json", "text": "/text", "none": "/ok", "some": "/bytes/5000", "much": "/bytes/5000000"}
        with Api(broker):
            publish(broker, {name: {"url": server.url + path} for name, path in urls.items()})
            kept = {name: ended(broker, name).get("result") for name in urls}
        assert kept["json"]["body"] == {"charge": 17, "ok": True} and kept["json"]["status"] == 200
        assert kept["text"]["body"] == "gr\u00fc\u00dfe" and kept["text"]["ms"] < 20000
        assert kept["some"]["body"] == kept["much"]["body"] == "x" * 4096
        assert kept["none"] is None
        with Api(broker, "--keep-response", "all"):
            publish(broker, {"all": {"url": server.url + "/ok"}})
            result = ended(broker, "all")["result"]
            assert set(result) == {"status", "ms"} and result["status"] == 204
        with Api(broker, "--keep-response", "none"):
            publish(broker, {"not": {"url": server.url + "/json"}, "error": {"url": server.url + "/status/400"}})
            assert "result" not in ended(broker, "not")
            assert dies(broker, "error", 400) == "400 Bad Request: the body of 400"


def test_api_downstream_opens_its_own_breaker_only(binaries):
    topics = TOPICS + "\n    breaker = 0.5\n    breaker_calls = 4\n    breaker_cooldown = 60s\n    attempts = 50"
    with Recorder() as bad, Recorder() as good, Broker(binaries, topics).start() as broker, Api(broker):
        publish(broker, {f"bad{i}": {"url": bad.url + "/status/503"} for i in range(8)})
        wait_for("its breaker is open", lambda: any(
            b["downstream"] == f"127.0.0.1:{bad.port}" and b["state"] == "open"
            for b in ask(broker, "TOPIC.INFO", "api").get("breakers", [])))
        publish(broker, {"good": {"url": good.url + "/json"}})
        ended(broker, "good")


def test_api_proxy_is_the_configured_one_only(binaries):
    with Recorder() as proxy, Recorder() as server, Broker(binaries, TOPICS).start() as broker:
        closed = f"http://127.0.0.1:{free_ports(1)[0]}"
        environment = {name: closed for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY")}
        with Api(broker, extra=environment):
            publish(broker, {"direct": {"url": server.url + "/x"}})
            ended(broker, "direct")
        with Api(broker, "--proxy", proxy.url, allow=None, extra={"no_proxy": "*", "NO_PROXY": "*"}):
            publish(broker, {"never past it": {"url": f"http://localhost:{server.port}/hidden"}})
            ended(broker, "never past it")
        with Api(broker, "--proxy", proxy.url, allow="*.example.org"):
            publish(broker, {"through": {"url": "http://a.example.org/y"}, "private": {"url": server.url + "/z"},
                             "other": {"url": "http://example.com/"}})
            ended(broker, "through")
            dies(broker, "private", "DENIED_ADDRESS")
            dies(broker, "other", "DENIED_ADDRESS")
        assert [r.id for r in server.seen()] == ["direct"]
        assert [r.path for r in proxy.seen()] == [f"http://localhost:{server.port}/hidden", "http://a.example.org/y"]


def test_api_health_follows_the_other_side(binaries):
    with Broker(binaries, TOPICS).start() as broker, Nginx() as nginx:
        def health():
            return [worker.get("health") for worker in broker.admin(["WORKERS"])[1]["items"]]
        words = ["--url", nginx.url + "/ok", "--probe", "200ms"]
        for more in ([], ["--probe-url", nginx.url + "/status/200"]):
            with Api(broker, *words, *more) as api:
                wait_for("it is well", lambda: health() and set(health()) <= {"ok", "healthy", None, True})
                nginx.stop()
                wait_for("it says that it isn't well", lambda: re.search("unhealthy: .*CONNECT", api.logged()))
                publish(broker, {f"waits{len(more)}": {"a": 1}})
                nginx.start()
                wait_for("it is well again", lambda: "healthy again" in api.logged())
                ended(broker, f"waits{len(more)}")
        with Api(broker, *words, "--probe-url", nginx.url + "/status/503") as api:
            wait_for("the probe's answer is told", lambda: "503" in api.logged())


def test_api_settings_are_checked(binaries):
    worker = os.path.join(os.path.abspath(binaries), "eventflow-worker")

    def check(*words, code=2):
        done = subprocess.run([worker, "api", *words, *(["--check"] if code == 0 else [])], capture_output=True, text=True,
                              timeout=30)
        assert done.returncode == code, (words, done)
        return done.stderr
    assert "http://" in check("--url", "ftp://x")
    assert "host" in check("--url", "http://{{host}}/")
    assert "allow" in check("--allow", "10.0.0.0/99")
    assert "one of them" in check("--secret", "a", "--secret-file", "b")
    assert "request" in check("--request", "settings")
    assert "probe_url" in check("--probe-url", "http://h/{{id}}")
    assert "Host" in check("--header", "Host: x")
    assert "control" in check("--header", "A: b\r\nC: d")
    assert "idempotency_header" in check("--idempotency-header", "a b")
    assert "geheim" not in check("--secret", "geheim" * 400)
    assert "geheim" not in check("--secret", "geheim" * 4000)
    assert "geheim" not in check("--header", "Authorization Bearer geheim")
    assert "geheim" not in check("--header", "Authorization: Bearer geheim\n")
    assert "can't be read" in check("--ca-file", "/nowhere")
    assert "/nowhere" in check("--secret-file", "/nowhere")
    assert "/nowhere" in check("--header-file", "/nowhere")
    assert "base64" in check("--secret", "whsec_%", "--signature", "standard")
    for host in ("127.0.0.1", "[::1]:80", "10.0.0.1", "user@192.168.1.1"):
        assert "isn't allowed" in check("--url", f"http://{host}/{{{{id}}}}")
        check("--url", f"http://{host}/", "--allow", "127.0.0.0/8, ::1, 10.0.0.1, 192.168.0.0/16", code=0)
    assert "isn't allowed" in check("--url", "https://b.example.org/", "--allow", "a.example.org")
    assert "isn't allowed" in check("--probe-url", "http://169.254.169.254/")
    check("--url", "https://hooks.example.org/{{a.b}}?c={{d}}", code=0)
    help_text = subprocess.run([worker, "api", "--help"], capture_output=True, text=True, timeout=30).stdout
    for word in ("--connect-timeout", "--allow", "DENIED_ADDRESS", "examples:"):
        assert word in help_text


def test_api_settings_from_file_and_environment(binaries):
    with Recorder() as server, Broker(binaries, TOPICS).start() as broker:
        with open(broker.config, "a") as file:
            file.write(f'worker\n    api\n        url = "{server.url}/x"\n        header = "X-One: 1"\n'
                       f'        header = "X-Two: 2"\n        method = PUT\n        allow = "10.0.0.0/8, 127.0.0.1"\n')
        with Api(broker, "--header", "X-Three: 3", allow=None,
                 extra={"EVENTFLOW_CONFIG": broker.config, "EVENTFLOW_API_METHOD": "PATCH"}):
            publish(broker, {"e": {"a": 1}})
            ended(broker, "e")
        request, = server.seen()
        assert (request.method, request.path) == ("PATCH", "/x")
        assert {f"x-{name}": value for name, value in (("one", "1"), ("two", "2"), ("three", "3"))
                }.items() <= request.headers.items(), request.headers


def test_api_event_taken_away_lets_go_of_its_connection(binaries):
    with Recorder() as server, Broker(binaries, TOPICS).start() as broker, Api(broker, "--concurrency", "1"):
        publish(broker, {"e": {"url": server.url + "/hang"}})
        wait_for("it is under way", lambda: server.seen())
        publish(broker, {"next": {"url": server.url + "/json"}})
        broker.cli("event", "release", "e", "--topic", "api")
        ended(broker, "next", seconds=10)  # its time would have been 15 s
        with Api(broker):  # another one, for the first doesn't get it again soon
            assert ended(broker, "e")["attempts"] == 0
        broker.check_law()


def test_api_slow_names_hold_up_nobody(binaries):
    """A name whose look-up takes a minute and a half: its request's time is over by then, others go on meanwhile."""
    if "asan" in binaries:
        raise Skip("a sanitizer wants to be the first that is loaded")
    shim = os.path.join(os.path.abspath(binaries), "..", "tests", "libslowname.so")
    words = ["--request-timeout", "2s", "--concurrency", "4"]
    with Recorder() as server, Broker(binaries, TOPICS).start() as broker:
        with Api(broker, *words, allow="*.slow.invalid, 127.0.0.1", extra={"LD_PRELOAD": shim}) as api:
            start = time.monotonic()
            publish(broker, {"slow": {"url": "http://a.slow.invalid/"}})
            for i in range(20):
                publish(broker, {f"e{i}": {"url": server.url + "/ok"}})
                ended(broker, f"e{i}")
            dies(broker, "slow", "TIMEOUT", 3)
            api.stop()
            assert time.monotonic() - start < 60  # not 90 s of a name, let alone three times


def flood(broker, first, count, url=None):
    """Publishes `count` events e<first>… in messages of 500."""
    publisher = Publisher(broker)
    for base in range(first, first + count, 500):
        publisher.publish([["api", f"e{i}", {"n": i}] for i in range(base, min(base + 500, first + count))])
        assert not publisher.confirm()[2].get("refused")
    publisher.close()


def test_api_nothing_is_lost_when_it_is_stopped(binaries):
    """TERM and KILL in the middle, and nginx restarted: at the end each event has arrived, repeats by the same id."""
    topics = TOPICS.replace("attempts = 3", "attempts = 100") + "\n    lease = 2s"
    count = 3000
    with Nginx() as nginx, Broker(binaries, topics).start() as broker:
        words = ["--url", nginx.url + "/ok", "--concurrency", "40", "--secret", "s", "--probe", "300ms"]
        for turn in range(6):
            flood(broker, turn * count // 6, count // 6)
            before = broker.topic("api")["done"]
            with Api(broker, *words) as api:
                wait_for("some more are done", lambda: broker.topic("api")["done"] >= before + 150)
                if turn == 2:
                    nginx.stop()
                    nginx.start()
                if turn % 2:
                    api.process.kill()
                    api.process.wait()
                else:
                    api.stop()
        with Api(broker, *words):
            flood(broker, count, 1)
            wait_for("all are done", lambda: broker.topic("api")["done"] == count + 1, 120)
        broker.check_law()
        wanted = {f"e{i}" for i in range(count + 1)}
        wait_for("all are logged", lambda: wanted <= {line[0] for line in nginx.logged()})
        seen = [line for line in nginx.logged() if line[0] != "-"]
        assert {line[0] for line in seen} == wanted
        assert {line[3] for line in seen} == {"204"}
        assert len(seen) <= count + 6 * 40 + 200, len(seen)  # repeats only of what was in hand


def test_api_what_arrives_is_what_was_published(binaries):
    """Through errors of all kinds and TERM in the middle: each body as it was published, by the same id each time."""
    paths = ["ok", "status/503?times=2", "reset", "truncated", "garbage", "status/429?times=1", "slow/0.05"]
    sent = {f"e{i}": {"n": i, "text": "\u00e4\u20ac" * (i % 50), "list": [None, True, i / 7, {"k": "v" * i}]}
            for i in range(400)}
    topics = TOPICS.replace("attempts = 3", "attempts = 20")
    with Recorder() as server, Broker(binaries, topics).start() as broker:
        words = ["--url", server.url + "/x", "--request", "payload", "--request-timeout", "5s"]
        events = {name: {"url": f"{server.url}/{paths[i % len(paths)]}", "body": value}
                  for i, (name, value) in enumerate(sent.items())}
        names = list(events)
        for turn in range(3):
            publish(broker, {name: events[name] for name in names[turn * 100:turn * 100 + 100]})
            before = broker.topic("api")["done"]
            with Api(broker, *words):
                wait_for("some more are done", lambda: broker.topic("api")["done"] >= before + 50)
        with Api(broker, *words):
            publish(broker, {name: events[name] for name in names[300:]})
            wait_for("all are done", lambda: broker.topic("api")["done"] == len(sent), 120)
        seen = server.seen()
        assert {r.id for r in seen} == set(sent)
        for request in seen:
            assert json.loads(request.body) == sent[request.id]
            assert f"{server.url}{request.path}" == events[request.id]["url"]
        broker.check_law()


def test_api_term_waits_for_what_is_under_way(binaries):
    with Recorder() as server, Broker(binaries, TOPICS).start() as broker:
        with Api(broker) as api:
            publish(broker, {f"e{i}": {"url": server.url + "/slow/1"} for i in range(5)})
            wait_for("all are under way", lambda: len(server.seen()) == 5)
            api.stop()
            assert broker.topic("api")["done"] == 5
        with Api(broker, "--grace", "300ms") as api:
            publish(broker, {f"f{i}": {"url": server.url + "/slow/30"} for i in range(5)})
            wait_for("all are under way", lambda: len(server.seen()) == 10)
            start = time.monotonic()
            api.stop()
            assert time.monotonic() - start < 20
            wait_for("they came back uncounted", lambda: broker.topic("api")["ready"] == 5)
        broker.check_law()
