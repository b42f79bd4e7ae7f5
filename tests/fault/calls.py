"""Every file call fails once: what was confirmed stays, and nothing is confirmed that isn't.
SPDX-License-Identifier: MIT

A small script is run with failcall.c: first to count the broker's calls, then once for every call
that is to fail. Behind the failure the broker either ends with 74 and a reason, or it goes on
where that is right; a start without the shim must find what the ledger says."""
import os
import struct
import time

import msgpack
import zmq

from ledger import payload_of
from load import ranges
from support import wait_for

CLASSES = ["write", "sync", "space", "open", "rename", "unlink", "read"]
FAULTS = {"write": ["EIO", "ENOSPC", "EDQUOT", "EROFS", "short", "EINTR"],
          "sync": ["EIO", "ENOSPC", "EDQUOT"], "space": ["ENOSPC", "EDQUOT", "EIO", "EROFS"],
          "open": ["EIO", "ENOSPC", "EROFS"], "rename": ["EIO", "ENOSPC"],
          "unlink": ["EIO", "EROFS"], "read": ["EIO", "EINTR", "short"]}
HARMLESS = [("write", "EINTR"), ("read", "short"), ("read", "EINTR")]
BEGUN = 2  # calls that other threads had begun: the journal, upkeep and the dead letters write
FULL = ["ENOSPC", "EDQUOT"]  # may be survived: what is only prepared waits for space
TOPICS = """defaults
    retry_base = 10ms
    retry_cap = 20ms
    attempts = 3
    lease = 30s"""
NAMES = ["api", "db"]
SIZE, PAD = 10, 2500  # events of a message and bytes of an event: 20 messages fill some segments


class Ended(Exception):
    """The broker has ended while the script wanted more of it."""


class Stuck(Exception):
    """The broker lives and nothing more comes of it."""


class Script:
    """The ledger of one run of the script, and its two peers."""

    def __init__(self, broker):
        self.broker = broker
        self.sent, self.confirmed, self.done, self.answered = set(), set(), set(), set()
        self.dead = set()

    def peer(self, name, header, wanted):
        sock = self.broker.socket(zmq.DEALER, name)
        sock.send(msgpack.packb(header))
        return sock, self.hear(sock, wanted)[0]

    def hear(self, sock, wanted, seconds=15):
        """The next frames with that command, however the broker fares."""
        deadline = time.monotonic() + seconds
        while True:
            if sock.poll(20):
                frames = sock.recv_multipart()
                header = msgpack.unpackb(frames[0])
                if header[0] in wanted:
                    return header, frames[1:]
                if header[0] == "PING":
                    sock.send(msgpack.packb(["PONG"]))
            elif self.broker.process.poll() is not None:
                raise Ended()
            if time.monotonic() > deadline:
                raise Stuck(f"no {wanted} and no end")

    def publish(self, label, count):
        sock, _ = self.peer("front", ["HELLO", 1, {"session": os.urandom(16), "heard": 0}],
                            ["WELCOME"])
        messages = {}
        for seq in range(1, count + 1):
            topic = NAMES[seq % 2]
            messages[seq] = [f"{topic}:{label}{seq}-{i}" for i in range(SIZE)]
            self.sent.update(messages[seq])
            sock.send_multipart([msgpack.packb(["PUBLISH", seq]), b"".join(msgpack.packb(
                [topic, n, payload_of(n, PAD)]) for n in messages[seq])])
            if seq % 4 == 0:  # several groups: the journal has something between two of them
                self.confirm(sock, messages, seq)
        sock.close()

    def confirm(self, sock, messages, upto):
        while messages and min(messages) <= upto:
            header, _ = self.hear(sock, ["CONFIRM"])
            refused = {i[0] for i in header[2].get("refused", [])}
            for seq in sorted(s for s in messages if s <= header[1]):
                names = messages.pop(seq)
                self.confirmed.update(names if seq not in refused else [])

    def work(self):
        """Ends all that is there: most as done, a few dead, some only at the second attempt."""
        sock, _ = self.peer("back", ["READY", 1, {"topics": NAMES, "credit": 1000}], ["WELCOME"])
        seq, open_acks, again = 0, {}, set()
        wanted = len(self.confirmed - self.done - self.dead)
        ended = 0
        while ended < wanted or open_acks:
            header, bodies = self.hear(sock, ["EVENTS", "ACKED"])
            if header[0] == "ACKED":
                became, names = open_acks.pop(header[1])
                assert not header[2].get("stale"), header
                became.update(names)
                ended += len(names) if became is not again else 0
                continue
            tags = {}
            for tag, attempt, event in (d[:3] for b in bodies for d in unpack(b)):
                name = event[1]
                assert event[2] == payload_of(name, PAD), f"payload of {name}"
                assert name in self.sent and name not in self.done, f"again or invented: {name}"
                number = int(name.rpartition("-")[2])
                if number < 2 and (number == 0 or attempt == 1):
                    seq += 1
                    open_acks[seq] = (self.dead if number == 0 else again, [name])
                    sock.send(msgpack.packb(["NACK", [tag], 500, "of the test",
                                             {"dead": number == 0, "seq": seq}]))
                else:
                    tags[tag] = name
            if tags:
                seq += 1
                open_acks[seq] = (self.done, list(tags.values()))
                self.answered.update(tags.values())
                sock.send(msgpack.packb(["ACK", ranges(tags), {"seq": seq}]))
        sock.linger = 1000
        sock.send(msgpack.packb(["BYE"]))  # or the next events would be sent to nobody
        sock.close()


def unpack(body):
    unpacker = msgpack.Unpacker(strict_map_key=False)
    unpacker.feed(body)
    return list(unpacker)


def counts_of(path):
    with open(path, "rb") as file:
        values = struct.unpack("<9Q", file.read(72))
    return dict(zip(CLASSES + ["hit", "later"], values))


def run_script(broker, environment):
    """A start on what an earlier one left, publishing, working, segments that come and go, a stop.
    Returns the ledger and the exit status."""
    with open(environment["FAILCALL_COUNTS"], "wb") as file:
        file.write(bytes(72))
    script = Script(broker)
    broker.start()
    script.publish("before", 4)
    broker.kill()
    broker.launch(environment)
    try:
        script.publish("first", 12)
        script.work()
        script.publish("second", 8)
        script.work()
        broker.process.terminate()
    except Ended:
        pass
    except Stuck as stuck:  # events that can't be read may wait, but for nothing else
        lasts = environment["FAILCALL_LASTS"] == "1"
        waits = environment["FAILCALL_CLASS"] in ("read", "open") or (
            environment["FAILCALL_FAULT"] in FULL)  # a disk that stays full is waited for
        assert lasts and waits, str(stuck)
        lines = broker.logged().count("\n")
        assert lines < 1000, f"{stuck}, and {lines} lines in the log: it is busy with nothing"
        broker.kill()
        return script, 0
    status = broker.linger(60)
    assert status is not None, "it was told to end and doesn't"
    return script, status


def check(run, broker, script, status, fault):
    """What the failed run did, then what a start without the shim finds."""
    kind, name = fault["FAILCALL_CLASS"], fault["FAILCALL_FAULT"]
    counts = counts_of(fault["FAILCALL_COUNTS"])
    assert status in (0, 74), f"eventflowd ended with {status}:\n{broker.logged()}"
    if status == 74:
        lines = [x for x in broker.logged().splitlines()
                 if "refused" in x or "failed" in x.split("error=")[0]]
        assert counts["hit"] and lines, f"no reason in the log:\n{broker.logged()}"
        assert (kind, name) not in HARMLESS, f"it ended though {name} is no failure: {lines}"
    elif kind in ("write", "sync") and (kind, name) not in HARMLESS and name not in FULL:
        assert not counts["hit"] or counts["later"] <= BEGUN, "it went on in a failed directory"
    assert kind not in ("write", "sync") or name in FULL or counts["later"] <= BEGUN, (
        f"{counts['later']} writes and syncs went on behind the failed one")
    broker.start()
    sent, confirmed = len(script.sent), len(script.confirmed)
    items = [broker.topic(t) for t in NAMES]
    assert confirmed <= sum(i["accepted"] for i in items) <= sent, (confirmed, sent, items)
    waiting = sum(i[s] for i in items for s in ("ready", "leased", "retrying"))
    drain(broker, script, waiting)
    broker.stop()


def drain(broker, script, waiting):
    """Takes all that waits, once each, and counts it with what ended before."""
    sock, _ = script.peer("back", ["READY", 1, {"topics": NAMES, "credit": 1000}], ["WELCOME"])
    seen, tags = set(), []
    while len(seen) < waiting:
        _, bodies = script.hear(sock, ["EVENTS"])
        for tag, _, event in (d[:3] for b in bodies for d in unpack(b)):
            assert event[2] == payload_of(event[1], PAD), f"payload of {event[1]}"
            assert event[1] in script.sent, f"invented: {event[1]}"
            assert event[1] not in script.done, f"done and delivered again: {event[1]}"
            assert event[1] not in seen, f"twice: {event[1]}"
            seen.add(event[1])
            tags.append(tag)
    if tags:
        sock.send(msgpack.packb(["ACK", ranges(tags), {"seq": 1}]))
        assert script.hear(sock, ["ACKED"])[0][2]["done"] == len(tags)
    sock.close()
    dead = set()
    for topic in NAMES:
        wait_for("the dead letters are over there", lambda t=topic: broker.admin(
            ["DLQ.LIST", t, {"limit": 1}])[1]["total"] == broker.topic(t)["dead"])
        items = broker.admin(["DLQ.LIST", topic, {"limit": 1000}])[1]["items"]
        names = {i["id"] for i in items}
        assert len(names) == len(items), f"dead twice in {topic}"
        dead |= names
    assert not dead & script.done and not dead & seen, "dead and something else too"
    assert script.dead <= dead, f"lost dead letters: {script.dead - dead}"
    lost = script.confirmed - seen - dead - script.answered
    assert not lost, f"{len(lost)} confirmed and lost: {sorted(lost)[:5]}"
    broker.check_law()


def nthcall(run):
    """All calls of all classes (long), or some of each."""
    if not os.path.exists(run.shim("failcall")):
        raise run.Skip("tests/libfailcall.so isn't built")
    totals = one(run, {"FAILCALL_CLASS": "all", "FAILCALL_N": "0", "FAILCALL_FAULT": "EIO",
                       "FAILCALL_LASTS": "0"})
    run.say("calls of a run without a fault: " + ", ".join(f"{c} {totals[c]}" for c in CLASSES))
    plan = [(c, n, f) for c in CLASSES for n in range(1, totals[c] + 1) for f in FAULTS[c]]
    if not run.is_long:
        run.number = 0
        dice = run.dice()
        plan = [(c, n, dice.choice(FAULTS[c])) for c in CLASSES
                for n in sorted(dice.sample(range(1, totals[c] + 1), min(totals[c], 9)))]
    run.number = run.options.start_round
    ended = survived = missed = 0
    for number, _ in run.rounds(len(plan), len(plan)):
        if number > len(plan):
            break
        kind, n, name = plan[number - 1]
        lasts = "1" if run.dice().random() < 0.5 and name not in ("short", "EINTR") else "0"
        result = one(run, {"FAILCALL_CLASS": kind, "FAILCALL_N": str(n), "FAILCALL_FAULT": name,
                           "FAILCALL_LASTS": lasts})
        ended += result["status"] == 74
        survived += result["status"] == 0 and result["hit"]
        missed += not result["hit"]
    run.say(f"{ended} ended with 74, {survived} went on, {missed} had no such call")


def one(run, fault):
    with run.broker(TOPICS, "segment = 64KiB") as broker:
        fault = dict(fault, LD_PRELOAD=run.shim("failcall"), FAILCALL_DATA=broker.data,
                     FAILCALL_COUNTS=os.path.join(broker.directory, "counts"))
        what = " ".join(f"{k[9:].lower()}={v}" for k, v in fault.items() if k[9:] in (
            "CLASS", "N", "FAULT", "LASTS"))
        try:
            script, status = run_script(broker, fault)
            check(run, broker, script, status, fault)
        except AssertionError as error:
            raise AssertionError(f"{what}: {error}") from error
        return dict(counts_of(fault["FAILCALL_COUNTS"]), status=status)
