"""The broker's questions over HTTP: topics, events, dead letters, tasks. SPDX-License-Identifier: MIT"""
import json
import time
import urllib.parse

import support
from test_gateway import pair

RETRIES = "    retry_base = 100ms\n    retry_cap = 100ms\n    attempts = 2\n"
TOPICS = "email\n" + RETRIES + "db\n" + RETRIES + "api"


def publish(gateway, topic, count, **more):
    events = [{"topic": topic, "payload": {"n": n}, "id": f"{topic}-{n}", **more}
              for n in range(count)]
    answer = gateway.post("/api/v1/events", events)
    assert answer.status == 202, answer


def kill(broker, topic, count, code="550", text="no such user"):
    """Takes so many events and says that they are dead."""
    worker = support.Worker(broker, [topic], credit=count)
    for tag, _, event, *_ in worker.take(count):
        word = code if isinstance(code, str) else code(event)
        worker.send(["NACK", [tag], word, text, {"dead": True}])
    support.wait_for("they are dead", lambda: broker.topic(topic)["leased"] == 0)
    worker.send(["BYE"])
    worker.close()


def letters(gateway, query=""):
    return gateway.get("/api/v1/failed-events" + query).json()["items"]


def quoted(text):
    return urllib.parse.quote(text, safe="")


def test_topics_are_shown_and_managed(binaries):
    with pair(binaries, topics=TOPICS) as (broker, gateway):
        names = [t["topic"] for t in gateway.get("/api/v1/topics").json()["items"]]
        assert {"email", "db", "api"} <= set(names), names
        for act, key in (("pause", "paused"), ("drain", "draining")):
            assert gateway.post(f"/api/v1/topics/email/{act}").status == 200
            assert gateway.get("/api/v1/topics/email").json()["stats"][key] is True
            assert gateway.post("/api/v1/topics/email/resume").status == 200
            assert gateway.get("/api/v1/topics/email").json()["stats"][key] is False
        publish(gateway, "email", 5)
        assert gateway.post("/api/v1/topics/email/purge").json()["purged"] == 5
        answer = gateway.post("/api/v1/topics/none/pause")
        assert answer.status == 404 and answer.json()["code"] in ("NOT_FOUND", "UNKNOWN_TOPIC")
        assert gateway.post("/api/v1/events", {"topic": "email", "payload": 1,
                                               "key": "k"}).status == 202
        support.Worker(broker, ["email"]).take(1)
        assert gateway.get("/api/v1/topics/email/keys?limit=5").status == 200
        assert gateway.get("/api/v1/topics/email/keys?limit=none").status == 400
        [worker] = gateway.get("/api/v1/workers").json()["items"]
        assert worker["in_flight"] == 1 and worker["started"].endswith("Z"), worker
        answer = gateway.post("/api/v1/breakers/email", {"state": "open"})
        assert answer.status == 200 and answer.json()["state"] == "open", answer
        answer = gateway.post("/api/v1/breakers/email/" + quoted("smtp://a:25"), {"state": "open"})
        assert answer.status == 200 and answer.json()["downstream"] == "smtp://a:25", answer
        assert gateway.post("/api/v1/breakers/email", {"state": "auto"}).json()["forced"] is False
        assert gateway.post("/api/v1/breakers/email", {"state": "ajar"}).status == 400
        stats = gateway.get("/stats?topic=email").json()
        assert [t["topic"] for t in stats["topics"]] == ["email"], stats["topics"]
        assert stats["totals"]["accepted"] == 6 and stats["broker"]["epoch"] == 1, stats
        health = gateway.get("/health").json()
        assert health["status"] == "ok" and health["broker"]["state"] == "ready", health
        assert gateway.get("/ping").body == b"OK\n"
        pools = gateway.get("/api/v1/pools")
        assert pools.status in (200, 400), pools  # 400: a broker that doesn't know POOLS


def test_events_are_listed_shown_and_moved(binaries):
    with pair(binaries, topics=TOPICS) as (broker, gateway):
        publish(gateway, "email", 25, type="a/b")
        publish(gateway, "db", 5, delay="1h")
        seen, cursor = [], ""
        while cursor is not None:
            answer = gateway.get("/api/v1/events?topic=email&limit=10" + cursor).json()
            seen += [e["id"] for e in answer["items"]]
            cursor = answer["next"] and "&cursor=" + answer["next"]
        assert sorted(seen) == sorted(f"email-{n}" for n in range(25)), seen
        items = gateway.get("/api/v1/events?type=a/b&since=10m&state=ready&limit=1000").json()
        assert len(items["items"]) == 25
        assert not gateway.get("/api/v1/events?until=2020-01-01T00:00:00Z").json()["items"]
        assert len(gateway.get("/api/v1/events?state=scheduled").json()["items"]) == 5
        for bad in ("limit=0", "limit=x", "cursor=zz", "cursor=c1", "since=soon"):
            assert gateway.get("/api/v1/events?" + bad).status == 400, bad
        [event] = gateway.get("/api/v1/events/db-1").json()["items"]
        assert event["state"] == "scheduled" and event["explain"]["reason"] == "scheduled", event
        assert event["due"] > event["accepted"] and event["error"] == [], event
        path = "/api/v1/events/db-1/"
        assert gateway.post(path + "delay", {"delay": "2h"}).status == 200
        [later] = gateway.get("/api/v1/events/" + quoted("db#2")).json()["items"]
        assert later["id"] == "db-1" and later["due"] > event["due"], later
        assert gateway.post(path + "delay", {"at": "2099-01-01T00:00:00Z"}).status == 200
        assert gateway.get("/api/v1/events/db-1").json()["items"][0]["due"][:4] == "2099"
        assert gateway.post(path + "delay", {"delay": "later"}).status == 400
        assert gateway.post(path + "run-now").status == 200
        assert gateway.post("/api/v1/events/db-2/cancel?topic=db").status == 200
        assert gateway.get("/api/v1/events/db-2").json()["items"][0]["state"] == "purged"
        worker = support.Worker(broker, ["db"], name="w1")
        [[_, _, got, *_]] = worker.take(1)
        assert got[1] == "db-1"
        answer = gateway.post(path + "release", {"to": "nobody"})
        assert answer.status == 409 and answer.json()["code"] == "UNKNOWN_PEER", answer
        assert gateway.post(path + "release").status == 200
        assert gateway.get("/api/v1/events/none").status == 404


def test_an_event_tells_its_attempts(binaries):
    with pair(binaries, topics=TOPICS) as (broker, gateway):
        publish(gateway, "email", 1)
        worker = support.Worker(broker, ["email"], name="w1")
        for attempt in (1, 2):
            [[tag, number, *_]] = worker.take(1)
            assert number == attempt
            worker.send(["NACK", [tag], 421, "try later", {"trace": "line 1"}])
        item = support.wait_for("it is dead", lambda: dead(gateway, "/api/v1/events/email-0"))
        assert [e["status_code"] for e in item["error"]] == [421, 421], item
        assert item["error"][0]["message"] == "try later", item
        assert item["error"][0]["stack_trace"] == "line 1" and item["error"][0]["worker"] == "w1"
        assert item["history"][0]["rule"] == "exponential" and item["history"][0]["start"], item
        support.wait_for("the letter", lambda: letters(gateway))
        [letter] = letters(gateway, "?full=1")
        assert [e["status_code"] for e in letter["error"]] == [421, 421], letter
        assert letter["event"]["error"][1]["message"] == "try later", letter


def dead(gateway, path):
    [item] = gateway.get(path).json()["items"]
    return item if item["state"] == "dead" else None


def test_dead_letters_are_filtered(binaries):
    with pair(binaries, topics=TOPICS) as (broker, gateway):
        publish(gateway, "email", 6, type="mail")
        publish(gateway, "db", 3, type="row")
        kill(broker, "email", 6, code=lambda e: "550" if e[2]["n"] % 2 else "552")
        kill(broker, "db", 3, code="CONSTRAINT", text="duplicate key value")
        support.wait_for("all letters", lambda: len(letters(gateway)) == 9)
        assert len(letters(gateway, "?topic=email")) == 6
        assert len(letters(gateway, "?error=550")) == 3 and len(letters(gateway, "?error=55*")) == 6
        assert len(letters(gateway, "?error=duplicate")) == 3
        assert len(letters(gateway, "?type=r*")) == 3 and not letters(gateway, "?type=none")
        assert len(letters(gateway, "?reason=permanent")) == 9
        assert len(letters(gateway, "?since=10m")) == 9
        assert not letters(gateway, "?until=2020-01-01T00:00:00Z")
        [one] = letters(gateway, "?q=" + quoted('"n":4'))
        assert one["id"] == "email-4" and one["error"][0]["status_code"] == "552", one
        assert gateway.get("/api/v1/failed-events?topic=none").status == 404
        assert gateway.get("/api/v1/failed-events?reason=whatever").status == 400
        seen, cursor = [], ""
        while cursor is not None:
            answer = gateway.get("/api/v1/failed-events?limit=2" + cursor).json()
            seen += [i["id"] for i in answer["items"]]
            cursor = answer["next"] and "&cursor=" + quoted(answer["next"])
        assert len(seen) == 9 and len(set(seen)) == 9, seen
        n = one["n"]
        whole = gateway.get(f"/api/v1/failed-events/email/{n}").json()
        assert whole["event"]["payload"] == {"n": 4} and whole["reason"] == "permanent", whole
        assert {k: whole[k] for k in one if k != "error"} == {k: one[k] for k in one if k != "error"}
        assert gateway.get("/api/v1/failed-events/email/999").status == 404
        assert gateway.get("/api/v1/failed-events/email/x").status == 400


def test_answers_with_large_letters_are_bounded(binaries):
    with pair(binaries, topics=TOPICS) as (broker, gateway):
        for n in range(12):
            answer = gateway.post("/api/v1/events", {"topic": "email", "id": str(n), "payload": "x" * 1000000})
            assert answer.status == 202, answer
            kill(broker, "email", 1)
        support.wait_for("all letters", lambda: len(letters(gateway)) == 12)
        seen, cursor = [], ""
        while cursor is not None:
            answer = gateway.get("/api/v1/failed-events?full=1&limit=1000" + cursor)
            assert len(answer.body) < 10 << 20, len(answer.body)
            seen += [item["event"]["id"] for item in answer.json()["items"]]
            cursor = answer.json()["next"] and "&cursor=" + quoted(answer.json()["next"])
        assert sorted(seen, key=int) == [str(n) for n in range(12)], seen


def run(gateway, kind, body):
    answer = gateway.post(f"/api/v1/failed-events/{kind}", body)
    assert answer.status == 202, answer
    place = answer.headers["Location"]
    assert place == "/api/v1/tasks/" + answer.json()["id"], answer
    return place


def finished(gateway, place):
    task = gateway.get(place).json()
    return task if task["state"] not in ("choosing", "running") else None


def test_tasks_replay_and_discard(binaries):
    with pair(binaries, topics=TOPICS) as (broker, gateway):
        publish(gateway, "email", 40, type="mail")
        kill(broker, "email", 40, code=lambda e: "550" if e[2]["n"] % 2 else "552")
        support.wait_for("all letters", lambda: len(letters(gateway)) == 40)
        for bad in ({}, {"n": [1]}, {"topic": "email", "n": ["x"]}, {"filter": {"nothing": 1}},
                    {"all": True, "rate": "fast"}, {"topic": 5, "all": True}):
            assert gateway.post("/api/v1/failed-events/replay", bad).status == 400, bad
        body = {"topic": "email", "filter": {"error": "550"}, "dry_run": True}
        assert gateway.post("/api/v1/failed-events/replay", body).json() == {"dry_run": True,
                                                                             "matched": 20}
        del body["dry_run"]
        task = support.wait_for("it is done", lambda: finished(gateway, place),
                                ) if (place := run(gateway, "replay", body)) else None
        assert task["state"] == "done" and task["matched"] == 20 and task["moved"] == 20, task
        assert task["progress_ratio"] == 1 and task["ended"] and task["who"] == "loopback", task
        support.wait_for("they are ready", lambda: broker.topic("email")["ready"] == 20)
        first = letters(gateway)[0]["n"]
        place = run(gateway, "discard", {"topic": "email", "n": [first]})
        task = support.wait_for("it is done", lambda: finished(gateway, place))
        assert task["kind"] == "discard" and task["moved"] == 1, task
        support.wait_for("it has gone", lambda: len(letters(gateway)) == 19)
        # At a rate, and stopped on the way.
        start = time.monotonic()
        place = run(gateway, "replay", {"all": True, "rate": "2/s"})
        support.wait_for("it runs", lambda: gateway.get(place).json()["moved"] >= 3)
        assert time.monotonic() - start > 0.5
        assert gateway.ask("DELETE", place).status == 200
        task = support.wait_for("it ends", lambda: finished(gateway, place))
        assert task["state"] == "cancelled" and 3 <= task["moved"] < 19, task
        ids = [t["id"] for t in gateway.get("/api/v1/tasks").json()["items"]]
        assert len(ids) == 3 and gateway.get("/api/v1/tasks/none").status == 404
        broker.check_law()


def test_one_letter_is_replayed_as_it_is_or_edited(binaries):
    with pair(binaries, topics=TOPICS) as (broker, gateway):
        publish(gateway, "email", 2, type="mail", headers={"a": 1})
        kill(broker, "email", 2)
        support.wait_for("both letters", lambda: len(letters(gateway)) == 2)
        first, second = (i["n"] for i in letters(gateway))
        path = "/api/v1/failed-events/email/"
        assert gateway.post(f"{path}{first}/replay").json() == {"replayed": 1, "is_edited": False}
        worker = support.Worker(broker, ["email"])
        [[tag, _, event, *_]] = worker.take(1)
        worker.send(["ACK", [tag]])
        assert event[2] == {"n": 0}
        edited = {"payload": {"n": 1, "to": "right@example.org"}}
        answers = [gateway.post(f"{path}{second}/replay", edited) for _ in range(2)]
        assert [a.status for a in answers] == [202, 202], answers
        assert answers[0].json() == answers[1].json() and answers[0].json()["is_edited"]
        [[tag, attempt, event, *_]] = worker.take(1)
        worker.none()
        worker.send(["ACK", [tag]])
        assert attempt == 1 and event[1] == answers[0].json()["id"], event
        assert event[2] == edited["payload"] and event[3]["type"] == "mail", event
        assert event[3]["headers"] == {"a": 1, "supersedes": f"email#{second}"}, event
        # Each names the other, for good; a second edit takes the first one's place.
        newer = answers[0].json()["id"]
        for _ in range(2):
            assert [i["superseded"] for i in letters(gateway)] == [newer]
            assert gateway.get(path + str(second)).json()["superseded"] == newer
            assert gateway.get("/api/v1/failed-events?full=1").json()["items"][0]["superseded"] == newer
            broker.kill()
            broker.start()
            support.wait_for("the gateway has the broker", lambda: gateway.get("/health/ready").status == 200)
        last = gateway.post(f"{path}{second}/replay", {"payload": 7})
        assert last.status == 202 and last.json()["id"] != newer, last
        assert [i["superseded"] for i in letters(gateway)] == [last.json()["id"]]
        [[tag, _, event, *_]] = support.Worker(broker, ["email"]).take(1)
        assert event[1:3] == [last.json()["id"], 7]
        # It isn't replayed with others, but discarded.
        everything = {"all": True, "dry_run": True}
        assert gateway.post("/api/v1/failed-events/replay", everything).json()["matched"] == 0
        assert gateway.post("/api/v1/failed-events/discard", everything).json()["matched"] == 1
        task = gateway.post("/api/v1/failed-events/replay", {"all": True})
        ended = support.wait_for("it ends", lambda: finished(gateway, task.headers["Location"]))
        assert (ended["state"], ended["matched"], ended["moved"]) == ("done", 0, 0), ended
        assert len(letters(gateway)) == 1
        assert gateway.post(path + "999/replay").status == 404
        assert gateway.post(path + "999/replay", {"payload": 1}).status == 404
        assert gateway.post(path + "x/replay").status == 400
        assert json.loads(gateway.post(path + "1/replay", "[1]").body)["status"] == 400
        broker.check_law()
