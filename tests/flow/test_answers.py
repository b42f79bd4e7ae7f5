"""What workers on libeventflow say: results, downstreams, emits, extended leases, cancelled events.

Against a back socket that shows every frame, and against a broker. SPDX-License-Identifier: MIT"""
import datetime
import json
import os
import signal
import subprocess
import time

import msgpack
import zmq

from support import Broker, wait_for


class Back:
    """A back socket by hand, and one worker process at it."""

    def __init__(self, *command, **environment):
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.ROUTER)
        self.socket.linger = 0
        port = self.socket.bind_to_random_port("tcp://127.0.0.1")
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True,
            env=dict(os.environ, EVENTFLOW_BACK=f"tcp://127.0.0.1:{port}", **environment))
        self.worker = None
        self.seen = []  # every command that came
        self.ready = self.receive("READY")
        self.send(["WELCOME", 1, {"broker": "b", "epoch": 1, "name": "w", "lease": {"api": 30000},
                                  "stale": []}])

    def send(self, header, *body):
        self.socket.send_multipart([self.worker, msgpack.packb(header), *body])

    def receive(self, wanted, seconds=30.0):
        """The next header of this command (or one of these), with its body's events behind it."""
        wanted = (wanted,) if isinstance(wanted, str) else wanted
        deadline = time.monotonic() + seconds
        while True:
            if not self.socket.poll(max(0, int((deadline - time.monotonic()) * 1000))):
                raise AssertionError(f"no {wanted} within {seconds} s")
            self.worker, header, *body = self.socket.recv_multipart()
            header = msgpack.unpackb(header, strict_map_key=False)
            self.seen.append(header[0])
            if header[0] == "PING":
                self.send(["PONG"])
            elif header[0] in wanted:
                unpacker = msgpack.Unpacker()
                unpacker.feed(b"".join(body))
                events = list(unpacker)
                return header + [events] if events else header

    def deliver(self, tag, payload, meta=None, *more):
        event = ["api", f"e{tag}", payload] + ([meta] if meta else [])
        self.send(["EVENTS"], msgpack.packb([tag, 1 + bool(more), event, *more]))

    def line(self):
        return self.process.stdout.readline().rstrip("\n")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.context.destroy(linger=0)


def answering(binaries):
    return os.path.join(os.path.abspath(binaries), "..", "tests", "answering")


def exec_worker(binaries, *words):
    return [os.path.join(os.path.abspath(binaries), "eventflow-worker"), "exec", "--topic", "api", *words]


def test_ack_carries_result_downstream_and_events(binaries):
    with Back(answering(binaries)) as back:
        back.deliver(1, "result", {"key": "k", "user": "u", "downstream": "d"})
        assert back.line() == "event attempt=1 n=0 lease=told id=e1 key=k user=u downstream=d"
        assert back.receive("ACK") == ["ACK", [1], {"seq": 1, "downstream": "smtp.example.org",
                                                    "result": {"k": 42}}]
        back.deliver(2, "emit")
        assert back.receive("ACK") == ["ACK", [2], {"seq": 2, "downstream": "smtp.example.org"},
                                       [["db", None, 7]]]
        back.deliver(3, "both", None, {"n": 12, "accepted": 1, "deadline": 2, "errors": []})
        assert back.receive("ACK")[2]["result"] == {"k": 42}
        assert [back.line() for _ in range(2)][1].startswith("event attempt=2 n=12 ")


def test_acks_of_one_downstream_share_a_message(binaries):
    with Back(answering(binaries)) as back:
        words = ["at", "at", "at", "plain", "plain", "at"]
        back.send(["EVENTS"], b"".join(msgpack.packb([11 + i, 1, ["api", None, word]])
                                       for i, word in enumerate(words)))
        assert [back.receive("ACK")[1:] for _ in range(3)] == [
            [[[11, 13]], {"seq": 1, "downstream": "smtp.example.org"}],
            [[[14, 15]], {"seq": 2}], [[16], {"seq": 3, "downstream": "smtp.example.org"}]]


def test_nack_says_where_and_when(binaries):
    with Back(answering(binaries)) as back:
        said = {}
        for tag, word in enumerate(("retry", "dead", "release"), 1):
            back.deliver(tag, word)
            said[word] = back.receive("NACK")
            assert said[word][1:4] == [[tag], "LATE", "not now"]
        where = {"downstream": "smtp.example.org"}
        assert said["retry"][4] == {"seq": 1, "retry": 1500, **where}
        assert said["dead"][4] == {"seq": 2, "dead": True, **where}
        assert said["release"][4] == {"seq": 3, "release": True, "retry": 1500, **where}


def test_what_cannot_be_said_is_told_to_the_caller(binaries):
    with Back(answering(binaries)) as back:
        back.deliver(1, "unsayable")
        assert back.receive("ACK") == ["ACK", [1], {"seq": 1}]
        assert [back.line() for _ in range(3)][1:] == ["said -3", "said -3"]


def test_expiring_and_extend(binaries):
    with Back(answering(binaries)) as back:
        back.deliver(5, "extend")
        back.send(["EXPIRING", [[4, 6]], 6000])
        assert back.receive("EXTEND") == ["EXTEND", [5], 45000]
        assert [back.line() for _ in range(3)][1:] == ["expiring left=some", "extended 0"]


def test_a_cancelled_event_is_answered(binaries):
    with Back(answering(binaries)) as back:
        back.deliver(5, "hold")
        back.send(["CANCEL", [[5, 9]], "an operator took it away"])
        assert back.receive("NACK")[1:] == [[5], "CANCELLED", "", {"seq": 1, "release": True}]
        assert [back.line() for _ in range(3)][1:] == ["cancel reason=an operator took it away",
                                                      "answered 0"]


def test_a_tag_that_was_lost_with_the_connection_is_not_in_hand(binaries):
    with Back(answering(binaries)) as back:
        back.deliver(5, "hold")
        back.line()
        back.send(["ERROR", "UNKNOWN_PEER", "say READY first"])
        assert back.receive("READY")[2]["held"] == [5]
        back.send(["WELCOME", 1, {"broker": "b", "epoch": 2, "stale": [5]}])
        assert [back.line() for _ in range(2)] == [
            "cancel reason=the lease was lost with the connection", "answered -3"]


def test_a_tag_that_comes_again_while_the_first_is_being_ended(binaries):
    """A broker whose data are new counts from 1: the second event goes back, the first answers nothing for it."""
    with Back(*exec_worker(binaries, "--", "sh", "-c", "trap 'sleep 1; exit 0' TERM; sleep 60 & wait")) as back:
        back.deliver(5, "x")
        wait_for("it runs", lambda: open(f"/proc/{back.process.pid}/task/{back.process.pid}/children").read())
        back.send(["ERROR", "UNKNOWN_PEER", "say READY first"])
        assert back.receive("READY")[2]["held"] == [5]
        back.send(["WELCOME", 1, {"broker": "other", "epoch": 1, "stale": [5]}])
        back.deliver(5, "another")
        answer = back.receive(("ACK", "NACK"))
        assert answer[:2] == ["NACK", [5]] and answer[4]["release"], answer
        back.send(["ACKED", 1])
        back.process.terminate()
        assert back.process.wait(60) == 0 and "ACK" not in back.seen


def test_a_clock_that_differs_from_the_brokers(binaries):
    """The broker's wall clock isn't the worker's on another machine: a lease begins when the event comes."""
    for apart in (-3600_000, 3600_000):
        with Back(*exec_worker(binaries, "--result", "--", "sh", "-c", "echo '\"'$EVENTFLOW_DEADLINE'\"'")) as back:
            back.deliver(1, "x", {}, {"accepted": 1, "n": 1, "deadline": int(time.time() * 1000) + apart, "errors": []})
            answer = back.receive(("ACK", "NACK"))
            assert answer[0] == "ACK", answer
            told = datetime.datetime.fromisoformat(answer[2]["result"].replace("Z", "+00:00")).timestamp()
            assert time.time() - 30 < told < time.time() + 31, answer


def test_what_was_done_just_now_is_held_over_a_new_ready(binaries):
    """An answer that is still being gathered when the worker says READY is named as held."""
    with Back(answering(binaries)) as back:
        for tag in range(10, 30):
            os.kill(back.process.pid, signal.SIGSTOP)  # so that it finds both at once
            back.deliver(tag, "plain")
            back.send(["ERROR", "UNKNOWN_PEER", "say READY first"])
            os.kill(back.process.pid, signal.SIGCONT)
            header = back.receive(("READY", "ACK"))
            acked = header[0] == "ACK"
            ready = back.receive("READY") if acked else header
            assert ready[2]["held"] == [tag], ready
            back.send(["WELCOME", 1, {"broker": "b", "epoch": tag, "stale": []}])
            assert back.receive("ACK")[1] == [tag]
            back.send(["ACKED", tag - 9])


def test_the_last_answer_of_a_long_drain_is_waited_for(binaries):
    """However long what was in hand took, its acknowledgement is said until it is heard."""
    words = exec_worker(binaries, "--grace", "60s", "--timeout", "60s", "--", "sleep", "11")
    with Back(*words) as back:
        back.deliver(1, "x")
        wait_for("it runs", lambda: open(f"/proc/{back.process.pid}/task/{back.process.pid}/children").read())
        back.process.terminate()
        back.receive("ACK", 40)
        back.send(["ERROR", "UNKNOWN_PEER", "say READY first"])  # the broker was started anew meanwhile
        assert back.receive("READY")[2]["held"] == [1]
        back.send(["WELCOME", 1, {"broker": "b", "epoch": 2, "stale": []}])
        seq = back.receive("ACK")[2]["seq"]
        back.send(["ACKED", seq])
        assert back.process.wait(60) == 0


def test_exec_keeps_the_output_as_result(binaries):
    script = 'read x; [ "$x" = 1 ] && echo "{\\"sent\\": [true, \\"$EVENTFLOW_DOWNSTREAM\\"]}"; ' \
             '[ "$x" = 2 ] && printf "two\\nlines\\n"; [ "$x" = 4 ] && seq 20000; ' \
             '[ "$x" = 5 ] && echo no && exit 75; exit 0'
    with Back(*exec_worker(binaries, "--result", "--downstream", "smtp", "--", "sh", "-c", script)) as back:
        results = []
        for tag in (1, 2, 3):
            back.deliver(tag, tag)
            results.append(back.receive("ACK")[2])
        assert results == [{"seq": 1, "downstream": "smtp", "result": {"sent": [True, "smtp"]}},
                           {"seq": 2, "downstream": "smtp", "result": "two\nlines"},
                           {"seq": 3, "downstream": "smtp"}]
        back.deliver(4, 4)
        assert back.receive("NACK")[2:4] == ["OUTPUT", "standard output: the result is over 64 KiB"]
        back.deliver(5, 5)
        assert back.receive("NACK")[2] == 75


def test_exec_ends_what_is_cancelled_and_answers(binaries):
    command = exec_worker(binaries, "--", "sh", "-c", "echo begin; exec sleep 30")
    with Back(*command, EVENTFLOW_DOWNSTREAM="mail") as back:
        back.deliver(5, 1)
        assert back.line() == "begin"
        back.send(["CANCEL", [5], "released by an operator"])
        assert back.receive("NACK")[1:] == [[5], "SIGNAL_15", "", {
            "seq": 1, "release": True, "downstream": "mail"}]


def test_exec_extends_the_lease_as_long_as_the_command_may_run(binaries):
    with Back(*exec_worker(binaries, "--timeout", "5m", "--", "sleep", "30")) as back:
        back.deliver(5, 1)
        back.send(["EXPIRING", [5], 6000])
        command, tags, ms = back.receive("EXTEND")
        assert tags == [5] and 290000 < ms <= 301000, ms
    with Back(*exec_worker(binaries, "--", "sh", "-c", "echo begin; exec sleep 30")) as back:
        back.deliver(5, 1)
        back.line()
        back.send(["EXPIRING", [5], 6000])
        back.send(["CANCEL", [5], "over"])
        back.receive("NACK")
        assert "EXTEND" not in back.seen


def test_exec_emits_with_the_acknowledgement(binaries):
    script = 'echo "{\\"topic\\": \\"db\\", \\"id\\": \\"of-$EVENTFLOW_ID\\", \\"payload\\": $(cat)}"; echo'
    bad = 'cat > /dev/null; echo "{\\"topic\\": \\"nowhere\\", \\"payload\\": 1}"'
    with Broker(binaries).start() as broker:
        worker = broker.worker_process("--emit", "--", "sh", "-c", script, topic="api")
        broker.cli("publish", "[1, 2]", "--topic", "api", "--id", "one")
        wait_for("it is done", lambda: broker.topic("api")["done"] == 1)
        event = json.loads(broker.cli("consume", "--topic", "db", "--count", "1"))
        assert (event["id"], event["payload"]) == ("of-one", [1, 2])
        worker.terminate()
        worker.wait(timeout=60)
        worker = broker.worker_process("--emit", "--", "sh", "-c", bad, topic="email")
        broker.cli("publish", "1", "--topic", "email")
        wait_for("its events were refused", lambda: broker.topic("email")["dead"] == 1)
        letter = wait_for("it is listed", lambda: broker.cli("dlq", "ls", "email", "--json"))
        assert json.loads(letter)["error"][0] == "UNKNOWN_TOPIC"
        worker.terminate()
        worker.wait(timeout=60)
        broker.check_law()


def test_a_long_command_keeps_its_lease(binaries):
    with Broker(binaries, "defaults\n    lease = 4s").start() as broker:
        worker = broker.worker_process("--timeout", "60s", "--", "sleep", "5.5", topic="api")
        broker.cli("publish", "1", "--topic", "api")
        wait_for("it is done", lambda: broker.topic("api")["done"] == 1)
        item = broker.topic("api")
        assert (item["deliveries"], item["failed"]) == (1, 0), item
        worker.terminate()
        worker.wait(timeout=60)


def test_publish_says_what_an_event_may_carry(binaries):
    with Broker(binaries).start() as broker:
        broker.cli("publish", '"x"', "--topic", "api", "--id", "one", "--key", "k", "--user", "u", "--type",
                   "t", "--downstream", "d", "--schema", "3", "--trace", "00-1-2-01", "--ttl", "1h",
                   "--headers", '{"source": "shop"}', "--on-dead", '{"topic": "db", "payload": [1]}')
        event = json.loads(broker.cli("consume", "--topic", "api", "--count", "1"))
        assert {k: event[k] for k in ("id", "key", "user", "type", "downstream", "schema", "trace", "ttl",
                                      "headers", "on_dead")} == {
            "id": "one", "key": "k", "user": "u", "type": "t", "downstream": "d", "schema": 3,
            "trace": "00-1-2-01", "ttl": 3600000, "headers": {"source": "shop"},
            "on_dead": ["db", None, [1]]}, event
        broker.cli("publish", "1", "--topic", "api", "--at", "2100-01-31T08:00:00Z")
        broker.cli("publish", "1", "--topic", "api", "--delay", "1h")
        assert broker.topic("api")["scheduled"] == 2
        for flag, value in (("--at", "soon"), ("--ttl", "1"), ("--schema", "x"), ("--headers", "[1]"),
                            ("--on-dead", "{")):
            broker.cli("publish", "1", "--topic", "api", flag, value, code=2)
        broker.check_law()


def test_publish_prints_the_id_that_was_given(binaries):
    with Broker(binaries).start() as broker:
        printed = broker.cli("publish", "1", "--topic", "api").strip()
        told = json.loads(broker.cli("publish", "2", "--topic", "api", "--json"))["id"]
        assert broker.cli("publish", "3", "--topic", "api", "--id", "mine") == ""
        lines = broker.cli("consume", "--topic", "api", "--count", "3").splitlines()
        assert [json.loads(line)["id"] for line in lines] == [printed, told, "mine"]


def test_publish_without_a_topic_leaves_it_to_the_routes(binaries):
    with zmq.Context() as context, context.socket(zmq.ROUTER) as front:
        front.linger = 0
        port = front.bind_to_random_port("tcp://127.0.0.1")
        words = ["publish", "1", "--type", "USER_SIGNUP", "--headers", '{"source": "shop"}', "--json"]
        tool = subprocess.Popen([os.path.join(os.path.abspath(binaries), "eventflow"), *words],
                                stdout=subprocess.PIPE, text=True,
                                env=dict(os.environ, EVENTFLOW_FRONT=f"tcp://127.0.0.1:{port}"))
        answers = {"HELLO": ["WELCOME", 1, {"last": 0, "window": 100, "heartbeat": 1000}],
                   "PUBLISH": ["CONFIRM", 1, {"accepted": 1, "duplicates": 0, "window": 100}]}
        event = None
        while event is None:
            assert front.poll(10000)
            peer, header, *body = front.recv_multipart()
            command = msgpack.unpackb(header)[0]
            front.send_multipart([peer, msgpack.packb(answers[command])])
            event = msgpack.unpackb(body[0]) if body else None
        assert event == [None, None, 1, {"type": "USER_SIGNUP", "headers": {"source": "shop"}}], event
        out, _ = tool.communicate(timeout=20)
        assert json.loads(out)["accepted"] == 1 and tool.returncode == 0


def test_atomic_publish_takes_all_or_none(binaries):
    lines = ['{"topic": "api", "id": "a", "payload": 1}', '{"topic": "nope", "payload": 2}',
             '{"topic": "db", "id": "b", "payload": 3}']
    with Broker(binaries).start() as broker:
        out = broker.cli("publish", "-", "--atomic", "--json", input="\n".join(lines), code=4)
        assert json.loads(out) == {"accepted": 0, "duplicates": 0, "refused": 3, "unknown": 0}, out
        assert broker.topic("api")["accepted"] == broker.topic("db")["accepted"] == 0
        out = broker.cli("publish", "-", "--atomic", "--json", input="\n".join(lines[::2]))
        assert json.loads(out)["accepted"] == 2
        broker.cli("publish", "1", "--topic", "api", "--atomic", "--count", "5")
        assert (broker.topic("api")["ready"], broker.topic("db")["ready"]) == (6, 1)
        broker.cli("publish", "1", "--topic", "api", "--atomic", "--push", code=2)
        large = "\n".join(['{"payload": "' + "x" * 900000 + '"}'] * 5)
        broker.cli("publish", "-", "--topic", "api", "--atomic", input=large, code=6)
