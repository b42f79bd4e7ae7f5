"""Garbage, lies and rudeness: an answer or a count, never a crash. SPDX-License-Identifier: MIT"""
import random
import socket
import subprocess

import msgpack
import zmq

from support import Broker, Publisher, Worker, wait_for

BOMBS = [b"", b"\xc1", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff",
         b"\xc6\xff\xff\xff\xff", b"\x91" * 100 + b"\xc0", b"\x81" * 40, b"\x93\xa5email\xc0",
         b"\x93\xa5email\xc0\xc1", b"\x94\xa5email\xc0\xc0\xc0", b"\xa3abc", b"\xcf" + b"\xff" * 7]


def test_garbage_on_every_socket(binaries):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    with Broker(binaries).start() as broker:
        for name in ("front", "back", "admin"):
            peer = broker.socket(zmq.DEALER, name)
            for bomb in BOMBS:
                peer.send(bomb) if bomb else peer.send_multipart([b"", b""])
            for _ in range(300):
                peer.send_multipart([dice.randbytes(dice.randrange(1, 60))
                                     for _ in range(dice.randrange(1, 5))])
            answers = 0
            while peer.poll(300 if answers >= 100 else 30000):
                answer = msgpack.unpackb(peer.recv_multipart()[-1], strict_map_key=False)
                assert answer[0] == "ERROR", answer
                answers += 1
            assert answers >= 100, (name, answers)
        push = broker.socket(zmq.PUSH, "ingress")
        for bomb in BOMBS:
            push.send(bomb)
        push.send(msgpack.packb(["api", None, 1]))
        wait_for("the good one came through", lambda: broker.topic("api")["ready"] == 1)
        broker.check_law()


def test_every_prefix_of_good_messages(binaries):
    good = {"front": ["HELLO", 1, {"session": b"s" * 16, "heard": 0}],
            "back": ["READY", 1, {"topics": ["api"], "credit": 2, "session": b"w" * 16, "held": [[1, 9]]}],
            "admin": ["DLQ.REPLAY", "api", {"n": [1, 2], "rate": 3}]}
    with Broker(binaries).start() as broker:
        for name, message in good.items():
            raw = msgpack.packb(message)
            for size in range(1, len(raw)):
                peer = broker.socket(zmq.DEALER, name)
                peer.send(raw[:size])
                assert peer.poll(30000), (name, size)
                assert msgpack.unpackb(peer.recv())[0] == "ERROR", (name, size)
                peer.close()
        assert broker.alive()


def test_wrong_words_are_answered(binaries):
    with Broker(binaries).start() as broker:
        cases = [("front", ["HELLO", 2, {}], "VERSION"), ("front", ["HELLO", 1, {}], "BAD_COMMAND"),
                 ("front", ["FROB"], "BAD_COMMAND"), ("front", ["PUBLISH", 1], "UNKNOWN_PEER"),
                 ("front", ["PUBLISH", 1.5], "BAD_COMMAND"), ("back", ["ACK", [1]], "UNKNOWN_PEER"),
                 ("back", ["READY", 9, {}], "VERSION"), ("back", ["READY", 1, {}], "BAD_COMMAND"),
                 ("back", ["READY", 1, {"topics": ["nope"]}], "UNKNOWN_TOPIC"),
                 ("admin", ["PAUSE"], "BAD_COMMAND"), ("admin", ["PAUSE", "nope"], "NOT_FOUND"),
                 ("admin", ["SCALE", "api", 3], "NOT_FOUND"), ("admin", {"a": 1}, "BAD_FRAME")]
        for name, message, code in cases:
            peer = broker.socket(zmq.DEALER, name)
            peer.send(msgpack.packb(message))
            assert peer.poll(30000), message
            answer = msgpack.unpackb(peer.recv())
            assert answer[:2] == ["ERROR", code], (message, answer)
            assert len(answer[2]) > 5
            peer.close()


def test_sizes_past_the_limits(binaries):
    with Broker(binaries, server="max_event = 10000\nmax_message = 40000").start() as broker:
        publisher = Publisher(broker)
        publisher.publish([["api", "a", b"x" * 20000], ["api", "b", b"x" * 100]])
        outcome = publisher.confirm()[2]
        assert outcome["accepted"] == 1 and outcome["refused"][0][:3] == [1, 0, "TOO_LARGE"]
        publisher.publish([["api", str(i), b"x" * 9000] for i in range(6)])
        assert publisher.confirm()[2]["refused"][0][:3] == [2, None, "TOO_LARGE"]
        nested = b"\x91" * 40 + b"\xc0"
        publisher.send(["PUBLISH", 3], b"\x93\xa3api\xc0" + nested)
        assert publisher.confirm()[2]["refused"][0][:3] == [3, None, "BAD_FRAME"]
        # Past what the socket takes the connection is closed; the broker lives.
        publisher.send(["PUBLISH", 4], b"x" * 400000)
        assert broker.alive()


def test_silent_connections_hurt_nobody(binaries):
    with Broker(binaries).start() as broker:
        port = int(broker.endpoints["front"].rsplit(":", 1)[1])
        crowd = [socket.create_connection(("127.0.0.1", port)) for _ in range(1500)]
        talkers = [broker.socket(zmq.DEALER, "back") for _ in range(200)]
        publisher = Publisher(broker)
        worker = Worker(broker, ["api"], credit=100)
        for round_number in range(20):
            publisher.publish([["api", str(round_number), 1]])
            publisher.confirm()
        tags = [d[0] for d in worker.take(20)]
        worker.send(["ACK", tags, {"seq": 1}])
        assert worker.receive("ACKED")[2]["done"] == 20
        for each in crowd + talkers:
            each.close()


def test_hostile_but_well_formed(binaries):
    topics = "\n".join(f"t{i}\n    lease = 30s" for i in range(130))
    with Broker(binaries, topics).start() as broker:
        back = broker.socket(zmq.DEALER, "back")  # one key twice, each with as many names as may be
        names = [[f"t{i}" for i in range(start, start + 64)] for start in (0, 64)]
        back.send(msgpack.packb(["READY", 1])[:-1].replace(b"\x92", b"\x93") + b"\x01\x83" +
                  b"".join(msgpack.packb("topics") + msgpack.packb(n) for n in names) +
                  msgpack.packb("credit") + b"\x01")
        assert back.poll(30000)
        assert msgpack.unpackb(back.recv())[0] == "WELCOME"
        session = b"h" * 16  # a publisher that says it heard what never was
        Publisher(broker, session, heard=1 << 62).close()
        Publisher(broker, session, heard=0).close()
        assert broker.admin(["STATUS"])[0] == "OK"
        publisher = Publisher(broker)  # the long form of an array's head, with an id to be put in
        body = b"\xdd\x00\x00\x00\x03\xa3api\xc0\x01" * 2 + b"\xdc\x00\x03\xa3api\xc0\x02"
        publisher.send(["PUBLISH", 1], body)
        assert publisher.confirm()[2]["accepted"] == 3
        worker = Worker(broker, ["api"], credit=3)
        got = worker.take(3)
        assert [e[2] for _, _, e in got] == [1, 1, 2] and len({e[1] for _, _, e in got}) == 3
        tag = got[0][0]  # a tag named twice in an ACK with events: nothing happens
        worker.send(["ACK", [tag, tag], {"seq": 1}], msgpack.packb(["db", "e", 1]))
        answer = worker.receive("ACKED")[2]
        assert answer["done"] == 0 and answer["stale"] == [tag], answer
        assert broker.topic("db")["accepted"] == 0
        worker.send(["EXTEND", [[0, 1 << 60]] * 20000, 1000])  # ranges without end
        worker.send(["ACK", [d[0] for d in got], {"seq": 2}])
        assert worker.receive("ACKED")[2]["done"] == 3
        broker.check_law()


def test_publisher_without_hello_is_told_to_greet(binaries):
    with Broker(binaries).start() as broker:
        peer = broker.socket(zmq.DEALER, "front")
        peer.send(msgpack.packb(["PING"]))
        assert peer.poll(30000) and msgpack.unpackb(peer.recv())[1] == "UNKNOWN_PEER"


def test_second_broker_on_the_same_data_is_refused(binaries):
    with Broker(binaries).start() as broker:
        done = subprocess.run([f"{broker.binaries}/eventflowd", "--data", broker.data],
                              capture_output=True, text=True, timeout=60)
        assert done.returncode == 75 and "another broker" in done.stderr, done


def test_wrong_configuration_names_file_and_line(binaries):
    with Broker(binaries) as broker:
        cases = [("topic\n    email\n        lease = soon\n", ":3:", "duration"),
                 ("server\n    fornt = x\n", ":2:", "unknown setting fornt"),
                 ("# c\n\ntopic\n    email\n        attempts = 0\n", ":5:", "from 1 to 1000"),
                 ("servre\n    x = 1\n", ":1:", "unknown section"),
                 ("topic\n    bad_deadletter\n        lease = 1s\n", ":2:", "topic name"),
                 ("server\n    front = tcp://0.0.0.0:1\n", "", "loopback")]
        for text, place, expected in cases:
            path = f"{broker.directory}/wrong.cfg"
            with open(path, "w") as file:
                file.write(text)
            done = subprocess.run([f"{broker.binaries}/eventflowd", "--config", path, "--check"],
                                  capture_output=True, text=True, timeout=60)
            assert done.returncode == 78, done
            assert place in done.stderr and expected in done.stderr, done.stderr
        done = subprocess.run([f"{broker.binaries}/eventflow", "config", "check", broker.config],
                              capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and "good" in done.stdout, done


def test_corrupt_journal_is_refused_by_name(binaries):
    with Broker(binaries).start() as broker:
        publisher = Publisher(broker)
        for i in range(3):
            publisher.publish([["api", f"{i}", b"x" * 500]])
            publisher.confirm()
        broker.kill()
        path = f"{broker.data}/journal/0000000000000001.seg"
        with open(path, "r+b") as file:
            file.seek(4096 + 700)
            byte = file.read(1)
            file.seek(4096 + 700)
            file.write(bytes([byte[0] ^ 1]))
        done = subprocess.run([f"{broker.binaries}/eventflowd", "--config", broker.config],
                              capture_output=True, text=True, timeout=60)
        assert done.returncode == 74 and "damaged at offset" in done.stderr, done
