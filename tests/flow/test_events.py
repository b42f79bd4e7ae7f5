"""Events found again by id, by number and in lists, whatever became of them. SPDX-License-Identifier: MIT"""
import glob
import os
import time

import msgpack
from support import Broker, Publisher, Worker, wait_for

SMALL = "segment = 64KiB\nmax_message = 16KiB\nmax_event = 16KiB\ncache = 1MiB"
TOPICS = """defaults
    dedupe = 0
alpha
    lease = 1h
    retry_base = 1h
    attempts = 2
beta
    lease = 1h"""


def show(broker, event_id, **options):
    answer = broker.admin(["EVENT.SHOW", event_id, options])
    assert answer[0] == "OK", answer
    return answer[1]["items"]


def one(broker, event_id, **options):
    items = show(broker, event_id, **options)
    assert len(items) == 1, items
    return items[0]


def is_missing(broker, event_id, **options):
    answer = broker.admin(["EVENT.SHOW", event_id, options])
    return answer[:2] == ["ERROR", "NOT_FOUND"]


def journal(broker, suffix):
    return sorted(glob.glob(os.path.join(broker.data, "journal", "*" + suffix)))


def listed(broker, **options):
    """All pages of a list."""
    items, options["after"] = [], None
    while True:
        page = broker.admin(["EVENTS", options])
        assert page[0] == "OK", page
        assert len(page[1]["items"]) <= options.get("limit", 100)
        items += page[1]["items"]
        options["after"] = page[1]["next"]
        if options["after"] is None:
            return items


def churn(broker, topic, megabytes):
    """Fills and empties segments, so that those before are sealed, cleaned and dropped."""
    publisher = Publisher(broker)
    worker = Worker(broker, [topic], credit=100)
    for i in range(int(megabytes * 10)):
        publisher.publish([[topic, f"churn-{publisher.session.hex()[:6]}-{i}-{k}", os.urandom(1024)] for k in range(10)])
        publisher.publish([[topic, None, os.urandom(1024)] for k in range(4)])
        while publisher.confirm()[1] < publisher.seq:
            pass
        for _ in range(14):
            worker.send(["ACK", [worker.take(1)[0][0]], {"seq": i + 1}])
        for _ in range(14):
            worker.receive("ACKED")
    worker.send(["BYE"])
    publisher.close()
    wait_for("the worker is gone", lambda: not broker.topic(topic)["leased"])


def prepare(broker):
    """One event in each state. Returns what is expected of each."""
    publisher = Publisher(broker)
    names = ["ready", "done", "retrying", "dead", "leased"]
    publisher.publish([["alpha", name, {"name": name}, {"type": "kind." + name}] for name in names])
    publisher.confirm()
    publisher.publish([["alpha", None, "assigned"]] * 3, ids=True)
    ids = [item[2] for item in publisher.confirm()[2]["ids"]]
    publisher.publish([["alpha", "later", 0, {"delay": 3600000}]])
    publisher.confirm()
    publisher.close()
    worker = Worker(broker, ["alpha"], credit=5)
    tags = {event[1]: tag for tag, _, event in worker.take(5)}
    worker.send(["ACK", [tags["done"]], {"seq": 1}])
    worker.send(["NACK", [tags["retrying"]], 500, "try again", {"seq": 2}])
    worker.send(["NACK", [tags["dead"]], 550, "for good", {"dead": True, "seq": 3}])
    worker.send(["NACK", [tags["ready"]], 0, "", {"release": True, "retry": 3600000, "seq": 4}])
    for _ in range(4):
        worker.receive("ACKED")
    worker.send(["CREDIT", 1])
    return worker, tags, ids


def judge(broker, ids, leased=None):
    """Every event is found with its state and its story."""
    item = one(broker, "ready")
    assert item["state"] == "ready" and item["event"][2] == {"name": "ready"}, item
    assert item["history"] == [] and item["topic"] == "alpha" and item["id"] == "ready", item
    item = one(broker, "done")
    assert item["state"] == "done" and item["ended"] >= item["accepted"], item
    item = one(broker, "retrying")
    assert item["state"] == "retrying" and item["attempts"] == 1 and item["due"] > item["accepted"], item
    assert [h[:2] for h in item["history"]] == [[500, "try again"]], item
    item = one(broker, "dead")
    assert item["state"] == "dead" and item["reason"] == "permanent", item
    assert [h[:2] for h in item["history"]] == [[550, "for good"]], item
    item = one(broker, "later")
    assert item["state"] == "scheduled" and item["due"] > item["accepted"], item
    item = one(broker, "leased")
    assert item["state"] == ("leased" if leased else "ready"), item
    if leased:
        assert item["tag"] == leased and item["worker"] and item["deadline"] > item["accepted"], item
    for k, event_id in enumerate(ids):
        item = one(broker, event_id)
        assert item["id"] == event_id and item["event"] == ["alpha", event_id, "assigned"], item
        assert one(broker, event_id.encode())["n"] == item["n"] == one(broker, ids[0])["n"] + k
    assert is_missing(broker, "nothing") and is_missing(broker, ids[0][:-4] + "ffff")
    assert is_missing(broker, "done", topic="beta")
    number = one(broker, "done")["n"]
    assert one(broker, {"topic": "alpha", "n": number})["id"] == "done"
    assert is_missing(broker, {"topic": "alpha", "n": 1 << 40})


def test_events_are_found_in_every_state(binaries):
    """Ready, leased, retrying, scheduled, done and dead; by str, bin and number; after restarts; and while the
    segments they lay in are sealed, cleaned and dropped."""
    with Broker(binaries, TOPICS, server=SMALL + "\nretention = 1h\nretention_bytes = 64MiB").start() as broker:
        worker, tags, ids = prepare(broker)
        judge(broker, ids, tags["leased"])
        churn(broker, "beta", 1)
        judge(broker, ids, tags["leased"])
        wait_for("sidecars are made", lambda: journal(broker, ".idx"))
        wait_for("segments are dropped and kept", lambda: journal(broker, ".old"))
        assert one(broker, "ready")["segment"] > one(broker, "done")["segment"]  # it was copied, that ended
        worker.send(["BYE"])
        worker.close()
        broker.kill()
        for path in journal(broker, ".idx")[::2]:  # a help, no more
            os.unlink(path)
        for path in journal(broker, ".idx")[::2]:
            with open(path, "r+b") as file:
                file.seek(os.path.getsize(path) // 2)
                file.write(b"damage")
        broker.start()
        judge(broker, ids)
        churn(broker, "beta", 0.5)
        judge(broker, ids)
        broker.stop()
        assert "intact" in broker.cli("journal", "verify", broker.data)
        broker.start()
        judge(broker, ids)
        broker.check_law()


def test_routes_replays_and_purges(binaries):
    """An id in two topics is two items; a replayed letter goes on under its new number; what is purged is told."""
    with Broker(binaries, TOPICS, server=SMALL).start() as broker:
        publisher = Publisher(broker)
        publisher.publish([["alpha", "both", 1], ["beta", "both", 2], ["alpha", "gone", 3]])
        publisher.confirm()
        items = show(broker, "both")
        assert sorted((i["topic"], i["event"][2]) for i in items) == [("alpha", 1), ("beta", 2)], items
        assert one(broker, "both", topic="beta")["event"][2] == 2
        worker = Worker(broker, ["alpha"], credit=1)
        worker.send(["NACK", [worker.take(1)[0][0]], "X", "no", {"dead": True, "seq": 1}])
        worker.receive("ACKED")
        worker.send(["CREDIT", 0])
        worker.send(["BYE"])
        item = one(broker, "both", topic="alpha")
        assert item["state"] == "dead" and item["history"][0][0] == "X", item
        wait_for("the letter is there", lambda: broker.admin(["DLQ.LIST", "alpha"])[1]["total"])
        broker.admin(["PAUSE", "alpha"])
        broker.admin(["DLQ.REPLAY", "alpha", {"all": True}])
        wait_for("it is back", lambda: one(broker, "both", topic="alpha")["state"] == "ready")
        again = one(broker, "both", topic="alpha")
        assert again["n"] > item["n"] and again["history"][0][0] == "X", again
        assert one(broker, {"topic": "alpha", "n": item["n"]})["n"] == again["n"]
        assert broker.admin(["PURGE", "alpha"])[1]["purged"] == 2
        assert one(broker, "gone")["state"] == "purged"
        assert one(broker, "both", topic="alpha")["state"] == "purged"
        assert one(broker, "both", topic="beta")["state"] == "ready"
        publisher.close()
        worker.close()


def test_dead_letters_are_found_when_the_journal_has_forgotten(binaries):
    """Without retention only the letter is left: found by id and number; purged letters aren't dead any more."""
    with Broker(binaries, TOPICS, server=SMALL + "\nretention_bytes = 0").start() as broker:
        publisher = Publisher(broker)
        publisher.publish([["alpha", "old", "letter"], ["alpha", None, "assigned"], ["alpha", "purged", 0]])
        publisher.confirm()
        worker = Worker(broker, ["alpha"])
        tags = [e[0] for e in worker.take(3)]
        worker.send(["NACK", tags, "E1", "no", {"dead": True, "seq": 1}])
        worker.receive("ACKED")
        wait_for("the letters are there", lambda: broker.admin(["DLQ.LIST", "alpha"])[1]["total"] == 3)
        letters = broker.admin(["DLQ.LIST", "alpha"])[1]["items"]
        before = one(broker, "old")
        assert before["segment"]
        broker.admin(["DLQ.PURGE", "alpha", {"n": [one(broker, "purged")["n"]]}])
        wait_for("it isn't dead any more", lambda: one(broker, "purged")["state"] == "purged")
        churn(broker, "beta", 1)
        item = wait_for("the journal has forgotten it", lambda: (
            lambda item: None if "segment" in item else item)(one(broker, "old")))
        assert item["state"] == "dead" and item["reason"] == "permanent", item
        for key in ("topic", "n", "id", "event", "attempts", "accepted", "ended", "history"):
            assert item[key] == before[key], (key, item, before)
        assert one(broker, {"topic": "alpha", "n": item["n"]})["id"] == "old"
        assert one(broker, letters[1]["id"])["event"][2] == "assigned"
        assert broker.admin(["EVENT.EXPLAIN", "old"])[1]["items"][0]["reason"] == "dead"
        assert broker.admin(["EVENT.RUN", "old"])[:2] == ["ERROR", "NOT_FOUND"]
        wait_for("so is what was purged", lambda: is_missing(broker, "purged"))
        broker.kill()
        broker.start()
        assert one(broker, "old")["history"] == before["history"]
        worker.close()
        publisher.close()


def test_lists_page_through_everything(binaries):
    """Every event once, oldest first in its topic, by topic, state, type and time, while segments come and go."""
    with Broker(binaries, TOPICS, server=SMALL + "\nretention = 1h\nretention_bytes = 64MiB").start() as broker:
        publisher = Publisher(broker)
        for i in range(40):
            publisher.publish([[("alpha", "beta")[k % 2], f"{i}-{k}", os.urandom(500), {"type": f"t.{k % 5}"}]
                               for k in range(20)])
            publisher.confirm()
        worker = Worker(broker, ["alpha"], credit=400)
        taken = worker.take(400)
        worker.send(["ACK", [e[0] for e in taken[:100]], {"seq": 1}])
        worker.send(["ACK", [e[0] for e in taken[300:]], {"seq": 2}])
        for _ in range(2):
            worker.receive("ACKED")
        everything = listed(broker)
        assert sorted(e["id"] for e in everything) == sorted(f"{i}-{k}" for i in range(40) for k in range(20))
        alpha = listed(broker, topic="alpha", limit=7)
        assert [e["n"] for e in alpha] == sorted(e["n"] for e in alpha) and len(alpha) == 400
        assert len(listed(broker, topic="alpha", state="done", limit=1000)) == 200
        assert len(listed(broker, topic="alpha", state="leased", limit=50)) == 200
        assert len(listed(broker, state="ready")) == 400
        assert {e["event"][3]["type"] for e in listed(broker, type="t.3")} == {"t.3"}
        assert len(listed(broker, type="t.*", topic="beta")) == 400
        middle = sorted(e["accepted"] for e in everything)[400]
        early, late = listed(broker, until=middle - 1), listed(broker, since=middle)
        assert len(early) + len(late) == 800 and early and late
        assert broker.admin(["EVENTS", {"topic": "nowhere"}])[1] == "NOT_FOUND"
        worker.send(["BYE"])
        worker.close()
        churn(broker, "beta", 0.1)  # gives back what was leased, takes what was ready
        publisher.close()
        known = {e["id"] for e in listed(broker, limit=1000)}
        assert {f"{i}-{k}" for i in range(40) for k in range(20)} <= known
        ids = [(e["topic"], e["n"]) for e in listed(broker)]
        assert len(ids) == len(set(ids))
        for request in (["EVENTS", {"limit": 0}], ["EVENTS", {"state": "odd"}], ["EVENT.SHOW"],
                        ["EVENT.SHOW", {"n": 1}], ["EVENT.SHOW", 5], ["EVENT.SHOW", "x" * 65]):
            assert broker.admin(request)[:2] == ["ERROR", "BAD_COMMAND"], request


def test_retention_is_bounded_and_gives_way(binaries):
    """What was processed is kept up to its bytes, and not at all without retention."""
    for bound, server in ((256 << 10, "\nretention_bytes = 256KiB"), (0, "\nretention_bytes = 0")):
        with Broker(binaries, TOPICS, server=SMALL + server).start() as broker:
            churn(broker, "beta", 2)
            wait_for("no more than its bytes is kept", lambda: sum(
                os.path.getsize(p) for p in journal(broker, ".old")) <= bound)
            wait_for("and some is", lambda: bool(journal(broker, ".old")) == bool(bound))
            wait_for("sidecars go with their segments", lambda: {os.path.basename(p)[:16] for p in journal(
                broker, ".idx")} <= {os.path.basename(p)[:16] for p in journal(broker, ".seg") + journal(broker, ".old")})
            broker.stop()
            broker.start()
            assert msgpack.packb(broker.admin(["EVENTS", {"limit": 5}]))


def test_finding_takes_no_time(binaries):
    """An event among EVENTFLOW_TEST_EVENTS others (10 M for the figure in tests/CAMPAIGNS.md) is found in under 50 ms."""
    count = int(os.environ.get("EVENTFLOW_TEST_EVENTS", "200000"))
    with Broker(binaries, "alpha", server="segment = 64MiB" if count > 1000000 else "segment = 4MiB").start() as broker:
        publisher = Publisher(broker)
        packed = msgpack.packb(["alpha", "e-000000000", b"p" * 230])
        head, tail = packed.split(b"000000000")
        for first in range(0, count, 10000):
            publisher.seq += 1
            publisher.send(["PUBLISH", publisher.seq],
                           b"".join(b"%b%09d%b" % (head, k, tail) for k in range(first, first + 10000)))
            publisher.confirm(60)
        publisher.close()
        segments = len(journal(broker, ".seg"))
        begin = time.monotonic()
        one(broker, "e-000000000")  # the first question reads what has no sidecar yet
        first_ms = (time.monotonic() - begin) * 1000
        wait_for("sidecars are made", lambda: len(journal(broker, ".idx")) >= segments - 1, 120)
        times = []
        for k in range(200):
            wanted = k * 7919 * 13 % count
            begin = time.monotonic()
            item = one(broker, f"e-{wanted:09d}")
            times.append((time.monotonic() - begin) * 1000)
            assert item["id"] == f"e-{wanted:09d}" and item["state"] == "ready", item
        begin = time.monotonic()
        assert is_missing(broker, "e-nothing")
        missing_ms = (time.monotonic() - begin) * 1000
        times.sort()
        print(f"{count} events in {segments} segments: p50 {times[100]:.1f} ms, p99 {times[197]:.1f} ms, most {times[-1]:.1f} ms, "
              f"none {missing_ms:.1f} ms, the first question {first_ms:.0f} ms; "
              f"sidecars {sum(os.path.getsize(p) for p in journal(broker, '.idx')) >> 20} MiB, "
              f"{broker.admin(['STATUS'])[1]['process']['rss_bytes'] >> 20} MiB resident")
        assert times[100] < 50, times


def test_operators_move_single_events(binaries):
    """Explained, delayed, run, cancelled, released: by id and by number, durable once answered."""
    with Broker(binaries, TOPICS, server=SMALL).start() as broker:
        def ask(command, event_id, **options):
            return broker.admin(["EVENT." + command, event_id, options])

        def reason(event_id):
            return ask("EXPLAIN", event_id)[1]["items"][0]["reason"]

        publisher = Publisher(broker)
        publisher.publish([["alpha", "a", 1], ["alpha", "b", 2], ["alpha", "c", 3, {"delay": 3600000}],
                           ["alpha", "twice", 4], ["beta", "twice", 5]])
        publisher.confirm()
        assert reason("a") == "no_worker" and reason("c") == "scheduled"
        item = one(broker, "c")
        assert ask("RUN", "c") == ["OK", {"topic": "alpha", "n": item["n"]}]
        assert one(broker, "c")["state"] == "ready"
        assert ask("DELAY", {"topic": "alpha", "n": item["n"]}, delay=7200000)[0] == "OK"
        assert one(broker, "c")["due"] > item["due"]
        assert ask("CANCEL", "b")[0] == "OK"
        assert one(broker, "b")["state"] == "purged" and reason("b") == "purged"
        assert ask("CANCEL", "b")[:2] == ["ERROR", "NOT_FOUND"]
        assert ask("CANCEL", "none")[:2] == ["ERROR", "NOT_FOUND"]
        assert ask("DELAY", "a")[:2] == ["ERROR", "BAD_COMMAND"]
        assert ask("CANCEL", "twice")[:2] == ["ERROR", "BAD_COMMAND"]
        assert ask("CANCEL", "twice", topic="beta")[1]["topic"] == "beta"
        assert ask("RELEASE", "a")[:2] == ["ERROR", "BAD_COMMAND"]
        worker = Worker(broker, ["alpha"], credit=1)
        tag = worker.take(1)[0][0]
        assert reason("a") == "leased" and ask("RUN", "a")[:2] == ["ERROR", "BAD_COMMAND"]
        assert ask("RELEASE", "a", to="nobody")[:2] == ["ERROR", "UNKNOWN_PEER"]
        assert ask("RELEASE", "a")[0] == "OK"
        assert worker.receive("CANCEL")[1] == [tag]
        assert one(broker, "a")["state"] == "ready"
        broker.kill()
        broker.start()
        assert one(broker, "c")["due"] > item["due"] and one(broker, "b")["state"] == "purged"
        assert one(broker, "twice", topic="beta")["state"] == "purged"
        broker.check_law()
        worker.close()
        publisher.close()
