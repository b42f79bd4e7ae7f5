"""Events that kill the workers which hold them. SPDX-License-Identifier: MIT"""
import os
import signal
import sys

from delivery import Notices, accept, item
from support import Broker, Worker, wait_for

HERE = os.path.dirname(os.path.abspath(__file__))
# A worker of the scaler's: says what it takes, dies of what is poison.
PROGRAM = f"""
import os, signal, sys
import msgpack, zmq
sys.path.insert(0, {HERE!r})
out = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
socket = zmq.Context().socket(zmq.DEALER)
socket.connect(os.environ["EVENTFLOW_BACK"])
say = lambda header: socket.send(msgpack.packb(header))
say(["READY", 1, {{"topics": ["risky"], "credit": 4, "heartbeat": 10000, "pid": os.getpid(),
                  "token": os.environ["EVENTFLOW_TOKEN"]}}])
while True:
    header, *bodies = socket.recv_multipart()
    header = msgpack.unpackb(header)
    if header[0] == "PING":
        say(["PONG"])
    elif header[0] == "DRAIN":
        say(["BYE"])
        break
    got = []
    for body in bodies:
        unpacker = msgpack.Unpacker(strict_map_key=False)
        unpacker.feed(body)
        got += list(unpacker)
    if got:
        os.write(out, (" ".join(d[2][1] for d in got) + "\\n").encode())
    if any(d[2][2] == "poison" for d in got):
        os.kill(os.getpid(), signal.SIGSEGV)
    for d in got:
        say(["ACK", [d[0]]])
"""


def start(broker):
    """Writes the program and a pool of it, and starts the broker."""
    program, lines = (os.path.join(broker.directory, n) for n in ("worker.py", "lines"))
    with open(program, "w") as file:
        file.write(PROGRAM)
    with open(lines, "w"), open(broker.config, "a") as file:
        file.write(f"""    risky
        lease = 20s
        retry_base = 10ms
        retry_jitter = 0
        pool
            command = "ulimit -c 0; exec {sys.executable} {program} {lines}"
            min = 1
            max = 1
            cooldown = 10ms
""")
    broker.start()
    return lines


def batches(lines):
    with open(lines) as file:
        return [line.split() for line in file]


def test_an_event_that_kills_its_worker_twice_alone_is_dead(binaries):
    with Broker(binaries) as broker:
        lines = start(broker)
        notices = Notices(broker, "poison")
        accept(broker, [["risky", "good1", 1], ["risky", "bad", "poison"], ["risky", "good2", 1],
                        ["risky", "good3", 1]])
        letters = wait_for("it is dead", lambda: broker.admin(["DLQ.LIST", "risky"])[1]["items"])
        assert [(i["id"], i["reason"]) for i in letters] == [("bad", "poison")], letters
        wait_for("the others are done", lambda: broker.topic("risky")["done"] == 3)
        with_bad = [batch for batch in batches(lines) if "bad" in batch]
        assert with_bad[-2:] == [["bad"], ["bad"]], batches(lines)  # alone, twice
        assert len(with_bad) <= 3, batches(lines)
        letter = broker.admin(["DLQ.SHOW", "risky", letters[0]["n"]])[1]
        told = str(letter["errors"][-1])
        assert str(int(signal.SIGSEGV)) in told or "SEGV" in told, letter
        assert notices.wait("poison", lambda _, n: n["topic"] == "risky")["detail"]
        assert item(broker, "bad")["reason"] == "dead"
        broker.check_law()


def hold_back(broker):
    """A worker that was kept idle for suspects which another one has had since."""
    start(broker)
    accept(broker, [["other", "mine", 1]])
    held = Worker(broker, ["risky", "other"], credit=1, name="held")
    mine = held.take(1)
    accept(broker, [["risky", "bad", "poison"]])
    wait_for("it has failed", lambda: broker.topic("risky")["failed"] > 0)
    held.send(["CREDIT", 4])
    wait_for("it is dead", lambda: broker.admin(["DLQ.LIST", "risky"])[1]["items"])
    return held, mine[0][0]


def test_who_was_kept_idle_for_a_suspect_works_on(binaries):
    with Broker(binaries, "other\n    lease = 1m\n") as broker:
        held, tag = hold_back(broker)
        accept(broker, [["other", "next", 1]])
        assert held.take(1)[0][2][1] == "next"  # while it still has the first one
        held.send(["ACK", [tag]])


def test_who_takes_other_topics_is_kept_for_no_suspect(binaries):
    with Broker(binaries, "other\n    lease = 1m\n") as broker:
        held, tag = hold_back(broker)
        held.send(["READY", 1, {"topics": ["other"], "credit": 4}])
        held.send(["ACK", [tag]])
        accept(broker, [["other", "next", 1]])
        assert held.take(1)[0][2][1] == "next"
