"""The HTTP server's guards: malformed requests, slow clients, overload, access.
SPDX-License-Identifier: MIT"""
import json
import os
import re
import socket
import ssl
import subprocess
import threading
import time

import support
from http_gateway import Gateway
from test_gateway import pair

GOOD = b'{"topic":"email","payload":1}'


def request(*lines, body=b""):
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def post(*lines, body=GOOD, length=True):
    """A good POST with more lines."""
    head = [b"POST /api/v1/events HTTP/1.1", b"Host: localhost", *lines]
    if length:
        head.append(b"Content-Length: %d" % len(body))
    return request(*head, body=body)


MALFORMED = {
    "length and chunked": (400, post(b"Transfer-Encoding: chunked", body=b"0\r\n\r\n")),
    "two lengths": (400, post(b"Content-Length: 5")),
    "two equal lengths": (400, post(b"Content-Length: %d" % len(GOOD))),
    "length with a sign": (400, post(b"Content-Length: +29", length=False)),
    "length of words": (400, post(b"Content-Length: many", length=False)),
    "length in hexadecimal": (400, post(b"Content-Length: 0x1d", length=False)),
    "length of a list": (400, post(b"Content-Length: 29, 29", length=False)),
    "negative length": (400, post(b"Content-Length: -1", length=False)),
    "huge length": (413, post(b"Content-Length: 99999999999999999999999", length=False)),
    "large length": (413, post(b"Content-Length: 999999999999", length=False)),
    "unknown coding": (400, post(b"Transfer-Encoding: gzip", length=False)),
    "coding twice": (400, post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked",
                               length=False)),
    "coding with spaces in it": (400, post(b"Transfer-Encoding: xchunked", length=False)),
    "chunked in 1.0": (400, request(b"POST /api/v1/events HTTP/1.0", b"Host: x",
                                    b"Transfer-Encoding: chunked", body=b"0\r\n\r\n")),
    "bare LF everywhere": (400, b"GET /health HTTP/1.1\nHost: localhost\n\n"),
    "bare LF behind the request line": (400, b"GET /health HTTP/1.1\nHost: localhost\r\n\r\n"),
    "bare LF behind a header": (400, b"GET /health HTTP/1.1\r\nHost: localhost\nA: b\r\n\r\n"),
    "bare LF at the end": (400, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\n"),
    "bare LF twice at the end": (400, b"GET /health HTTP/1.1\r\nHost: localhost\n\n"),
    "bare CR in a value": (400, request(b"GET /health HTTP/1.1", b"Host: localhost", b"A: b\rc")),
    "folded line": (400, request(b"GET /health HTTP/1.1", b"Host: localhost", b"A: b", b" c")),
    "NUL in a value": (400, request(b"GET /health HTTP/1.1", b"Host: localhost", b"A: b\0c")),
    "NUL in a name": (400, request(b"GET /health HTTP/1.1", b"Host: localhost", b"A\0b: c")),
    "space before the colon": (400, request(b"GET /health HTTP/1.1", b"Host : localhost")),
    "space in a name": (400, request(b"GET /health HTTP/1.1", b"Host: localhost", b"A b: c")),
    "no name": (400, request(b"GET /health HTTP/1.1", b"Host: localhost", b": c")),
    "no colon": (400, request(b"GET /health HTTP/1.1", b"Host: localhost", b"nothing")),
    "control character": (400, request(b"GET /health HTTP/1.1", b"Host: localhost", b"A: \x01")),
    "no host": (400, request(b"GET /health HTTP/1.1", b"A: b")),
    "two hosts": (400, request(b"GET /health HTTP/1.1", b"Host: localhost", b"Host: localhost")),
    "version 2": (505, request(b"GET /health HTTP/2.0", b"Host: localhost")),
    "version 9": (400, request(b"GET /health HTTP/1.9", b"Host: localhost")),
    "no version": (400, b"GET /health\r\n\r\n"),
    "no words": (None, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
    "space in the path": (400, request(b"GET /hea lth HTTP/1.1", b"Host: localhost")),
    "no path": (400, request(b"GET health HTTP/1.1", b"Host: localhost")),
    "bad escape in a part": (400, request(b"GET /api/v1/topics/%zz HTTP/1.1", b"Host: localhost")),
    "cut escape in a part": (400, request(b"GET /api/v1/topics/%4 HTTP/1.1", b"Host: localhost")),
    "NUL in a part": (400, request(b"GET /api/v1/topics/%00 HTTP/1.1", b"Host: localhost")),
    "no UTF-8 in a part": (400, request(b"GET /api/v1/topics/%ff HTTP/1.1", b"Host: localhost")),
    "unknown method": (405, request(b"BREW /api/v1/events HTTP/1.1", b"Host: localhost")),
    "huge header": (431, request(b"GET /health HTTP/1.1", b"Host: localhost", b"A: " + b"x" * 70000)),
    "huge line": (414, request(b"GET /" + b"x" * 70000 + b" HTTP/1.1", b"Host: localhost")),
    "many headers": (431, request(b"GET /health HTTP/1.1", b"Host: localhost",
                                  *[b"A%d: b" % n for n in range(5000)])),
    "bad chunk size": (400, post(b"Transfer-Encoding: chunked", length=False, body=b"zz\r\n{}\r\n")),
    "negative chunk size": (400, post(b"Transfer-Encoding: chunked", length=False,
                                      body=b"-5\r\n{}\r\n")),
    "chunk longer than it says": (400, post(b"Transfer-Encoding: chunked", length=False,
                                            body=b"2\r\n{}{}\r\n0\r\n\r\n")),
    "huge chunk": (413, post(b"Transfer-Encoding: chunked", length=False,
                             body=b"ffffffffffffffffff\r\n")),
    "no body": (400, post(body=b"")),
    "deep JSON": (400, post(body=b'{"payload":' + b"[" * 100 + b"]" * 100 + b"}")),
    "very deep JSON": (400, post(body=b"[" * 100000)),
    "no UTF-8": (400, post(body=b'{"payload":"\xff\xfe"}')),
    "overlong UTF-8": (400, post(body=b'{"payload":"\xc0\xaf"}')),
    "lone surrogate": (400, post(body=b'{"payload":"\\ud800"}')),
    "huge number": (400, post(body=b'{"payload":1e99999}')),
    "long integer": (400, post(body=b'{"payload":' + b"9" * 400 + b"}")),
    "keys twice": (400, post(body=b'{"payload":1,"payload":2}')),
    "trailing bytes": (400, post(body=GOOD + b"}")),
    "cut JSON": (400, post(body=GOOD[:-1])),
    "NUL in JSON": (400, post(body=b'{"payload":"\0"}')),
    "bad MessagePack": (400, post(b"Content-Type: application/msgpack", body=b"\xc1")),
    "hostile MessagePack": (400, post(b"Content-Type: application/msgpack",
                                      body=b"\xdd\xff\xff\xff\xff")),
    "NUL in the path": (400, request(b"GET /health\0x HTTP/1.1", b"Host: localhost")),
    "NUL in the query": (400, request(b"GET /health?a\0x HTTP/1.1", b"Host: localhost")),
    "NUL in the method": (400, request(b"GET\0X /health HTTP/1.1", b"Host: localhost")),
    "two spaces": (400, request(b"GET  /health HTTP/1.1", b"Host: localhost")),
    "bad escape in the query": (400, request(b"GET /api/v1/events?topic=%zz HTTP/1.1", b"Host: localhost")),
    "NUL in a query's value": (400, request(b"GET /api/v1/events?a=1&topic=%00 HTTP/1.1", b"Host: localhost")),
    "no UTF-8 in the query": (400, request(b"POST /api/v1/events?type=%ff HTTP/1.1", b"Host: localhost",
                                           b"Content-Length: %d" % len(GOOD), body=GOOD)),
    "no UTF-8 in a key": (400, post(b"Idempotency-Key: \xff")),
    "no UTF-8 in a media type": (400, post(b"Content-Type: a/\xff", b"ce-id: 1", b"ce-source: s", b"ce-type: t",
                                           b"ce-specversion: 1.0", b"ce-topic: email")),
    "no UTF-8 in an attribute": (400, post(b"ce-id: %ff", b"ce-source: s", b"ce-type: t", b"ce-specversion: 1.0")),
    "no UTF-8 in a type": (400, post(b"Content-Type: application/msgpack",
                                     body=b"\x94\xa5email\xc0\x01\x81\xa4type\xa1\xff")),
    "no UTF-8 in a name": (400, post(b"Content-Type: application/msgpack",
                                     body=b"\x94\xa5email\xc0\x01\x81\xa1\xff\x01")),
    "names of a filter that are no strings": (400, request(
        b"POST /api/v1/failed-events/replay HTTP/1.1", b"Host: localhost", b"Content-Length: 38",
        body=b'{"all":true,"filter":{"$map":[[1,2]]}}')),
    "bad atomic": (400, request(b"POST /api/v1/events?atomic=perhaps HTTP/1.1", b"Host: localhost",
                                b"Content-Length: %d" % len(GOOD), body=GOOD)),
}


def test_malformed_requests_are_refused(binaries):
    with pair(binaries) as (broker, gateway):
        wrong = []
        for name, (status, data) in MALFORMED.items():
            got = gateway.raw(data)
            found = re.match(rb"HTTP/1\.1 (\d+)", got)
            if (int(found.group(1)) if found else None) != status:  # None: closed without a word
                wrong.append((name, status, got[:300]))
        assert not wrong, "\n".join(map(str, wrong))
        # Behind what the framing leaves unclear nothing is taken for another request.
        two = post(b"Transfer-Encoding: chunked", body=b"0\r\n\r\nGET /health HTTP/1.1\r\n\r\n")
        assert gateway.raw(two).count(b"HTTP/1.1 ") == 1
        assert broker.topic("email")["accepted"] == 0
        well = gateway.raw(post(b"Transfer-Encoding: chunked", length=False, body=(
            b"5\r\n" + GOOD[:5] + b"\r\n%x;x=y\r\n" % (len(GOOD) - 5) + GOOD[5:] + b"\r\n0\r\n\r\n")))
        assert well.startswith(b"HTTP/1.1 202"), well
        well = gateway.raw(request(b"GET http://localhost/health/live HTTP/1.1", b"Host: localhost",
                                   b"A:b \t", b"B:"))
        assert well.startswith(b"HTTP/1.1 200"), well
        assert gateway.get("/health").status == 200


def until_closed(gateway, data):
    """All that comes until the other side closes; it must."""
    with socket.create_connection(("127.0.0.1", gateway.ports["main"]), timeout=30) as sock:
        sock.sendall(data)
        got = b""
        try:
            while part := sock.recv(65536):
                got += part
        except ConnectionResetError:
            pass  # closed with bytes unread
        return got


def test_nothing_behind_chunks_is_taken_for_a_request(binaries):
    """What two readers see in chunks may differ: a bare LF, extensions, trailers."""
    hidden = b"POST /api/v1/topics/email/pause HTTP/1.1\r\nHost: localhost\r\n\r\n"
    size = b"%x" % len(GOOD)
    bodies = {
        "well": size + b"\r\n" + GOOD + b"\r\n0\r\n\r\n",
        "LF behind sizes": size + b"\n" + GOOD + b"\r\n0\n\r\n",
        "LF behind data": size + b"\r\n" + GOOD + b"\n0\r\n\r\n",
        "LF in an extension": size + b";a\n" + GOOD + b"\r\n0;b\n\n",
        "LF behind trailers": size + b"\r\n" + GOOD + b"\r\n0\r\nA: b\n\n",
        "folded trailer": size + b"\r\n" + GOOD + b"\r\n0\r\nA: b\r\n c\r\n\r\n",
        "NUL in an extension": size + b";\0\r\n" + GOOD + b"\r\n0\r\n\r\n",
    }
    with pair(binaries) as (broker, gateway):
        for name, body in bodies.items():
            got = until_closed(gateway, post(b"Transfer-Encoding: chunked", length=False, body=body) + hidden)
            assert got.count(b"HTTP/1.1 ") == 1 and b"\r\nConnection: close\r\n" in got, (name, got)
        for size in b"0x1d", b"+1d", b" 1d", b"1d ", b"-1", b"", b"1d\0", b"\xb9":
            got = until_closed(gateway, post(b"Transfer-Encoding: chunked", length=False, body=(
                size + b"\r\n" + GOOD + b"\r\n0\r\n\r\n")) + hidden)
            assert got.startswith(b"HTTP/1.1 400") and got.count(b"HTTP/1.1 ") == 1, (size, got)
        topic = broker.topic("email")
        assert not topic["paused"] and topic["accepted"] == len(bodies), topic


def test_pipelined_requests_are_answered_in_order(binaries):
    with pair(binaries) as (broker, gateway):
        one = post()
        with socket.create_connection(("127.0.0.1", gateway.ports["main"]), timeout=60) as sock:
            sock.sendall(one * 20 + request(b"GET /ping HTTP/1.1", b"Host: localhost"))
            got = b""
            while not got.endswith(b"OK\n"):
                part = sock.recv(65536)
                assert part, got
                got += part
        assert got.count(b"HTTP/1.1 202") == 20, got[-500:]
        assert broker.topic("email")["accepted"] == 20


def test_slow_clients_are_cut(binaries):
    flags = ("--header-timeout", "700ms", "--idle-timeout", "700ms")
    with pair(binaries, *flags) as (_, gateway):
        place = ("127.0.0.1", gateway.ports["main"])

        def cut(data, drip=b"", seconds=60):
            """Sends, then a byte now and then; until it is cut."""
            with socket.create_connection(place, timeout=60) as sock:
                sock.sendall(data)
                sock.settimeout(0.1)
                start = time.monotonic()
                while time.monotonic() - start < seconds:
                    try:
                        if drip:
                            sock.sendall(drip)
                        if sock.recv(4096) == b"":
                            return time.monotonic() - start
                    except socket.timeout:
                        continue
                    except (ConnectionResetError, BrokenPipeError):
                        return time.monotonic() - start
            raise AssertionError(f"not cut within {seconds} s: {data[:40]}")
        assert cut(b"") < 30
        assert cut(b"GET /health HTTP/1.1\r\nHost: localhost\r\nA: ", b"x") < 30
        assert cut(b"GE") < 30
        assert cut(request(b"GET /ping HTTP/1.1", b"Host: localhost")) < 30  # kept, then idle
        slow = request(b"POST /api/v1/events HTTP/1.1", b"Host: localhost", b"Content-Length: 90000")
        assert cut(slow, b"x") > 3  # a body's pace counts behind a grace
        assert b'refused_total{reason="slow"}' in gateway.get("/metrics").body


def latency(gateway, count):
    connection = gateway.connect()
    times = []
    for _ in range(count):
        start = time.monotonic()
        answer = gateway.ask("POST", "/api/v1/events", GOOD, connection=connection)
        assert answer.status == 202, answer
        times.append(time.monotonic() - start)
    connection.close()
    return sorted(times)[count // 2]


def test_many_slow_clients_slow_no_healthy_one(binaries):
    with pair(binaries, "--header-timeout", "60s") as (_, gateway):
        place = ("127.0.0.1", gateway.ports["main"])
        socks = []
        try:
            alone = latency(gateway, 200)
            for n in range(2000):
                sock = socket.create_connection(place, timeout=60)
                sock.sendall((b"GET /health HTTP/1.1\r\nHost: x\r\nA: ", post()[:-9], b"P")[n % 3])
                socks.append(sock)
            beside = latency(gateway, 200)
            again = latency(gateway, 200)
        finally:
            for sock in socks:
                sock.close()
        # The rate is measured elsewhere (tests/rates); here only that nothing is blocked by them.
        assert min(beside, again) < max(10 * alone, 0.1), (alone, beside, again)


def test_overload_is_said(binaries):
    with pair(binaries, "--connections", "20", "--threads", "1") as (_, gateway):
        place = ("127.0.0.1", gateway.ports["main"])
        socks = [socket.create_connection(place, timeout=60) for _ in range(25)]
        support.wait_for("it is full", lambda: gateway.post("/api/v1/events", GOOD).status == 503)
        answer = gateway.post("/api/v1/events", GOOD)
        assert answer.json()["code"] == "OVERLOAD" and answer.headers["Retry-After"], answer
        assert gateway.get("/health/live").status == 200
        for sock in socks:
            sock.close()
        support.wait_for("there is room", lambda: gateway.post("/api/v1/events", GOOD).status == 202)
        with Gateway(gateway.broker, "--per-client", "3", "--threads", "1") as few:
            socks = []

            def fits():
                sock = socket.create_connection(("127.0.0.1", few.ports["main"]), timeout=20)
                sock.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
                try:
                    is_taken = sock.recv(4096).startswith(b"HTTP/1.1 200")
                except ConnectionError:
                    is_taken = False
                if is_taken:
                    socks.append(sock)
                else:
                    sock.close()
                return is_taken
            # What came before, to see that it is ready, may still be about to end.
            support.wait_for("one address may have three", lambda: fits() and len(socks) == 3)
            assert not any(fits() for _ in range(5)), "and no more"
            socks.pop().close()
            support.wait_for("there is room", fits)
            for sock in socks:
                sock.close()
        with Gateway(gateway.broker, "--held", "64KiB") as small:
            answer = small.post("/api/v1/events", {"topic": "email", "payload": "x" * 100000})
            assert answer.status == 503 and answer.json()["code"] == "OVERLOAD", answer
        with Gateway(gateway.broker, "--rate", "1/s", "--burst", "5") as few:
            for _ in range(20):
                answer = few.post("/api/v1/events", GOOD)
                if answer.status == 429:
                    break
            assert answer.status == 429 and int(answer.headers["Retry-After"]) >= 1, answer
            assert answer.json()["code"] == "RATE" and few.get("/health/live").status == 200


def test_tokens_say_who_may_what(binaries):
    with support.Broker(binaries, "email\ndb") as broker:
        broker.start()
        tokens = os.path.join(broker.directory, "tokens")
        audit = os.path.join(broker.directory, "audit")
        keys = {"shop": "s" * 20, "view": "v" * 20, "boss": "b" * 20}
        with open(os.open(tokens, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(f"shop publish:email {keys['shop']}\nview read {keys['view']}\n"
                       f"boss administer {keys['boss']}\n")
        with Gateway(broker, "--loopback-open", "0", "--tokens", tokens, "--audit", audit) as gateway:
            def ask(method, path, who, body=None, **more):
                headers = {"Authorization": f"Bearer {keys[who]}"} if who else {}
                return gateway.ask(method, path, body, dict(headers, **more)).status
            assert ask("GET", "/health/live", None) == 200
            assert ask("GET", "/health", None) == 401 and ask("POST", "/events", None, GOOD) == 401
            answer = gateway.post("/api/v1/events", GOOD, Authorization="Bearer wrong")
            assert answer.status == 401 and "Bearer" in answer.headers["WWW-Authenticate"], answer
            assert ask("POST", "/api/v1/events", "shop", GOOD) == 202
            db = GOOD.replace(b"email", b"db")
            assert ask("POST", "/api/v1/events", "shop", db) == 403
            assert ask("POST", "/api/v1/events", "shop", b'[%s,%s]' % (GOOD, db)) == 207
            assert ask("POST", "/api/v1/events", "shop", b'{"payload":1}') == 403
            assert ask("POST", "/api/v1/events", "view", GOOD) == 403
            assert ask("POST", "/api/v1/events", "boss", db) == 202
            assert ask("GET", "/api/v1/topics", "view") == 200
            assert ask("GET", "/api/v1/topics", "shop") == 403
            assert ask("POST", "/api/v1/topics/email/pause", "view") == 403
            assert ask("POST", "/api/v1/topics/email/pause", "boss") == 200
            with open(tokens, "w") as file:
                file.write(f"view read {keys['view']}\n")
            support.wait_for("the file is read again", lambda: ask("GET", "/api/v1/topics",
                                                                   "boss") == 401)
            assert ask("GET", "/api/v1/topics", "view") == 200
        with open(audit) as file:
            acts = [json.loads(line) for line in file]
        assert [(a["who"], a["outcome"]) for a in acts] == [("view", "refused"), ("boss", "done")]
        assert acts[1]["path"] == "/api/v1/topics/email/pause" and acts[1]["status"] == 200
        assert "PAUSE topic=email" in acts[1]["note"], acts
        with Gateway(broker, "--read-only", "--audit", audit) as gateway:
            answer = gateway.post("/api/v1/topics/email/resume")
            assert answer.status == 403 and answer.json()["code"] == "READ_ONLY", answer
            assert gateway.post("/api/v1/events", GOOD).status == 202


def test_an_audit_log_on_a_full_disk_stops_no_act(binaries):
    with pair(binaries, "--audit", "/dev/full") as (broker, gateway):
        assert gateway.post("/api/v1/topics/email/pause").status == 200
        support.wait_for("it is said", lambda: "audit.unwritten" in gateway.logged())
        assert "No space" in gateway.logged(), gateway.logged()
        assert gateway.post("/api/v1/topics/email/resume").status == 200


def test_pages_of_other_origins_can_not_act(binaries):
    with pair(binaries, "--origins", "https://ops.example", "--audit", "none") as (_, gateway):
        def status(method, path, body=None, **headers):
            named = {k.replace("_", "-"): v for k, v in headers.items()}
            return gateway.ask(method, path, body, named).status
        path = "/api/v1/topics/email/pause"
        own = f"http://127.0.0.1:{gateway.ports['main']}"
        assert status("POST", path, Origin="https://evil.example") == 403
        assert status("POST", path, Origin="null") == 403
        assert status("POST", path, Sec_Fetch_Site="cross-site") == 403
        assert status("POST", "/api/v1/events", GOOD, Origin="https://evil.example") == 403
        assert status("POST", path, Origin=own) == 200
        assert status("GET", "/api/v1/topics", Host="evil.example") == 403
        assert status("GET", "/api/v1/topics", Host="localhost") == 200
        # Whoever comes by a proxy isn't from here, whatever the proxy's address.
        assert status("GET", "/api/v1/topics", X_Forwarded_For="10.0.0.1") == 401
        answer = gateway.ask("POST", path, headers={"Origin": "https://ops.example"})
        assert answer.status == 200, answer
        assert answer.headers["Access-Control-Allow-Origin"] == "https://ops.example"
        answer = gateway.ask("OPTIONS", path, headers={
            "Origin": "https://ops.example", "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type"})
        assert answer.status == 204 and "POST" in answer.headers["Access-Control-Allow-Methods"]
        answer = gateway.ask("OPTIONS", path, headers={
            "Origin": "https://evil.example", "Access-Control-Request-Method": "POST"})
        assert "Access-Control-Allow-Origin" not in answer.headers, answer
        assert "Access-Control-Allow-Origin" not in gateway.get("/api/v1/topics").headers


def test_tls(binaries):
    with support.Broker(binaries, "email") as broker:
        broker.start()
        certificate, key = (os.path.join(broker.directory, n) for n in ("c.pem", "k.pem"))
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
                        "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
                        "-keyout", key, "-out", certificate], check=True, capture_output=True)
        gateway = Gateway(broker, "--tls-certificate", certificate, "--tls-key", key, "--header-timeout", "5s")
        stalled = []
        try:
            context = ssl.create_default_context(cafile=certificate)
            plain = gateway.connect()
            plain.close()

            def ask(method, path, body=b""):
                head = (f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
                        f"{len(body)}\r\nConnection: close\r\n\r\n").encode()
                with socket.create_connection(("127.0.0.1", gateway.ports["main"]), timeout=60) as s:
                    with context.wrap_socket(s, server_hostname="localhost") as sock:
                        sock.sendall(head + body)
                        got = b""
                        while True:
                            part = sock.recv(65536)
                            if not part:
                                return got
                            got += part
            support.wait_for("it is ready", lambda: b" 200 " in ask("GET", "/health/ready")[:20])
            for n in range(30):  # handshakes that go no further keep nobody waiting, and are cut
                stalled.append(socket.create_connection(("127.0.0.1", gateway.ports["main"]), timeout=60))
                stalled[-1].sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[:n % 12])
            for _ in range(20):
                assert ask("POST", "/api/v1/events", GOOD).startswith(b"HTTP/1.1 202")
            threads = [threading.Thread(target=ask, args=("POST", "/api/v1/events", GOOD))
                       for _ in range(20)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(timeout=120)
            assert broker.topic("email")["accepted"] == 40
            for each in stalled:
                assert each.recv(1) == b""
        finally:
            for each in stalled:
                each.close()
            gateway.close()
