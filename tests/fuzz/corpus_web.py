"""Writes corpora for fuzz_web and fuzz_stats. SPDX-License-Identifier: MIT

usage: corpus_web.py DIRECTORY (its folders web and stats are made)"""
import json
import os
import sys

import msgpack

EVENT = ["email", "an-id", {"a": [1, "ä"]}, {"type": "T", "time": 1700000000000, "headers": {"ce-id": "1"}, "key": "k"}]
ERROR = [550, "no such user", "trace", 1700000000000, "worker-1", {"start": 1700000000000, "lease": 3}]
HISTOGRAM = {"count": 7, "sum_ms": 100, "below": [1, 3, 5, 7]}
TOPIC = {"topic": "email", "ready": 5, "leased": 1, "dead": 3, "done": 7, "accepted": 9, "failed": 2, "workers": 1,
         "unwell": 1, "stalled_ms": 90000, "oldest_ms": 400000, "paused": True, "draining": False, "took": HISTOGRAM,
         "waited": HISTOGRAM, "breakers": [{"downstream": "d", "state": "open", "until": 1700000000000}]}
WORKER = {"worker": "w-1", "topics": ["email"], "pid": 4, "in_flight": 1, "started": 1700000000000, "healthy": False,
          "unhealthy": "no\nroute \"x\\"}
POOL = {"topic": "email", "managed": True, "desired": 3, "running": 2, "oldest_ms": 7, "changed": 1700000000000}
STATUS = {"broker": {"broker": "b", "durability": "sync", "space": "low", "epoch": 3, "refused": {"FULL": 2},
                     "version": "0.1", "scrub_damaged": 1},
          "process": {"pid": 1, "started": 1700000000000, "disk_free_bytes": 5, "sync_us": 70, "groups": 3,
                      "sync": {"count": 3, "sum_us": 400, "below": [1, 2, 3]}}}
ITEM = {"topic": "email", "n": 3, "m": 4, "id": "an-id", "type": "T", "event": EVENT, "state": "ready", "attempts": 1,
        "accepted": 1700000000000, "dead": 1700000000000, "reason": "attempts", "error": ERROR, "errors": [ERROR],
        "history": [ERROR], "since": 1700000000000, "until": 1700000000000, "key": "k", "time": 1700000000000}


def items(*values, **more):
    return msgpack.packb(dict({"items": list(values), "next": None}, **more))


def request(method, path, body=b"", *lines):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = [f"{method} {path} HTTP/1.1", "Host: localhost", *lines]
    if body:
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


LISTS = ["/api/v1/topics", "/api/v1/workers", "/api/v1/pools", "/stats?topic=email", "/health", "/health/ready",
         "/metrics", "/api/v1/tasks", "/api/v1/tasks/x", "/openapi.json", "/docs", "/", "/app.js", "/api/v1/alerts",
         "/api/v1/access", "/metrics/detailed?topic=em*&topic=?", "/api/v1/topics/email",
         "/api/v1/topics/email/keys?limit=3&cursor=a56d61696c", "/api/v1/pools/email/history?limit=1",
         "/api/v1/history?topic=email&series=in,done&step=10&from=2026-01-31T12:00:00Z&to=1800000000",
         "/api/v1/events?topic=email&state=in-flight&type=T&since=15m&until=2026-01-31T12:00:00%2b01:00&limit=7",
         "/api/v1/events/an-id?topic=email", "/api/v1/events/email%233", "/events?cursor=93a1", "/failed-events",
         "/api/v1/failed-events?topic=email&reason=attempts&error=5*&type=T%3f&since=1&until=2&q=an&limit=3&full=1",
         "/api/v1/failed-events?cursor=email:3", "/api/v1/failed-events/email/3", "/%2e%2e/%2e%2e/etc/passwd"]
ACTS = [("topics/email/pause", {}), ("topics/email/resume", {}), ("topics/email/drain", {}), ("topics/email/purge", {}),
        ("topics/email/unpark", {"key": "k"}), ("pools/email", {"min": 1, "max": None, "scale": 3}),
        ("breakers/email", {"state": "open"}), ("breakers/email/d", {"state": "auto"}), ("events/an-id/cancel", {}),
        ("events/an-id/run-now", {}), ("events/an-id/delay", {"delay": "5m"}),
        ("events/an-id/delay", {"at": "2099-01-31T12:00:00Z"}), ("events/an-id/release", {"to": "w-1"}),
        ("failed-events/replay", {"topic": "email", "n": [1, 2], "rate": "50/s"}),
        ("failed-events/discard", {"filter": {"reason": "x", "error": "5*", "type": "T", "q": "w", "since": 1,
                                              "until": "2026-01-31T12:00:00Z"}, "dry_run": True}),
        ("failed-events/replay", {"all": True, "dry_run": True, "rate": 2.5}),
        ("failed-events/email/3/replay", {}), ("failed-events/email/3/replay", {"payload": {"a": [1]}})]
CE = ["ce-id: 1", "ce-source: /s%20x", "ce-type: \"t\\\"\"", "ce-specversion: 1.0", "ce-topic: email",
      "ce-time: 2026-01-31T12:00:00Z", "ce-partitionkey: p"]
POSTS = [({"topic": "email", "type": "s", "payload": {"a": 1}}, ()), ([{"topic": "email", "payload": 1}] * 2, ()),
         (b'{"payload":1}\n{"payload":2}\r\n\n', ("Content-Type: application/x-ndjson",)),
         (msgpack.packb(EVENT) * 2, ("Content-Type: application/msgpack",)),
         ({"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": 1},
          ("Content-Type: application/cloudevents+json; charset=utf-8",)),
         ([{"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data_base64": "YQ=="}],
          ("Content-Type: application/cloudevents-batch+json",)), (b'{"a":1}', ("Content-Type: application/json", *CE)),
         ({"payload": 1}, ("Idempotency-Key: " + "k" * 70, "X-Request-Id: abc", "Content-Type: text/plain")),
         ({"user_id": 7, "event_type": "T", "payload": 1}, ())]
HEADERS = ["Authorization: Bearer 0123456789abcdef", "Origin: http://a.example", "Sec-Fetch-Site: cross-site",
           "X-Forwarded-For: 1.2.3.4, [::1]:5, 10.0.0.1", "Forwarded: for=1.2.3.4", "Last-Event-ID: 7", "If-None-Match: *",
           "Accept-Encoding: gzip", "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: a, b",
           "WebHook-Request-Origin: x", "Expect: 100-continue", "Connection: close", "Cookie: a=b"]
ANSWERS = [items(ITEM), items(ITEM, ITEM, next=9), items(dict(TOPIC, n=3)), msgpack.packb(TOPIC), msgpack.packb(STATUS),
           items(WORKER), items(POOL), msgpack.packb(ITEM), msgpack.packb({"replayed": 1, "purged": 2}), b"no\xc1"]


def web():
    for number, path in enumerate(LISTS):
        for kind, answer in enumerate(ANSWERS):
            yield f"get{number}-{kind}", bytes([0, 0]) + request("GET", path) + b"\xff\xfe" + answer
        yield f"refused{number}", bytes([0, 7]) + request("HEAD", path) + b"\xff\xfewhy"
    for number, (path, body) in enumerate(ACTS):
        for kind, answer in enumerate(ANSWERS[:3] + ANSWERS[7:9]):
            yield f"act{number}-{kind}", bytes([0, 0]) + request("POST", "/api/v1/" + path, body) + b"\xff\xfe" + answer
    for number, (body, lines) in enumerate(POSTS):
        for does in range(4):
            for face, path in enumerate(["/api/v1/events?atomic=true&topic=email", "/api/v1/events", "/events", "/task"]):
                yield f"post{number}-{does}-{face}", bytes([face, does]) + request("POST", path, body, *lines)
    for number, line in enumerate(HEADERS):
        for flags in 0, 4, 8, 16, 24:
            yield f"header{number}-{flags}", bytes([flags, 0]) + request("POST", "/api/v1/topics/email/pause", {}, line)
            yield f"options{number}-{flags}", bytes([flags, 0]) + request("OPTIONS", "/events", b"", line, HEADERS[1])
    yield "chunked", bytes([0, 0]) + request("POST", "/events", b"", "Transfer-Encoding: chunked") + (
        b"5;x=y\r\n{\"pay\r\n8\r\nload\":1}\r\n0\r\nA: b\r\n\r\n")
    yield "absolute", bytes([0, 0]) + request("GET", "http://localhost:80/ping") * 2
    yield "delete", bytes([0, 0]) + request("DELETE", "/api/v1/tasks/x")


def message(subject, value):
    packed = msgpack.packb(value)
    return bytes([len(subject)]) + len(packed).to_bytes(2, "big") + subject.encode() + packed


def stats():
    one = message("stats.broker", STATUS) + message("stats.topic.email", TOPIC) + message("stats.worker.w", WORKER)
    one += message("stats.pool.email", POOL)
    two = one.replace(b"\xa4dead\x03", b"\xa4dead\x70")
    yield "rounds", b"\0" + one + two + message("notice.crash_loop", {"topic": "email", "detail": "d", "time": 5}) + two
    for number, (value, kind) in enumerate([(STATUS, 0), ({"items": [TOPIC]}, 1), ({"items": [WORKER]}, 2),
                                            ({"items": [POOL]}, 3), (dict(TOPIC, items=[TOPIC]), 1)]):
        yield f"answer{number}", bytes([1, kind]) + msgpack.packb(value)
    yield "block", b"\2\1" + bytes([1, 2, 3]) + b"\xd0\x0f\0\0" + b"\1\4\2\2" + b"\2\3\0\5"


if __name__ == "__main__":
    for folder, seeds in ("web", web()), ("stats", stats()):
        os.makedirs(os.path.join(sys.argv[1], folder), exist_ok=True)
        for name, data in seeds:
            with open(os.path.join(sys.argv[1], folder, name), "wb") as out:
                out.write(data)
