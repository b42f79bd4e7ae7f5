"""Publishing over HTTP: forms, answers, faces, CloudEvents, schemas. SPDX-License-Identifier: MIT"""
import json
import os
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import threading
import uuid

import msgpack

import support
from http_gateway import Gateway
from run import Skip

THREE = "email\ndb\napi"
WEBHOOKS = os.path.join(os.path.dirname(__file__), "..", "..", "..", "shared", "data",
                        "github-webhooks.jsonl")


def two(items):
    return items if len(items) == 2 else None


def pair(binaries, *flags, topics=THREE, server="", **options):
    """A broker and a gateway, to be used with `with`."""
    class Both:
        def __enter__(self):
            self.broker = support.Broker(binaries, topics, server=server).start()
            try:
                self.gateway = Gateway(self.broker, *flags, **options).ready()
            except BaseException:
                self.broker.close()
                raise
            return self.broker, self.gateway

        def __exit__(self, *_):
            try:
                self.gateway.close()
            finally:
                self.broker.close()
    return Both()


def test_one_event_is_confirmed_and_arrives(binaries):
    with pair(binaries) as (broker, gateway):
        worker = support.Worker(broker, ["email"])
        payload = {"to": "a@example.org", "n": [1, 2.5, None, True, "ä€😀"], "big": 2**63 + 1}
        answer = gateway.post("/api/v1/events", {"topic": "email", "type": "T", "payload": payload,
                                                 "key": "k", "user_id": "u"}, X_Request_Id="r-17")
        assert answer.status == 202, answer
        body = answer.json()
        assert uuid.UUID(body["id"]).version == 7 and body["topic"] == "email", body
        assert answer.headers["Location"] == "/api/v1/events/" + body["id"]
        assert answer.headers["X-Request-Id"] == "r-17"
        [[_, attempt, event]] = worker.take(1)
        assert attempt == 1 and event[:3] == ["email", body["id"], payload], event
        assert event[3] == {"type": "T", "key": "k", "user": "u"}, event
        seen = gateway.get(answer.headers["Location"]).json()["items"][0]
        assert seen["state"] == "leased" and seen["payload"] == payload, seen
        assert seen["explain"]["reason"] == "leased", seen
        head = gateway.ask("HEAD", "/api/v1/topics")
        assert head.status == 200 and head.body == b"" and int(head.headers["Content-Length"]) > 10
        support.wait_for("the durability is known", lambda: "durability" in gateway.post(
            "/api/v1/events", {"topic": "db", "payload": 1}).json())


def test_faces_answer_in_their_own_words(binaries):
    with pair(binaries, faces=("python", "node", "queue")) as (broker, gateway):
        worker = support.Worker(broker, ["email", "db", "api"])
        body = {"user_id": "user-123", "event_type": "USER_NOTIFICATION",
                "payload": {"to_email": "test@example.com",
                            "message": "Testing my first event-driven app!"}}
        answer = gateway.post("/api/v1/events", body, "python")
        assert answer.status == 202 and list(answer.json()) == ["status", "event_id"], answer
        assert answer.json()["status"] == "queued" and uuid.UUID(answer.json()["event_id"])
        [[_, _, event]] = worker.take(1)
        assert event[0] == "email" and event[2] == body["payload"], event
        assert event[3] == {"type": "USER_NOTIFICATION", "user": "user-123"}, event
        answer = gateway.post("/events", {"type": "USER_SIGNUP", "payload": {"userId": "123"}},
                              "node")
        assert answer.status == 202 and list(answer.json()) == ["message", "eventId"], answer
        assert answer.json()["message"] == "Event accepted and queued"
        deliveries = worker.take(2)
        assert sorted(d[2][0] for d in deliveries) == ["db", "email"], deliveries
        for bad, field in (({"payload": {}}, "type"), ({"type": "X"}, "payload")):
            answer = gateway.post("/events", bad, "node")
            assert answer.status == 400 and answer.json()["detail"].startswith(field), answer
        answer = gateway.post("/task", {"type": "email-notification", "payload": "user@example.com"},
                              "queue")
        assert answer.status == 202 and list(answer.json()) == ["status", "task_id"], answer
        [[tag, _, event]] = worker.take(1)
        assert event[0] == "email" and event[2] == "user@example.com", event
        worker.send(["ACK", [d[0] for d in deliveries]])
        worker.send(["NACK", [tag], "550", "no such user", {"dead": True}])
        support.wait_for("one is dead, two are done", lambda: gateway.get(
            "/metrics", "node").json() == {"processed": 2, "failed": 1, "retried": 0})
        done = support.wait_for("both are found", lambda: two(
            gateway.get("/events", "node").json()["items"]))
        assert all(e["retryCount"] == 0 and e["state"] == "done" for e in done)
        support.wait_for("the letter", lambda: gateway.get("/failed-events", "node").json()["items"])
        [letter] = gateway.get("/failed-events", "node").json()["items"]
        assert letter["event"]["payload"] == "user@example.com" and letter["reason"] == "permanent"
        assert re.match(r"20\d\d-.*Z$", letter["timestamp"]), letter
        assert letter["error"][0]["status_code"] == "550", letter
        for face in ("python", "node", "queue"):
            for path in ("/stats", "/health", "/metrics", "/events", "/failed-events",
                         "/health/ready", "/health/live"):
                assert gateway.get(path, face).status == 200, (face, path)


def test_lists_have_an_outcome_for_each(binaries):
    with pair(binaries) as (broker, gateway):
        good = [{"topic": "email", "payload": n} for n in range(300)]
        answer = gateway.post("/api/v1/events", good)
        assert answer.status == 202, answer
        body = answer.json()
        assert body["accepted"] == 300 and [i["status"] for i in body["items"]] == [202] * 300
        assert len({i["id"] for i in body["items"]}) == 300
        lines = "\n".join(json.dumps(e) for e in good) + "\n"
        answer = gateway.post("/api/v1/events", lines, media="application/x-ndjson")
        assert answer.status == 202 and answer.json()["accepted"] == 300, answer
        mixed = [{"topic": "email", "payload": 1}, {"topic": "nowhere", "payload": 2},
                 {"payload": 3, "delay": "x"}, {"topic": "db", "payload": 4}]
        answer = gateway.post("/api/v1/events", mixed)
        assert answer.status == 207, answer
        items = answer.json()["items"]
        assert [i["status"] for i in items] == [202, 404, 400, 202], items
        assert items[1]["code"] == "UNKNOWN_TOPIC" and items[2]["detail"].startswith("delay")
        answer = gateway.post("/api/v1/events", lines.replace("email", "none"),
                              media="application/x-ndjson")
        assert answer.status == 404 and answer.json()["code"] == "UNKNOWN_TOPIC", answer
        assert len(answer.json()["items"]) == 300
        packed = b"".join(msgpack.packb(e) for e in
                          (["email", "m1", b"\x00\xff"], {"queue": "db", "payload": 2**64 - 1}))
        answer = gateway.post("/api/v1/events", packed, media="application/msgpack")
        assert answer.status == 202 and answer.json()["items"][0]["id"] == "m1", answer
        assert broker.topic("email")["accepted"] == 602 and broker.topic("db")["accepted"] == 2
        broker.check_law()


def test_atomic_is_all_or_nothing(binaries):
    with pair(binaries) as (broker, gateway):
        answer = gateway.post("/api/v1/events?atomic=true",
                              [{"topic": "email", "payload": 1}, {"topic": "none", "payload": 2}])
        assert answer.status == 404 and answer.json()["code"] == "UNKNOWN_TOPIC", answer
        answer = gateway.post("/api/v1/events?atomic=true",
                              [{"topic": "email", "payload": 1}, {"topic": "email"}])
        assert answer.status == 400 and "payload" in answer.json()["detail"], answer
        assert broker.topic("email")["accepted"] == 0
        answer = gateway.post("/api/v1/events?atomic=true",
                              [{"topic": "email", "payload": 1}, {"topic": "db", "payload": 2}])
        assert answer.status == 202 and answer.json()["accepted"] == 2, answer
        assert broker.topic("email")["accepted"] == 1 and broker.topic("db")["accepted"] == 1


def test_a_repeat_is_no_second_event(binaries):
    with pair(binaries) as (broker, gateway):
        for key in ("order-1", "x" * 65, "y" * 64):
            ids = {gateway.post("/api/v1/events", {"topic": "email", "payload": 1},
                                Idempotency_Key=key).json()["id"] for _ in range(3)}
            assert len(ids) == 1 and len(next(iter(ids))) <= 64, ids
        assert broker.topic("email")["accepted"] == 3
        many = [{"topic": "db", "payload": n} for n in range(5)]
        for _ in range(2):
            assert gateway.post("/api/v1/events", many, Idempotency_Key="batch").status == 202
        assert broker.topic("db")["accepted"] == 5
        answer = gateway.post("/api/v1/events", {"topic": "email", "payload": 1, "id": "a"},
                              Idempotency_Key="b")
        assert answer.status == 400 and answer.json()["detail"].startswith("id"), answer


def test_codes_of_the_broker_are_statuses(binaries):
    topics = ("email\n    capacity = 2\n    on_full = refuse\ndb\n    schemas = \"1\"\n"
              "api")
    with pair(binaries, topics=topics, server="max_event = 64KiB") as (broker, gateway):
        for n in range(2):
            assert gateway.post("/api/v1/events", {"topic": "email", "payload": n}).status == 202
        answer = gateway.post("/api/v1/events", {"topic": "email", "payload": 2})
        assert answer.status == 503 and answer.json()["code"] == "FULL", answer
        assert answer.headers["Retry-After"] and answer.headers["Content-Type"] == \
            "application/problem+json", answer
        answer = gateway.post("/api/v1/events", {"topic": "db", "payload": 1, "schema": 7})
        assert answer.status == 422 and answer.json()["code"] == "SCHEMA", answer
        answer = gateway.post("/api/v1/events", {"topic": "emial", "payload": 1})
        assert answer.status == 404 and "email" in answer.json()["detail"], answer
        answer = gateway.post("/api/v1/events", {"topic": "api", "payload": "x" * 70000})
        assert answer.status == 413 and answer.json()["code"] == "TOO_LARGE", answer
        answer = gateway.post("/api/v1/events", "x" * (9 << 20))
        assert answer.status == 413, answer
        answer = gateway.post("/api/v1/events", "<a/>", media="application/xml")
        assert answer.status == 415, answer
        answer = gateway.ask("PUT", "/api/v1/events", "{}")
        assert answer.status == 405 and "POST" in answer.headers["Allow"], answer
        answer = gateway.get("/nothing")
        problem = answer.json()
        assert answer.status == 404 and problem["instance"] == "/nothing" and \
            problem["code"] == "NOT_FOUND" and problem["status"] == 404, answer


def test_cloudevents_in_three_modes(binaries):
    with pair(binaries) as (broker, gateway):
        worker = support.Worker(broker, ["email", "db", "api"])
        binary = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/shop", "ce-type": "order",
                  "ce-partitionkey": "p", "ce-subject": "caf%C3%A9", "ce-traceparent": "00-a-b-01"}
        for _ in range(2):  # the same source and id are the same event
            answer = gateway.ask("POST", "/api/v1/events?topic=db", '{"a": 1}',
                                 {"Content-Type": "application/json", **binary})
            assert answer.status == 202, answer
        [[_, _, event]] = worker.take(1)
        worker.none()
        assert event[:3] == ["db", "/shop#1", {"a": 1}], event
        assert event[3]["type"] == "order" and event[3]["key"] == "p", event
        assert event[3]["trace"] == "00-a-b-01" and event[3]["headers"]["ce-subject"] == "café"
        one = {"specversion": "1.0", "id": "2", "source": "/shop", "type": "order",
               "topic": "email", "time": "2025-01-31T12:00:00Z", "data": {"b": 2}}
        answer = gateway.post("/api/v1/events", one, media="application/cloudevents+json")
        assert answer.status == 202, answer
        [[_, _, event]] = worker.take(1)
        assert event[2] == {"b": 2} and event[3]["time"] == 1738324800000, event
        many = [dict(one, id="3"), dict(one, id="4", data="x")]
        answer = gateway.post("/api/v1/events", many,
                              media="application/cloudevents-batch+json; charset=utf-8")
        assert answer.status == 202 and answer.json()["accepted"] == 2, answer
        worker.take(2)
        del binary["ce-source"]
        answer = gateway.ask("POST", "/api/v1/events", "1", binary)
        assert answer.status == 400 and answer.json()["detail"].startswith("source"), answer
        answer = gateway.post("/api/v1/events", "x", media="application/cloudevents+xml")
        assert answer.status == 415, answer
        answer = gateway.ask("OPTIONS", "/api/v1/events", headers={
            "WebHook-Request-Origin": "eventemitter.example.com", "WebHook-Request-Rate": "120"})
        assert answer.status == 200 and answer.headers["WebHook-Allowed-Rate"] == "*", answer
        assert answer.headers["WebHook-Allowed-Origin"] == "eventemitter.example.com"


def test_payloads_are_checked_by_schema(binaries):
    with support.Broker(binaries, THREE) as broker:
        broker.start()
        directory = os.path.join(broker.directory, "schemas")
        os.mkdir(directory)
        schema = {"type": "object", "required": ["to"], "additionalProperties": False,
                  "properties": {"to": {"type": "string", "minLength": 3},
                                 "tags": {"items": {"enum": ["a", "b"]}, "maxItems": 2}}}
        with open(os.path.join(directory, "mail.json"), "w") as file:
            json.dump(schema, file)
        with open(os.path.join(directory, "mail@2.json"), "w") as file:
            json.dump({"type": "array"}, file)
        with Gateway(broker, "--schemas", directory) as gateway:
            def post(payload, **more):
                return gateway.post("/api/v1/events", {"topic": "email", "type": "mail",
                                                       "payload": payload, **more})
            assert post({"to": "abc", "tags": ["a"]}).status == 202
            for payload, pointer in (({"tags": []}, "#/payload/to"), ({"to": "ab"}, "#/payload/to"),
                                     ({"to": "abc", "tags": ["a", "c"]}, "#/payload/tags/1"),
                                     ({"to": "abc", "x/y": 1}, "#/payload/x~1y"), (5, "#/payload")):
                answer = post(payload)
                assert answer.status == 422 and answer.json()["code"] == "SCHEMA", answer
                assert answer.json()["errors"][0]["pointer"] == pointer, answer
            assert post([], schema=2).status == 202 and post({}, schema=2).status == 422
            answer = gateway.post("/api/v1/events", [{"topic": "db", "payload": 1}, {
                "topic": "email", "type": "mail", "payload": 5}])
            assert answer.status == 207 and answer.json()["items"][1]["pointer"] == "#/payload"
            with open(os.path.join(directory, "mail.json"), "w") as file:
                json.dump({"type": "integer"}, file)
            gateway.process.send_signal(signal.SIGHUP)
            support.wait_for("the schema is read again", lambda: post(5).status == 202)
            for _ in range(100):  # they are replaced while they are used
                gateway.process.send_signal(signal.SIGHUP)
                assert gateway.get("/health").json()["schemas"] == 2 and post("x").status == 422
            with open(os.path.join(directory, "mail.json"), "w") as file:
                file.write('{"pattern": "x"}')
            gateway.process.send_signal(signal.SIGHUP)
            support.wait_for("it is refused", lambda: "schemas.refused" in gateway.logged())
            assert post(5).status == 202
        done = subprocess.run([os.path.join(broker.binaries, "eventflow-gateway"), "--schemas",
                               directory], capture_output=True, text=True, timeout=20)
        assert done.returncode == 2 and "pattern" in done.stderr, done


def test_without_a_confirm_504_names_the_id(binaries):
    with pair(binaries, "--confirm-timeout", "2s") as (broker, gateway):
        assert gateway.post("/api/v1/events", {"topic": "email", "payload": 0}).status == 202
        broker.kill()
        answer = gateway.post("/api/v1/events", {"topic": "email", "payload": 1})
        assert answer.status == 504 and answer.json()["code"] == "TIMEOUT", answer
        assert answer.headers["Retry-After"]
        first = answer.json()["id"]
        answer = gateway.post("/api/v1/events", [{"topic": "email", "payload": 2}] * 2)
        assert answer.status == 504 and len(answer.json()["ids"]) == 2, answer
        support.wait_for("it isn't ready", lambda: gateway.get("/health/ready").status == 503)
        assert gateway.get("/health").json()["broker"]["state"] == "unreachable"
        broker.start()
        again = {"topic": "email", "payload": 1, "id": first}
        support.wait_for("it is accepted", lambda: gateway.post("/api/v1/events",
                                                                again).status == 202)
        support.wait_for("all of it is there", lambda: broker.topic("email")["accepted"] == 4)
        assert gateway.get(f"/api/v1/events/{first}").json()["items"][0]["payload"] == 1
        support.wait_for("it is ready", lambda: gateway.get("/health/ready").status == 200)


def test_told_to_end_it_answers_what_is_under_way(binaries):
    with pair(binaries, "--confirm-timeout", "5m") as (broker, gateway):
        os.kill(broker.process.pid, signal.SIGSTOP)
        answers = []
        thread = threading.Thread(target=lambda: answers.append(
            gateway.ask("POST", "/api/v1/events", {"topic": "email", "payload": 1},
                        connection=gateway.connect(timeout=120))))
        thread.start()
        support.wait_for("the call waits", lambda: b"gateway_unconfirmed_events 1" in
                         gateway.get("/metrics").body)
        gateway.process.send_signal(signal.SIGTERM)
        support.wait_for("it drains", lambda: gateway.post("/api/v1/events", "{}").status == 503)
        os.kill(broker.process.pid, signal.SIGCONT)
        thread.join(timeout=60)
        assert answers and answers[0].status == 202, answers
        assert gateway.process.wait(timeout=60) == 0, gateway.logged()


def test_bodies_that_end_while_it_ends_are_refused(binaries):
    """Those that were let in before, whose last byte comes when there is nobody left to publish them."""
    head = b"POST /api/v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 29\r\n\r\n"
    with pair(binaries) as (broker, gateway):
        open_ones = []
        for _ in range(40):
            sock = socket.create_connection(("127.0.0.1", gateway.ports["main"]), timeout=30)
            sock.sendall(head + b'{"topic":"email","payload":1')
            open_ones.append(sock)
        support.wait_for("all are let in", lambda: b"_gateway_connections 4" in gateway.get("/metrics").body)
        os.kill(broker.process.pid, signal.SIGSTOP)
        helped = threading.Thread(target=lambda: gateway.get("/api/v1/topics"))  # keeps the end waiting
        helped.start()
        support.wait_for("it drains", lambda: gateway.process.send_signal(signal.SIGTERM) or
                         gateway.get("/ping").status == 503)
        gateway.process.send_signal(signal.SIGTERM)  # now, whoever still waits
        for sock in open_ones:  # one after the other, for as long as it ends
            select.select([sock], [], [], 0.05)  # unless it is answered already
            try:
                sock.sendall(b"}")
            except OSError:
                pass
        answers = []
        for sock in open_ones:
            try:
                answers.append(sock.recv(65536)[:12])
            except ConnectionResetError:
                answers.append(b"")
            sock.close()
        helped.join(timeout=30)
        assert set(answers) <= {b"HTTP/1.1 503", b"HTTP/1.1 504", b""}, answers
        assert gateway.process.wait(timeout=30) == 0, gateway.logged()
        os.kill(broker.process.pid, signal.SIGCONT)


def test_github_webhooks_arrive_as_they_were_sent(binaries):
    if not os.path.exists(WEBHOOKS):
        raise Skip(f"no {WEBHOOKS}")
    events = support.payloads(WEBHOOKS)
    assert len(events) == 181, len(events)
    with pair(binaries, topics="hooks") as (broker, gateway):
        worker = support.Worker(broker, ["hooks"], credit=400)
        sent = {}
        for number, event in enumerate(events):  # each form a third
            kind = number % 3
            if kind == 0:
                answer = gateway.post("/api/v1/events?topic=hooks", event)
                found = answer.json().get("id")
            elif kind == 1:
                answer = gateway.ask("POST", "/api/v1/events?topic=hooks",
                                     json.dumps(event["payload"]),
                                     {"Content-Type": "application/json", "ce-specversion": "1.0",
                                      "ce-id": str(number), "ce-source": "https://github.com",
                                      "ce-type": event["type"]})
                found = answer.json().get("id")
            else:
                answer = gateway.post("/api/v1/events", json.dumps(dict(event, queue="hooks")),
                                      media="application/x-ndjson")
                found = answer.json()["items"][0]["id"]
            assert answer.status == 202, (number, answer)
            sent[found] = event
        for _, _, got in worker.take(181, seconds=60):
            wanted = sent.pop(got[1])
            assert got[2] == wanted["payload"] and got[3]["type"] == wanted["type"], got[1]
            assert json.dumps(got[2], sort_keys=True) == json.dumps(wanted["payload"],
                                                                    sort_keys=True), got[1]
        assert not sent


def test_many_keep_alive_clients_publish_at_once(binaries):
    with pair(binaries) as (broker, gateway):
        failures = []

        def client():
            try:
                connection = gateway.connect()
                for n in range(40):
                    answer = gateway.ask("POST", "/api/v1/events", {"topic": "email", "payload": n},
                                         connection=connection)
                    assert answer.status == 202, answer
                connection.close()
            except Exception as error:
                failures.append(error)
        threads = [threading.Thread(target=client) for _ in range(25)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=180)
        assert not failures, failures[:3]
        assert broker.topic("email")["accepted"] == 1000
        numbers = gateway.get("/metrics").body.decode()
        assert 'events_total{outcome="accepted"} 1000' in numbers, numbers
        assert re.search(r"confirm_seconds_count 1000\b", numbers), numbers


def test_clients_that_leave_while_they_wait_harm_nothing(binaries):
    """More of them than a loop keeps (web/loop.c), so that some are suspended, too."""
    body = b'{"topic":"email","payload":1}'
    said = (b"POST /api/v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
    for patience, status in (("60s", b"202"), ("3s", b"504")):
        with pair(binaries, "--threads", "1", "--confirm-timeout", patience) as (broker,
                                                                               gateway):
            def unconfirmed():
                return gateway.get("/health").json()["unconfirmed_events"]
            place = ("127.0.0.1", gateway.ports["main"])
            os.kill(broker.process.pid, signal.SIGSTOP)
            try:
                socks = [socket.create_connection(place, timeout=60) for _ in range(300)]
                for sock in socks:
                    sock.sendall(said)
                support.wait_for("all have come", lambda: unconfirmed() == 300)
                for sock in socks[0::3]: # a reset, which is noticed at once
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    sock.close()
                for sock in socks[1::3]: # an end, which is noticed when there is an answer
                    sock.close()
                late = [sock.recv(4096) for sock in socks[2::3]] if status == b"504" else []
            finally:
                os.kill(broker.process.pid, signal.SIGCONT)
            for got in late or [sock.recv(4096) for sock in socks[2::3]]:
                assert got.startswith(b"HTTP/1.1 " + status), got
                assert status == b"202" or b'"instance":"/api/v1/events"' in got, got
            support.wait_for("all are decided", lambda: unconfirmed() == 0)
            assert broker.topic("email")["accepted"] == 300
            assert gateway.post("/api/v1/events", {"topic": "email", "payload": 2}).status == 202
            for sock in socks[2::3]:
                sock.close()


def test_metrics_are_what_prometheus_reads(binaries):
    with pair(binaries, faces=("python",)) as (broker, gateway):
        assert gateway.post("/api/v1/events", [{"topic": "email", "payload": 1}] * 3).status == 202
        text = gateway.get("/metrics", "python").body.decode()
        assert 'eventflow_events_published_total{topic="email"} 3' in text, text
        assert re.search(r"^eventflow_up 1$", text, re.M) and "process_resident_memory" in text
        if shutil.which("promtool"):
            done = subprocess.run(["promtool", "check", "metrics"], input=text, text=True,
                                  capture_output=True, timeout=60)
            assert done.returncode == 0 and not done.stderr and not done.stdout, done
        broker.kill()
        support.wait_for("it is down", lambda: re.search(
            r"^eventflow_up 0$", gateway.get("/metrics").body.decode(), re.M))


def test_the_description_names_what_there_is(binaries):
    with pair(binaries) as (_, gateway):
        description = gateway.get("/openapi.json").json()
        assert description["openapi"].startswith("3.1")
        operations = {(method.upper(), path) for path, methods in description["paths"].items()
                      for method in methods}
        for wanted in (("POST", "/api/v1/events"), ("GET", "/api/v1/events/{id}"),
                       ("POST", "/api/v1/failed-events/replay"), ("GET", "/metrics"),
                       ("POST", "/api/v1/topics/{name}/pause"), ("DELETE", "/api/v1/tasks/{id}")):
            assert wanted in operations, (wanted, operations)
        names = [p["name"] for p in description["paths"]["/api/v1/failed-events"]["get"][
            "parameters"]]
        assert names == ["topic", "reason", "error", "type", "since", "until", "q", "limit",
                         "cursor", "full"], names
        docs = gateway.get("/docs")
        text = docs.body.decode()
        assert docs.status == 200 and "/api/v1/failed-events" in text
        assert "http://" not in text.replace("http://localhost:8080", "") and "https://" not in text
        assert "default-src 'none'" in docs.headers["Content-Security-Policy"]
        assert gateway.get("/docs/style.css").headers["Content-Type"].startswith("text/css")
        assert gateway.get("/").status == 302


def test_settings_come_from_file_environment_and_flags(binaries):
    with support.Broker(binaries, THREE) as broker:
        broker.start()
        path = os.path.join(broker.directory, "gateway.cfg")
        with open(broker.config) as file:
            text = file.read()
        with open(path, "w") as file:
            file.write(text + "gateway\n    confirm_timeout = 250ms\n    read_only = 1\n")
        program = os.path.join(broker.binaries, "eventflow-gateway")

        def run(*words, **environment):
            return subprocess.run([program, *words], capture_output=True, text=True, timeout=20,
                                  env=dict(broker.environment, **environment))
        assert run("--config", path, "--check").returncode == 0
        assert broker.cli("config", "check", path) is not None
        with open(path, "a") as file:
            file.write("    confirm_tiemout = 1s\n")
        done = run("--check", EVENTFLOW_CONFIG=path)
        assert done.returncode == 2 and "confirm_timeout" in done.stderr, done
        done = run("--check", EVENTFLOW_GATEWAY_THREADS="many")
        assert done.returncode == 2 and "EVENTFLOW_GATEWAY_THREADS" in done.stderr, done
        done = run("--listen", "0.0.0.0:0")
        assert done.returncode == 2 and "tokens" in done.stderr, done
        done = run("--help")
        assert done.returncode == 0 and "--confirm-timeout" in done.stdout, done
        assert all(len(line) <= 130 for line in done.stdout.splitlines()), done.stdout
