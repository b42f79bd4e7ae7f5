"""Dead letters: list, show, replay, purge. SPDX-License-Identifier: MIT"""
import json

import msgpack
import zmq

from support import Broker, Publisher, Worker, wait_for

ONCE = "defaults\n    attempts = 1"


def kill_all(broker, topic, count):
    publisher = Publisher(broker)
    publisher.publish([[topic, f"id{i}", {"i": i}] for i in range(count)])
    publisher.confirm()
    worker = Worker(broker, [topic], credit=count)
    for tag, _, _ in worker.take(count):
        worker.send(["NACK", [tag], 550, f"failed {tag}"])
    wait_for("all are dead", lambda: broker.topic(topic)["dead"] == count)
    assert broker.admin(["DLQ.LIST", topic])[1]["total"] == count
    worker.send(["CREDIT", 0])
    return worker


def test_pages_filters_and_show(binaries):
    with Broker(binaries, ONCE).start() as broker:
        kill_all(broker, "email", 25)
        page = broker.admin(["DLQ.LIST", "email", {"limit": 10}])[1]
        rest = broker.admin(["DLQ.LIST", "email", {"limit": 20, "after": page["next"]}])[1]
        assert len(page["items"]) == 10 and len(rest["items"]) == 15 and rest["next"] is None
        assert broker.admin(["DLQ.LIST", "email", {"reason": "expired"}])[1]["items"] == []
        letter = broker.admin(["DLQ.SHOW", "email", page["items"][0]["n"]])[1]
        assert letter["event"][1] == page["items"][0]["id"] and letter["errors"][0][0] == 550
        assert broker.admin(["DLQ.SHOW", "email", 4711])[1] == "NOT_FOUND"
        assert broker.admin(["DLQ.LIST", "email", {"reason": "tired"}])[0] == "ERROR"
        assert broker.admin(["DLQ.REPLAY", "email", {}])[0] == "ERROR"


def test_replay_some_and_all(binaries):
    with Broker(binaries, ONCE).start() as broker:
        worker = kill_all(broker, "email", 10)
        items = broker.admin(["DLQ.LIST", "email"])[1]["items"]
        chosen = [i["n"] for i in items[:3]]
        assert broker.admin(["DLQ.REPLAY", "email", {"n": chosen}]) == ["OK", {"replayed": 3}]
        worker.send(["CREDIT", 10])
        got = worker.take(3)
        assert sorted(d[2][1] for d in got) == sorted(i["id"] for i in items[:3])
        assert all(d[1] == 1 and len(d[3]["errors"]) == 1 for d in got), got
        worker.send(["ACK", [d[0] for d in got], {"seq": 1}])
        assert worker.receive("ACKED")[2]["done"] == 3
        broker.admin(["DLQ.REPLAY", "email", {"all": True, "rate": 50}])
        worker.send(["ACK", [d[0] for d in worker.take(7)], {"seq": 2}])
        wait_for("nothing is dead", lambda: broker.topic("email")["dead"] == 0)
        wait_for("all are done", lambda: broker.topic("email")["done"] == 10)
        assert broker.topic("email")["accepted"] == 10
        broker.check_law()


def test_purge_and_restart(binaries):
    with Broker(binaries, ONCE).start() as broker:
        kill_all(broker, "email", 6)
        items = broker.admin(["DLQ.LIST", "email"])[1]["items"]
        broker.admin(["DLQ.PURGE", "email", {"n": [items[0]["n"], items[1]["n"]]}])
        wait_for("two are purged", lambda: broker.topic("email")["purged"] == 2)
        wait_for("they left", lambda: broker.admin(["DLQ.LIST", "email"])[1]["total"] == 4)
        broker.kill()
        broker.start()
        item = broker.topic("email")
        assert (item["dead"], item["purged"], item["accepted"]) == (4, 2, 6)
        assert broker.admin(["DLQ.LIST", "email"])[1]["total"] == 4
        broker.check_law()


def test_a_list_holds_all_that_was_counted(binaries):
    """However many are on their way: what the stats have told is among the letters of the next answer."""
    events = 2000  # eight times what is under way at once
    with Broker(binaries, ONCE).start() as broker, broker.socket(zmq.DEALER, "admin") as admin:
        publisher = Publisher(broker)
        publisher.publish([["email", f"id{i}", "x" * 1000] for i in range(events)])
        publisher.confirm()
        worker = Worker(broker, ["email"], credit=events)
        worker.send(["NACK", [d[0] for d in worker.take(events)], 550, "no"])
        told = listed = 0
        while listed < events:  # both at once: the second is asked before the first can be looked at
            for request in (["TOPICS"], ["DLQ.LIST", "email", {"limit": 1}]):
                admin.send_multipart([b"", msgpack.packb(request)])
            for _ in range(2):
                assert admin.poll(20000), (told, listed)
                value = msgpack.unpackb(admin.recv_multipart()[1])[1]
                if "total" in value:
                    listed = value["total"]
                else:
                    told = next(item["dead"] for item in value["items"] if item["topic"] == "email")
            assert listed >= told, (told, listed)
        broker.check_law()


def test_superseded_is_told_and_lasts(binaries):
    """By which event: in LIST, SHOW and EVENT.SHOW, the last word, over kills; what can't be is refused."""
    with Broker(binaries, ONCE).start() as broker:
        worker = kill_all(broker, "email", 4)
        items = broker.admin(["DLQ.LIST", "email"])[1]["items"]
        assert not any("superseded" in item for item in items)
        first, second = items[0]["n"], items[1]["n"]
        assert broker.admin(["DLQ.SUPERSEDE", "email", first, "new-0"]) == [
            "OK", {"n": first, "superseded": "new-0"}]
        assert broker.admin(["DLQ.SUPERSEDE", "email", first, "new-1"])[0] == "OK"
        assert broker.admin(["DLQ.SUPERSEDE", "email", second, b"\x01\x02"])[0] == "OK"
        for request, code in ((["DLQ.SUPERSEDE", "email", 4711, "x"], "NOT_FOUND"),
                              (["DLQ.SUPERSEDE", "nothing", first, "x"], "NOT_FOUND"),
                              (["DLQ.SUPERSEDE", "email", first, ""], "BAD_COMMAND"),
                              (["DLQ.SUPERSEDE", "email", first, "x" * 65], "BAD_COMMAND"),
                              (["DLQ.SUPERSEDE", "email", first], "BAD_COMMAND")):
            assert broker.admin(request)[:2] == ["ERROR", code], request
        for _ in range(2):
            listed = {i["n"]: i.get("superseded") for i in broker.admin(["DLQ.LIST", "email"])[1]["items"]}
            assert listed == {first: "new-1", second: "\x01\x02", items[2]["n"]: None, items[3]["n"]: None}
            assert broker.admin(["DLQ.SHOW", "email", first])[1]["superseded"] == "new-1"
            assert broker.admin(["EVENT.SHOW", {"topic": "email", "n": first}])[1]["items"][0]["superseded"] == "new-1"
            broker.kill()
            broker.start()
        assert broker.topic("email")["dead"] == 4
        worker.close()
        broker.check_law()


def test_superseded_stays_dead_unless_named(binaries):
    """What another event does in its place isn't done twice by a replay of many; named, it is replayed; a purge takes it."""
    with Broker(binaries, ONCE).start() as broker:
        worker = kill_all(broker, "email", 4)
        items = broker.admin(["DLQ.LIST", "email"])[1]["items"]
        for item in items[:2]:
            assert broker.admin(["DLQ.SUPERSEDE", "email", item["n"], "new"])[0] == "OK"
        assert broker.admin(["DLQ.REPLAY", "email", {"all": True}]) == ["OK", {"replayed": 2}]
        worker.send(["CREDIT", 10])
        got = worker.take(2)
        assert sorted(d[2][1] for d in got) == sorted(i["id"] for i in items[2:])
        worker.send(["ACK", [d[0] for d in got], {"seq": 1}])
        assert broker.admin(["DLQ.REPLAY", "email", {"n": [items[0]["n"]]}]) == ["OK", {"replayed": 1}]
        named = worker.take(1)
        assert named[0][2][1] == items[0]["id"]
        worker.send(["ACK", [named[0][0]], {"seq": 2}])
        assert broker.admin(["DLQ.PURGE", "email", {"all": True}]) == ["OK", {"purged": 1}]
        wait_for("none is left", lambda: broker.topic("email")["dead"] == 0)
        assert (broker.topic("email")["done"], broker.topic("email")["purged"]) == (3, 1)
        broker.check_law()


def test_superseded_in_the_tool(binaries):
    with Broker(binaries, ONCE).start() as broker:
        kill_all(broker, "email", 2)
        n = broker.admin(["DLQ.LIST", "email"])[1]["items"][0]["n"]
        broker.admin(["DLQ.SUPERSEDE", "email", n, "new-0"])
        assert "attempts, superseded by new-0" in broker.cli("dlq", "ls", "email")
        assert json.loads(broker.cli("dlq", "ls", "email", "--json").splitlines()[0])["superseded"] == "new-0"
        assert json.loads(broker.cli("dlq", "show", "email", str(n)))["superseded"] == "new-0"
        assert broker.cli("dlq", "show", "email", str(n + 1)).count("superseded") == 0
