"""Publishing over ingress and front. SPDX-License-Identifier: MIT"""
import os

import msgpack
import zmq

from support import Broker, Publisher, Worker, wait_for


def test_push_is_journaled_and_delivered(binaries):
    with Broker(binaries).start() as broker:
        push = broker.socket(zmq.PUSH, "ingress")
        push.send(msgpack.packb(["email", None, {"to": "a@example.org"}]))
        worker = Worker(broker, ["email"])
        [[tag, attempt, event]] = worker.take(1)
        assert attempt == 1 and event[0] == "email" and event[2] == {"to": "a@example.org"}
        assert len(event[1]) == 36
        worker.send(["ACK", [tag]])
        wait_for("it is done", lambda: broker.topic("email")["done"] == 1)
        broker.check_law()


def test_what_ingress_refuses_is_kept_in_invalid(binaries):
    with Broker(binaries).start() as broker:
        push = broker.socket(zmq.PUSH, "ingress")
        push.send(msgpack.packb(["emial", None, 1]))
        push.send(b"\xc1\xc1\xc1")
        push.send(b"")
        push.send(msgpack.packb(["email", None, 1]))
        wait_for("the good one is there", lambda: broker.topic("email")["ready"] == 1)
        wait_for("the bad ones are dead", lambda: broker.topic("$invalid")["dead"] == 3)
        answer = wait_for("they can be listed", lambda: [
            a for a in [broker.admin(["DLQ.LIST", "$invalid"])[1]] if len(a["items"]) == 3])[0]
        assert {i["reason"] for i in answer["items"]} == {"invalid"}
        assert answer["items"][0]["error"][0] == "UNKNOWN_TOPIC"
        broker.check_law()


def test_req_client_reads_one_confirm_a_request(binaries):
    with Broker(binaries).start() as broker:
        req = broker.socket(zmq.REQ, "front")
        for seq in (None, "mine"):
            req.send_multipart([msgpack.packb(["PUBLISH", seq]), msgpack.packb(["api", f"x{seq}", 1])])
            command, again, outcome = msgpack.unpackb(req.recv())
            assert (command, again, outcome["accepted"]) == ("CONFIRM", seq, 1), outcome
            assert outcome["durability"] == "sync"


def test_assigned_id_is_told_and_delivered(binaries):
    with Broker(binaries).start() as broker:
        publisher = Publisher(broker)
        publisher.publish([["api", None, 1]])
        [[seq, index, assigned]] = publisher.confirm()[2]["ids"]
        publisher.publish([["db", None, 1], ["api", None, 2], ["db", None, 3]], ids=True)
        ids = {i: text for _, i, text in publisher.confirm()[2]["ids"]}
        worker = Worker(broker, ["api", "db"])
        got = {event[2] if event[0] == "api" else event[2] + 10: event[1]
               for _, _, event in worker.take(4)}
        assert (seq, index) == (1, 0) and got[1] == assigned
        assert got == {1: assigned, 11: ids[0], 2: ids[1], 13: ids[2]}
        assert len(set(got.values())) == 4


def test_refusals_name_the_event(binaries):
    with Broker(binaries).start() as broker:
        publisher = Publisher(broker)
        publisher.publish([["api", "a", 1], ["ipa", "b", 2], ["ipa", "c", 3], [7, "d", 4],
                           ["db", "", 5], ["db", "f", 6]])
        _, seq, outcome = publisher.confirm()
        assert outcome["accepted"] == 2 and seq == 1
        assert [item[:3] for item in outcome["refused"]] == [
            [1, [1, 2], "UNKNOWN_TOPIC"], [1, [3, 4], "BAD_EVENT"]]
        assert "api" in outcome["refused"][0][3]


def test_atomic_takes_all_or_none(binaries):
    with Broker(binaries).start() as broker:
        publisher = Publisher(broker)
        publisher.publish([["api", "a", 1], ["nope", "b", 2]], atomic=True)
        outcome = publisher.confirm()[2]
        assert outcome["accepted"] == 0
        assert [1, None, "UNKNOWN_TOPIC"] in [item[:3] for item in outcome["refused"]]
        publisher.publish([["api", "a", 1], ["db", "b", 2]], atomic=True)
        assert publisher.confirm()[2]["accepted"] == 2
        assert broker.topic("api")["ready"] == broker.topic("db")["ready"] == 1


def test_cut_between_publish_and_confirm_loses_and_doubles_nothing(binaries):
    with Broker(binaries).start() as broker:
        session = os.urandom(16)
        heard = 0
        for round_number in range(20):
            publisher = Publisher(broker, session, heard)
            last = publisher.welcome[2]["last"]
            while heard < last:  # the CONFIRM of what the cut had hidden
                heard = publisher.confirm()[1]
            publisher.seq = last
            publisher.publish([["api", f"{round_number}", round_number]])
            if round_number % 3 == 0:
                heard = publisher.confirm()[1]
            publisher.close()  # no CONFIRM is read
        publisher = Publisher(broker, session, heard)
        last = publisher.welcome[2]["last"]
        # One more under the next seq: if an undecided one has that seq already, it is the one that counts.
        publisher.publish([["api", "marker", 0]], seq=last + 1)
        count = heard
        while count < last + 1:
            count = publisher.confirm()[1]
        assert broker.topic("api")["accepted"] == count <= 21
        for seq in range(1, count + 1):  # every one of them again
            publisher.send(["PUBLISH", seq], msgpack.packb(["api", "again", 0]))
        publisher.publish([["api", "last", 0]], seq=count + 1)
        heard = 0
        while heard < count + 1:
            heard = publisher.confirm()[1]
        assert broker.topic("api")["accepted"] == count + 1
        broker.check_law()


def test_session_outcomes_survive_a_restart(binaries):
    with Broker(binaries).start() as broker:
        session = os.urandom(16)
        publisher = Publisher(broker, session)
        publisher.publish([["api", "1", 1], ["nope", "2", 2]])
        publisher.confirm()
        publisher.publish([["nope", "3", 3]])
        publisher.confirm()
        publisher.publish([["api", "4", 4]])
        publisher.confirm()
        broker.kill()
        broker.start()
        again = Publisher(broker, session, heard=0)
        assert again.welcome[2]["last"] == 3 and again.welcome[2]["epoch"] == 2
        _, seq, outcome = again.confirm()
        assert seq == 3 and outcome["accepted"] == 2
        refused = {item[0]: item[2] for item in outcome["refused"]}
        assert refused == {1: "UNKNOWN_TOPIC", 2: "SEQ"}
        assert broker.topic("api")["ready"] == 2


def test_gap_and_takeover_are_answered(binaries):
    with Broker(binaries).start() as broker:
        publisher = Publisher(broker)
        publisher.publish([["api", "1", 1]], seq=5)
        error = publisher.receive("ERROR")
        assert error[1] == "SEQ" and error[3] == {"seq": 5, "expected": 1}
        second = Publisher(broker, publisher.session)
        publisher.publish([["api", "1", 1]], seq=1)
        assert publisher.receive("ERROR")[1] == "DENIED"
        second.publish([["api", "1", 1]], seq=1)
        assert second.confirm()[2]["accepted"] == 1


def test_window_overrun_is_refused(binaries):
    with Broker(binaries).start() as broker:
        publisher = Publisher(broker)
        events = b"".join(msgpack.packb(["api", None, 1]) for _ in range(9000))
        for seq in (1, 2, 3, 4):
            publisher.send(["PUBLISH", seq], events)
        accepted = refused = 0
        seq = 0
        while seq < 4:
            _, seq, outcome = publisher.confirm()
            accepted += outcome["accepted"]
            refused += sum(1 for item in outcome.get("refused", []) if item[2] == "WINDOW")
        assert accepted + 9000 * refused == 36000 and accepted >= 9000
        assert broker.topic("api")["accepted"] == accepted


def test_full_topic_reinserts_then_overflows_and_returns(binaries):
    topics = """small
    capacity = 10
    insert_attempts = 2
    insert_base = 20ms
    overflow_rate = 1000"""
    with Broker(binaries, topics).start() as broker:
        publisher = Publisher(broker)
        publisher.publish([["small", str(i), i] for i in range(50)])
        assert publisher.confirm()[2]["accepted"] == 50
        wait_for("the rest overflowed", lambda: broker.topic("small")["dead"] == 40)
        assert broker.topic("small")["overflowed"] == 40
        worker = Worker(broker, ["small"], credit=5)
        seen = set()
        while len(seen) < 50:
            for tag, _, event in worker.take(1):
                seen.add(event[2])
                worker.send(["ACK", [tag]])
        wait_for("all are done", lambda: broker.topic("small")["done"] == 50)
        assert broker.topic("small")["failed"] == 0
        broker.check_law()


def test_refuse_when_full_says_so(binaries):
    with Broker(binaries, "strict\n    capacity = 2\n    on_full = refuse").start() as broker:
        publisher = Publisher(broker)
        publisher.publish([["strict", str(i), i] for i in range(5)])
        outcome = publisher.confirm()[2]
        assert outcome["accepted"] == 2 and outcome["refused"][0][:3] == [1, [2, 4], "FULL"]


def test_delay_and_ttl(binaries):
    with Broker(binaries).start() as broker:
        publisher = Publisher(broker)
        publisher.publish([["api", "later", 1, {"delay": 4000}], ["api", "now", 2],
                           ["api", "short", 3, {"ttl": 1}]])
        publisher.confirm()
        assert broker.topic("api")["scheduled"] == 1
        import select
        select.select([], [], [], 0.05)  # the fault's own delay: the ttl runs out
        worker = Worker(broker, ["api"])
        assert [event[1] for _, _, event in worker.take(2)] == ["now", "later"]
        wait_for("the short one is dead", lambda: broker.topic("api")["dead"] == 1)
        item = broker.admin(["DLQ.LIST", "api"])[1]["items"]
        assert [i["reason"] for i in item] == ["expired"]
