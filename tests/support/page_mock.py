"""A monitor that isn't one: the page's files and made-up answers of the endpoints that it asks, for
tests of what a real system shows rarely (a thousand topics, hostile names, tokens, losses).
SPDX-License-Identifier: MIT

    page_mock.py [--port N] [--topics N] [--token T] [--read-only]

prints its port. POST /mock/{down,up,cut,hang} makes trouble: the broker is gone, is back, streams
are cut, streams go silent.
"""
import argparse
import http.server
import json
import math
import os
import random
import re
import sys
import threading
import time
import urllib.parse

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../clients/monitor/page")
TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8",
         ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
CSP = ("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
       "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
       "require-trusted-types-for 'script'; trusted-types 'none'")
HOSTILE = "<img src=x onerror=alert(1)>"
HOSTILE_TOPICS = [HOSTILE, "\"><script>alert(1)</script>", "javascript:alert(1)", "__proto__",
                  "a/b?c=d#e&f%2F", "名前 \u202egnp.exe", "x" * 120]
ERRORS = [("TIMEOUT", "no answer within 30 s"), ("550", "5.1.1 mailbox unavailable"),
          ("CONNECT", "connection to 10.0.0.7:25 refused"), ("500", HOSTILE)]
RANGES = {"in": 40, "done": 38, "failed": 2, "ready": 120, "leased": 20, "retrying": 6, "dead": 8,
          "took_p50_ms": 35, "took_p99_ms": 240, "waited_p50_ms": 18, "waited_p99_ms": 900,
          "oldest_ms": 1800, "workers": 4, "desired": 4, "sync_p99_us": 2300}


def rfc(ms):
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ms / 1000)) + f".{int(ms % 1000):03d}Z"


def now():
    return time.time() * 1000


def attempt(number, code, text, at):
    return {"status_code": code, "message": text, "stack_trace": f"at handler ({HOSTILE})\nat run",
            "date": rfc(at), "worker": "w-3", "attempt": number, "host": "node-1", "pid": 4711,
            "start": rfc(at - 512), "delay": 1000 * 2 ** number if number < 5 else 0,
            "rule": "retry_on: 5*"}


class World:
    """What the mock says; the same for all who ask."""

    def __init__(self, options):
        self.options = options
        self.dice = random.Random(7)
        self.is_down = False
        self.cuts = 0
        self.is_silent = False
        self.down_since = 0
        self.started = now()
        names = ["email", "api", "db", "orders.created", "invoices", "webhooks.in", "audit"]
        names += HOSTILE_TOPICS
        names += [f"topic-{i:04d}" for i in range(max(0, options.topics - len(names)))]
        self.names = names[:max(1, options.topics)]
        self.paused = set()
        self.draining = set()
        self.tasks = {}
        self.letters = {name: [] for name in self.names}
        self.acts = []
        for i in range(260):
            self.kill(self.names[i % 3 if i < 220 else i % len(self.names)], i)
        self.alerts = [
            {"id": "1", "name": "dead_letters_growing", "severity": "warning",
             "state": "firing", "topic": "email", "since": rfc(now() - 340e3),
             "text": "74 letters died in the last 5 minutes"},
            {"id": "2", "name": "breaker_open", "severity": "critical",
             "state": "firing", "topic": "api", "since": rfc(now() - 42e3),
             "text": "partner.example:443 is held open"},
            {"id": "3", "name": "oldest_age", "state": "resolved", "topic": "db",
             "since": rfc(now() - 7200e3), "changed": rfc(now() - 6000e3), "text": HOSTILE}]

    def kill(self, topic, i):
        code, text = ERRORS[(i * 7) % len(ERRORS)]
        n = 1000 + i
        at = now() - (260 - i) * 47e3
        self.letters[topic].append({
            "n": n, "m": n, "topic": topic, "reason": "attempts" if i % 5 else "permanent",
            "attempts": 5, "timestamp": rfc(at), "id": f"4f6c{i:04x}-0c1d-4a56-9d0e-{i:012x}",
            "type": ["USER_SIGNUP", "invoice.sent", HOSTILE][i % 3],
            "last": {"status_code": code, "message": text, "stack_trace": "at handler",
                     "date": rfc(at), "worker": "w-3"},
            "event": {"id": f"4f6c{i:04x}", "topic": topic, "type": "USER_SIGNUP",
                      "dispatch_date": rfc(at - 90e3), "payload": {
                "userId": i, "big": "@BIG@", "name": HOSTILE, "email": "anna@example.org",
                "__proto__": {"admin": True}}, "headers": {"source": "shop"}},
            "error": [attempt(k + 1, code, text, at - (4 - k) * 20e3) for k in range(5)]})

    def topic(self, i, name):
        at = now() / 1000
        wave = 1 + 0.5 * math.sin(at / 20 + i) + 0.1 * self.dice.random()
        busy = i < 12 or i % 7 == 0
        rate = (180 / (1 + i % 12)) * wave if busy and name not in self.paused else 0
        return {"topic": name, "paused": name in self.paused, "draining": name in self.draining,
                "ready": int(900 / (1 + i % 40) * wave), "leased": int(rate / 4), "retrying": i % 4,
                "scheduled": i % 3, "parked": 1 if i == 3 else 0, "done": int((at - 1.7e9) * 3),
                "dead": len(self.letters[name]), "archived": 0, "purged": 0,
                "accepted": int((at - 1.7e9) * 3) + 20, "bytes": 51200 * (1 + i % 9),
                "workers": 4 if busy else i % 2, "unwell": 1 if i == 1 else 0, "lease_ms": 30000,
                "attempts": 5, "oldest_ms": int(2600 * wave * (1 + i % 5)), "took_p50_ms": 31,
                "took_p99_ms": 262, "in_per_s": rate, "done_per_s": rate * 0.97,
                "failed_per_s": rate * 0.03 if i % 3 == 0 else 0,
                "breakers_open": 1 if i == 1 else 0, "breakers_half_open": 0, "redelivered": 12 * i,
                "failures": {"error": 31, "lease": 2} if i % 3 == 0 else {},
                "deaths": {"attempts": 7, "poison": 1} if i % 3 == 0 else {}}

    def snapshot(self):
        at = now()
        workers = [{"worker": f"{name}-{k}", "host": "node-1", "pid": 4000 + 10 * i + k,
                    "topics": [name], "credit": 3, "in_flight": (i + k) % 5,
                    "bytes_in_flight": 4096, "done": 12000 + 37 * k, "failed": 31 * k,
                    "draining": k == 3, "healthy": not (i == 1 and k == 0),
                    "unhealthy": "partner.example:443 refuses" if i == 1 and k == 0 else "",
                    "heartbeat_ms": 1000, "started": rfc(self.started - 3600e3 * k),
                    "cpu_ms": 8123 * (k + 1), "rss_bytes": 9_400_000, "took_p50_ms": 30 + k,
                    "took_p99_ms": 200 + k, "restarts": 2} for i, name in enumerate(self.names[:8])
                   for k in range(4)]
        return {"time": rfc(at),
                "broker": {"broker": "eventflow", "epoch": 3, "durability": "sync",
                           "draining": False, "topics": len(self.names), "workers": len(workers),
                           "journal_bytes": 734_003_200, "space": "normal"},
                "process": {"version": "0.1.0", "pid": 4242, "started": rfc(self.started - 9e6),
                            "rss_bytes": 41_000_000, "sync_us": 1900 + self.dice.randrange(900),
                            "disk_free_bytes": 61_203_283_968},
                "topics": [self.topic(i, name) for i, name in enumerate(self.names)],
                "workers": workers,
                "pools": [{"topic": name, "running": 4, "desired": 4, "min": 1, "max": 8,
                           "restarts": 2, "reason": "stalled"} for name in self.names[:3]]}

    def event(self, topic, key):
        at = now()
        states = {"waiting": ("retrying", "backoff",
                              "It failed twice and is tried again at its time."),
                  "running": ("leased", "leased", "Worker email-0 has it."),
                  "finished": ("done", "done", "It is done.")}
        state, reason, text = states.get(key, states["waiting"])
        item = {"id": key, "topic": topic, "type": "invoice.sent", "dispatch_date": rfc(at - 62e3),
                "payload": {"total": "@BIG@", "note": HOSTILE, "lines": [1, 2.5, None]},
                "user": HOSTILE, "headers": {"source": HOSTILE}, "attempts": 2, "n": 17,
                "state": state, "accepted": rfc(at - 61e3), "segment": 4, "offset": 81920,
                "history": [attempt(1, "TIMEOUT", "no answer", at - 50e3),
                            attempt(2, "451", "4.7.1 greylisted, try later", at - 12e3)],
                "explain": {"topic": topic, "n": 17, "state": state, "reason": reason, "text": text,
                            "attempts": 2}}
        if state == "retrying":
            item["due"] = rfc(at + 48e3)
            item["explain"]["until"] = rfc(at + 48e3)
        elif state == "leased":
            item.update(worker="email-0", tag=9, deadline=rfc(at + 21e3))
        else:
            item["ended"] = rfc(at - 1e3)
        return item


def big(text):
    """Numbers that a double can't hold."""
    return text.replace('"@BIG@"', "12345678901234567890.0")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    world = None

    def log_message(self, *arguments):
        pass

    def answer(self, status, value, headers=None):
        body = big(json.dumps(value)).encode()
        kind = "application/json" if status < 400 else "application/problem+json"
        self.send(status, kind, body, {"Cache-Control": "no-store", **(headers or {})})

    def problem(self, status, code, detail):
        self.answer(status, {"type": "about:blank", "title": code, "status": status, "code": code,
                             "detail": detail, "instance": "1"})

    def send(self, status, kind, body, headers):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.act("GET")

    def do_POST(self):
        self.act("POST")

    def do_DELETE(self):
        self.act("DELETE")

    def act(self, method):
        url = urllib.parse.urlsplit(self.path)
        self.query = dict(urllib.parse.parse_qsl(url.query))
        size = int(self.headers.get("Content-Length") or 0)
        self.text = self.rfile.read(size).decode() if size else "{}"
        if method == "GET" and not url.path.startswith("/api/"):
            return self.file(url.path)
        if url.path.startswith("/mock/"):
            return self.trouble(url.path[6:])
        token = self.world.options.token
        if token and self.headers.get("Authorization") != "Bearer " + token:
            return self.problem(401, "UNAUTHORIZED", "a token is needed")
        if method != "GET" and self.world.options.read_only:
            return self.problem(403, "READ_ONLY", "this server is only read")
        parts = [urllib.parse.unquote(part) for part in url.path.split("/")[3:]]
        name = f"{method.lower()}_{re.sub('[^a-z]', '_', parts[0])}"
        if method != "GET":
            self.world.acts.append([method, url.path, self.text])
            try:
                self.body = json.loads(self.text)
            except ValueError:
                return self.problem(400, "BAD_JSON", "the body isn't JSON")
        run = getattr(self, name, None)
        return run(*parts[1:]) if run else self.problem(404, "NOT_FOUND", "no such endpoint")

    def trouble(self, what):
        world = self.world
        if what == "acts":
            return self.answer(200, world.acts)
        if what in ("down", "up"):
            world.is_down = what == "down"
            world.down_since = now()
        world.is_silent = what == "hang"
        world.cuts += what == "cut"
        return self.answer(200, {})

    def file(self, path):
        name = "index.html" if path == "/" else os.path.basename(path)
        full = os.path.join(PAGE, name)
        if not os.path.isfile(full):
            return self.send(404, "text/plain", b"", {})
        with open(full, "rb") as file:
            body = file.read()
        headers = {"Cache-Control": "no-cache", "Content-Security-Policy": CSP}
        return self.send(200, TYPES.get(os.path.splitext(name)[1], "text/plain"), body, headers)

    def get_live(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        world, cuts, told = self.world, self.world.cuts, False
        try:
            while world.cuts == cuts:
                if world.is_silent:
                    pass
                elif world.is_down:
                    if not told:
                        self.tell("down", {"what": "broker", "since": rfc(world.down_since)})
                    self.wfile.write(b": still here\n\n")
                else:
                    self.tell("snapshot", world.snapshot())
                    self.tell("notice", {"kind": "dead", "topic": world.names[0],
                                         "detail": HOSTILE, "time": rfc(now())})
                told = world.is_down
                self.wfile.flush()
                threading.Event().wait(1)
        except OSError:
            pass

    def tell(self, name, value):
        self.wfile.write(f"event: {name}\ndata: {json.dumps(value)}\n\n".encode())

    def get_alerts(self):
        self.answer(200, {"items": self.world.alerts, "next": None, "left_out": 0,
                          "probes": {"broker": {"state": "up", "took_ms": 0.4, "detail": ""},
                                     "gateway": {"state": "down", "took_ms": None,
                                                 "detail": HOSTILE}}})

    def get_access(self):
        self.answer(200, {"name": "loopback", "role": "administer",
                          "read_only": self.world.options.read_only})

    def get_history(self):
        step = max(1, int(self.query.get("step", 1)))
        to = now()
        count = min(1000, 900 // step if "from" not in self.query else 240)
        wanted = self.query.get("series", "").split(",")
        start = to - count * step * 1000
        series = {}
        for name in wanted:
            scale = RANGES.get(name, 1)
            waves = [math.sin((start / 1000 + i * step) / (step * 20) + len(name))
                     for i in range(count)]
            series[name] = [None if 60 < i < 70 else round(scale * (1 + 0.6 * wave), 2)
                            for i, wave in enumerate(waves)]
        self.answer(200, {"step_s": step, "from": rfc(start), "series": series})

    def get_topics(self, name=None, what=None):
        if name is None:
            return self.answer(200, {"items": self.world.snapshot()["topics"], "next": None})
        if name not in self.world.letters:
            return self.problem(404, "NOT_FOUND", "no such topic")
        if what == "keys":
            return self.answer(200, {"items": [
                {"key": HOSTILE, "n": 41, "state": "parked", "reason": "parked",
                 "since": rfc(now() - 9e5), "waiting": 12},
                {"key": "customer-17", "n": 44, "state": "retrying", "reason": "backoff",
                 "since": rfc(now() - 4e4), "waiting": 3}], "next": None})
        return self.answer(200, {
            "settings": {"attempts": "5", "retry": "exponential", "retry_base": "1s",
                         "lease": "30s", "order": "key", "on_blocked": "park", "dead_on": HOSTILE},
            "stats": {}, "breakers": [
                {"downstream": "", "state": "closed", "forced": False, "until": None, "calls": 40,
                 "failures": 1, "opened": 0, "waiting": 0},
                {"downstream": "partner.example:443", "state": "open", "forced": True,
                 "until": rfc(now() + 3e4), "calls": 12, "failures": 11, "opened": 3,
                 "waiting": 27}],
            "quota": {"limit": 20, "subjects": 3, "units": 17, "bytes": 400},
            "keys": {"busy": 4, "blocked": 2, "parked": 1, "waiting": 15},
            "dedupe": {"ids": 1200, "bytes": 90000}})

    def post_topics(self, name, verb):
        world = self.world
        if verb == "resume":
            world.paused.discard(name)
            world.draining.discard(name)
        elif verb in ("pause", "drain"):
            (world.paused if verb == "pause" else world.draining).add(name)
        self.answer(200, {"purged": 12} if verb == "purge" else {})

    def get_pools(self, name=None, what=None):
        at = now()
        self.answer(200, {"items": [
            {"time": rfc(at - 6e4 * k), "from": 3 + k % 2, "to": 4 - k % 2,
             "reason": ["stalled", "idle"][k % 2]} for k in range(6)], "next": None})

    def post_pools(self, name):
        self.answer(200, {})

    def post_breakers(self, topic, downstream):
        self.answer(200, {})

    def get_events(self, key=None):
        topic = self.query.get("topic") or self.world.names[0]
        if key == "missing":
            return self.problem(404, "NOT_FOUND", "no event that is kept has this id")
        if key is not None:
            return self.answer(200, {"items": [self.world.event(topic, key)]})
        state = self.query.get("state", "")
        items = []
        for i in range(12):
            item = self.world.event(topic, "running" if state == "leased" else "waiting")
            item.update(n=i, id=f"e-{topic[:20]}-{i}", worker=f"{topic}-{i % 4}",
                        deadline=rfc(now() + 2500 * i - 1000), type="invoice.sent")
            items.append(item)
        return self.answer(200, {"items": items, "next": None})

    def post_events(self, key, verb):
        self.answer(200, {"topic": "email", "n": 17})

    def find(self, filters):
        wanted = [filters["topic"]] if filters.get("topic") else self.world.names
        return [letter for name in wanted for letter in self.world.letters.get(name, [])
                if filters.get("reason", "") in ("", letter["reason"])
                and filters.get("error", "") in " ".join(letter["last"].values())
                and filters.get("type", "") in letter["type"]
                and filters.get("q", "") in json.dumps(letter["event"])]

    def get_failed_events(self, topic=None, n=None):
        if n is not None:
            found = [each for each in self.world.letters.get(topic, []) if each["n"] == int(n)]
            return self.answer(200, found[0]) if found else self.problem(404, "NOT_FOUND", "gone")
        found = self.find(self.query)
        limit, at = int(self.query.get("limit", 50)), int(self.query.get("cursor", 0))
        page = [letter if self.query.get("full") == "1" else self.brief(letter)
                for letter in found[at:at + limit]]
        following = str(at + limit) if at + limit < len(found) else None
        return self.answer(200, {"items": page, "next": following})

    @staticmethod
    def brief(letter):
        item = {key: value for key, value in letter.items() if key not in ("event", "last")}
        return {**item, "error": [letter["last"]]}

    def post_failed_events(self, first, n=None, verb=None):
        if verb == "replay":
            letters = self.world.letters[first]
            if "payload" not in self.body:
                letters[:] = [each for each in letters if each["n"] != int(n)]
            return self.answer(202, {"replayed": 1, "id": "edited-1", "is_edited": True})
        topic = self.body.get("topic", "")
        wanted = self.body.get("n")
        found = self.find({"topic": topic, **self.body.get("filter", {})})
        found = [each for each in found if wanted is None or each["n"] in wanted]
        if self.body.get("dry_run"):
            return self.answer(200, {"dry_run": True, "matched": len(found)})
        gone = {each["n"] for each in found}
        for letters in self.world.letters.values():
            letters[:] = [each for each in letters if each["n"] not in gone]
        key = str(len(self.world.tasks) + 1)
        rate = float(self.body.get("rate", "0/s")[:-2])
        self.world.tasks[key] = {"id": key, "kind": first, "topic": topic or None,
                                 "matched": len(found), "rate_per_s": rate, "state": "running",
                                 "who": "loopback", "started": rfc(now()), "began": now()}
        return self.answer(202, self.task(key), {"Location": f"/api/v1/tasks/{key}"})

    def task(self, key):
        task = dict(self.world.tasks[key])
        seconds = (now() - task.pop("began")) / 1000
        task["asked"] = min(task["matched"], int(seconds * (task["rate_per_s"] or 1000)))
        task["moved"] = task["asked"]
        if task["state"] == "running" and task["moved"] == task["matched"]:
            task["state"] = "done"
        return task

    def get_tasks(self, key=None):
        if key is None:
            return self.answer(200, {"items": [self.task(each) for each in self.world.tasks],
                                     "next": None})
        known = key in self.world.tasks
        return self.answer(200, self.task(key)) if known else self.problem(404, "NOT_FOUND", "gone")

    def delete_tasks(self, key):
        self.world.tasks[key]["state"] = "cancelled"
        self.answer(200, self.task(key))


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], OSError):  # browsers leave in the middle of an answer
            super().handle_error(request, client_address)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--topics", type=int, default=14)
    parser.add_argument("--token", default="")
    parser.add_argument("--read-only", action="store_true")
    options = parser.parse_args()
    Handler.world = World(options)
    server = Server(("127.0.0.1", options.port), Handler)
    print(server.server_address[1], flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main()
