"""eventflow journal on files that a real broker left: verify, inspect, export, salvage.
SPDX-License-Identifier: MIT"""
import base64
import glob
import json
import os
import shutil
import subprocess

import msgpack

from support import Broker, Publisher, Worker, wait_for

TOPICS = """defaults
    retry_base = 60s
    retry_cap = 60s
    attempts = 3
api
db
email"""
PAYLOADS = [{"big": 18446744073709551615, "small": -9223372036854775808}, {"raw": b"\x00\xff\x80"},
            [1, 2.5, None, True], "text", {"$odd": 1}, msgpack.ExtType(5, b"\x01\x02")]


def as_json(value):
    """A payload as SPECIFICATION.md, "An event as JSON", writes it."""
    if isinstance(value, bytes):
        return {"$bin": base64.b64encode(value).decode()}
    if isinstance(value, msgpack.ExtType):
        return {"$ext": [value.code, base64.b64encode(value.data).decode()]}
    if isinstance(value, dict):
        pairs = {k: as_json(v) for k, v in value.items()}
        return {"$" + k: v for k, v in pairs.items()} if list(pairs)[0][0] == "$" else pairs
    return [as_json(v) for v in value] if isinstance(value, list) else value


def segments(data, journal="journal"):
    return sorted(glob.glob(os.path.join(data, journal, "*.seg")))


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def flip(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


def fill(broker):
    """Events of every kind: ready, done, retrying, scheduled and dead ones, over two segments."""
    publisher = Publisher(broker)
    publisher.publish([["api", f"a{i}", payload] for i, payload in enumerate(PAYLOADS)])
    publisher.publish([["db", None, {"i": i}] for i in range(100)])
    publisher.publish([["email", f"e{i}", {"i": i}] for i in range(6)])
    publisher.publish([["email", "later", 1, {"delay": 3600000}]])
    while publisher.confirm()[1] < publisher.seq:
        pass
    worker = Worker(broker, ["email"], credit=4)
    tags = {event[1]: tag for tag, _, event, *_ in worker.take(4)}
    worker.send(["ACK", [tags["e0"]]])
    worker.send(["NACK", [tags["e1"]], 550, "no such user"])
    worker.send(["NACK", [tags["e2"]], "BAD", "never", {"dead": True}])
    wait_for("they are answered", lambda: broker.topic("email")["done"] == 1 and
             broker.topic("email")["retrying"] == 1 and broker.topic("email")["dead"] == 1)
    wait_for("the letter is over there", lambda: broker.cli("dlq", "ls", "email", "--json"))
    worker.close()
    publisher.close()


def filled(binaries):
    broker = Broker(binaries, TOPICS, server="segment = 65536")
    try:
        fill(broker.start())
    except BaseException:
        broker.close()
        raise
    broker.kill()
    return broker


def test_journal_of_a_killed_broker_is_intact(binaries):
    with filled(binaries) as broker:
        text = broker.cli("journal", "verify", broker.data)
        assert text.count(": intact: ") == 2 and "dead/email_deadletter" in text, text
        assert broker.cli("journal", "verify", broker.data, "--quiet") == ""
        for item in lines(broker.cli("journal", "verify", broker.data, "--json")):
            assert item["intact"] and item["records"] > 0, item
        before = {path: open(path, "rb").read() for path in segments(broker.data)}
        broker.cli("journal", "export", broker.data)
        assert before == {path: open(path, "rb").read() for path in segments(broker.data)}


def test_journal_export_is_what_was_published(binaries):
    with filled(binaries) as broker:
        items = lines(broker.cli("journal", "export", broker.data))
        by_topic = {t: [i for i in items if i["topic"] == t] for t in ("api", "db", "email")}
        assert [i["id"] for i in by_topic["api"]] == [f"a{i}" for i in range(len(PAYLOADS))]
        for item, payload in zip(by_topic["api"], PAYLOADS):
            assert item["payload"] == as_json(payload) and item["state"] == "ready", item
        assert [i["payload"]["i"] for i in by_topic["db"]] == list(range(100))
        assert [i["n"] for i in by_topic["db"]] == list(range(1, 101))
        states = {i["id"]: i["state"] for i in by_topic["email"]}
        assert states == {"e1": "retrying", "e2": "dead", "e3": "ready", "e4": "ready", "e5": "ready",
                          "later": "scheduled"}, states
        mail = {i["id"]: i for i in by_topic["email"]}
        assert mail["e1"]["attempts"] == 1 and mail["e1"]["error"][0]["status_code"] == 550
        assert mail["e1"]["error"][0]["message"] == "no such user" and mail["e1"]["due_date"]
        assert mail["e2"]["reason"] == "permanent" and mail["e2"]["error"][0]["status_code"] == "BAD"
        path = os.path.join(broker.directory, "out")
        broker.cli("journal", "export", broker.data, "--state", "dead,retrying", "--output", path)
        assert {i["id"] for i in lines(open(path).read())} == {"e1", "e2"}
        assert len(lines(broker.cli("journal", "export", broker.data, "--topic", "db"))) == 100
        broker.cli("journal", "export", broker.data, "--topic", "nope", code=3)


def test_journal_inspect_filters(binaries):
    with filled(binaries) as broker:
        records = lines(broker.cli("journal", "inspect", broker.data, "--json"))
        kinds = {r["type"] for r in records}
        assert {"events", "ends", "attempt", "dead", "topic", "tags", "session", "state",
                "letter"} <= kinds | {"session"}, kinds
        dead = lines(broker.cli("journal", "inspect", broker.data, "--type", "dead", "--json"))
        assert [(d["topic"], d["reason"]) for d in dead] == [("email", "permanent")], dead
        some = lines(broker.cli("journal", "inspect", broker.data, "--json", "--topic", "api",
                                "--type", "events", "--events"))
        assert [e["id"] for r in some for e in r["events"]] == [f"a{i}" for i in range(len(PAYLOADS))]
        journal = os.path.join(broker.data, "journal")
        place = next(r for r in records if r["type"] == "attempt")
        first = broker.cli("journal", "inspect", journal, "--from",
                           f"{place['segment']}:{place['offset']}", "--limit", "1")
        assert first.startswith(f"{place['segment']}:{place['offset']} seq=") and " topic=email " in first
        assert "550" in first and first.count("\n") == 1, first
        broker.cli("journal", "inspect", broker.data, "--type", "evnets", code=2)
        broker.cli("journal", "inspect", journal, "--from", "x", code=2)
        broker.cli("journal", "inspect", broker.data, "--limit", "0", code=2)
        broker.cli("journal", "inspect", broker.data + "-not", code=3)
        broker.cli("journal", "verify", broker.directory, code=3)
        broker.cli("journal", "verify", broker.data, "--limit", "3", code=2)


def reopened(broker, data):
    """The same broker on another directory."""
    text = open(broker.config).read().replace(f'data = "{broker.data}"', f'data = "{data}"')
    with open(broker.config, "w") as file:
        file.write(text)
    broker.data = data
    return broker.start()


def test_journal_damage_is_named_and_the_rest_salvaged(binaries):
    with filled(binaries) as broker:
        records = lines(broker.cli("journal", "inspect", broker.data, "--json", "--type", "events"))
        hit = next(r for r in records if r["topic"] == "db")
        flip(segments(broker.data)[hit["segment"] - 1], hit["offset"] + 300)
        found = lines(broker.cli("journal", "verify", broker.data, "--json", code=8))
        damage = next(f for f in found if f.get("finding") == "damaged")
        assert (damage["segment"], damage["offset"]) == (hit["segment"], hit["offset"]), damage
        assert damage["first_seq"] == hit["seq"] and damage["loss"], damage
        text = broker.cli("journal", "verify", broker.data, code=8)
        assert f"segment {hit['segment']} offset {hit['offset']}, " in text, text
        assert broker.cli("journal", "inspect", broker.data).count("damaged") == 1
        broker.cli("journal", "export", broker.data, code=8)
        new = os.path.join(broker.directory, "new")
        told = broker.cli("journal", "salvage", broker.data, new, code=8)
        assert f"segment {hit['segment']} offset {hit['offset']}, " in told, told
        broker.cli("journal", "verify", new)
        broker.cli("journal", "salvage", broker.data, new, code=4)
        events = lines(broker.cli("journal", "export", new))
        assert {e["topic"] for e in events} == {"api", "email"}
        reopened(broker, new)
        broker.check_law()
        worker = Worker(broker, ["api", "db"], credit=50)
        got = worker.take(len(PAYLOADS))
        assert [event[2] for _, _, event, *_ in got] == PAYLOADS
        worker.send(["ACK", [tag for tag, *_ in got]])
        wait_for("they are done", lambda: broker.topic("api")["done"] == len(PAYLOADS))
        broker.cli("publish", "1", "--topic", "db")
        assert worker.take(1)[0][2][2] == 1
        assert broker.topic("email")["dead"] == 1
        assert [json.loads(i)["id"] for i in
                broker.cli("dlq", "ls", "email", "--json").splitlines()] == ["e2"]
        broker.cli("dlq", "replay", "email", "--all")
        wait_for("it is back", lambda: broker.topic("email")["dead"] == 0)
        broker.check_law()


def test_journal_lost_segments_and_pages(binaries):
    with Broker(binaries, TOPICS, server="segment = 65536").start() as broker:
        publisher = Publisher(broker)
        for i in range(24):
            publisher.publish([["api", f"k{i}-{k}", "x" * 1000] for k in range(10)])
            publisher.confirm()
        publisher.close()
        broker.kill()
        files = segments(broker.data)
        assert len(files) >= 4, files
        whole = os.path.join(broker.directory, "whole")
        shutil.copytree(broker.data, whole)
        os.unlink(files[1])
        found = lines(broker.cli("journal", "verify", broker.data, "--json", code=8))
        kinds = [f.get("finding") for f in found]
        assert kinds[:2] == ["missing", "lost"] and found[0]["segment"] == 2, found
        lost = set(range(found[1]["first_n"], found[1]["last_n"] + 1))
        with open(files[2], "r+b") as file:  # its first group, with the topics' names, is gone too
            file.seek(4096)
            file.write(bytes(4096))
        found = lines(broker.cli("journal", "verify", broker.data, "--json", code=8))
        assert any(f.get("finding") == "damaged" and f["segment"] == 3 and f["offset"] == 4096
                   for f in found), found
        new = os.path.join(broker.directory, "new")
        broker.cli("journal", "salvage", broker.data, new, code=8)
        left = {e["n"] for e in lines(broker.cli("journal", "export", new))}
        assert left and not left & lost and max(left) == 240, left
        again = os.path.join(broker.directory, "again")
        broker.cli("journal", "salvage", whole, again)
        assert [e["id"] for e in lines(broker.cli("journal", "export", again))] == [
            f"k{i}-{k}" for i in range(24) for k in range(10)]
        os.rename(segments(whole)[0], whole + ".seg")  # the oldest: no byte tells, the totals do
        told = lines(broker.cli("journal", "salvage", whole, again + "1", "--json", code=8))
        assert told[0]["finding"] == "totals" and told[0]["accepted_was"] == 240, told
        os.rename(whole + ".seg", os.path.join(whole, "journal", "0000000000000001.seg"))
        with open(os.path.join(whole, "journal", "0000000000000001.seg"), "r+b") as file:
            header = bytearray(file.read(64))
            header[8] = 200
            header[12:16] = crc32c(bytes(header[:12]) + bytes(header[16:])).to_bytes(4, "little")
            file.seek(0)
            file.write(header)
        broker.cli("journal", "verify", whole, code=1)
        broker.cli("journal", "salvage", whole, again + "2", code=1)
        assert not os.path.exists(again + "2")
        reopened(broker, new)
        broker.check_law()
        assert broker.topic("api")["ready"] == len(left)
        worker = Worker(broker, ["api"], credit=300)
        assert len({event[1] for _, _, event, *_ in worker.take(len(left))}) == len(left)


def crc32c(data):
    value = 0xffffffff
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82f63b78 if value & 1 else 0)
    return value ^ 0xffffffff


def test_journal_dead_letters_are_salvaged(binaries):
    with Broker(binaries, "defaults\n    attempts = 1\napi").start() as broker:
        publisher = Publisher(broker)
        worker = Worker(broker, ["api"], credit=20)
        for i in range(5):  # each in a group of its own, for a damaged last one would be a torn tail
            publisher.publish([["api", f"d{i}", i]])
            publisher.confirm()
            worker.send(["NACK", [worker.take(1)[0][0]], 1, "no"])
            wait_for("it is there", lambda: len(broker.admin(["DLQ.LIST", "api"])[1]["items"]) == i + 1)
        broker.kill()
        dead = os.path.join(broker.data, "dead", "api_deadletter")
        letters = lines(broker.cli("journal", "inspect", dead, "--json", "--type", "letter"))
        assert [r["m"] for r in letters] == [1, 2, 3, 4, 5]
        assert len(lines(broker.cli("journal", "export", dead))) == 5
        flip(segments(dead, "")[letters[2]["segment"] - 1], letters[2]["offset"] + 50)
        found = lines(broker.cli("journal", "verify", broker.data, "--json", code=8))
        assert {"journal": "dead/api_deadletter", "finding": "lost", "topic": "api", "first_m": 3,
                "last_m": 3} in found, found
        new = os.path.join(broker.directory, "new")
        broker.cli("journal", "salvage", broker.data, new, code=8)
        reopened(broker, new)
        broker.check_law()
        assert broker.topic("api")["dead"] == 4
        broker.cli("dlq", "replay", "api", "--all")
        again = Worker(broker, ["api"], credit=20)
        assert sorted(event[1] for _, _, event, *_ in again.take(4)) == ["d0", "d1", "d3", "d4"]
        broker.check_law()


def test_journal_of_a_running_broker(binaries):
    with Broker(binaries, TOPICS).start() as broker:
        broker.cli("publish", "1", "--topic", "api")
        tool = [os.path.join(binaries, "eventflow"), "journal"]
        done = subprocess.run([*tool, "verify", broker.data], capture_output=True, text=True)
        assert done.returncode == 0 and "a broker works on this directory" in done.stderr, done
        for words in (["export", broker.data], ["salvage", broker.data, broker.data + "2"]):
            done = subprocess.run([*tool, *words], capture_output=True, text=True)
            assert done.returncode == 4 and "stop it first" in done.stderr, done
        assert not os.path.exists(broker.data + "2")
        assert len(lines(broker.cli("journal", "export", broker.data, "--force"))) == 1
