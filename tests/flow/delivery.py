"""What the tests of delivery semantics ask and say. SPDX-License-Identifier: MIT"""
import time

import msgpack
import zmq

from support import Publisher


def publish(broker, events, **options):
    """Publishes all of them in one message; the outcome."""
    publisher = Publisher(broker)
    publisher.publish(events, **options)
    outcome = publisher.confirm()[2]
    publisher.close()
    return outcome


def accept(broker, events):
    """The same where every event must be taken."""
    outcome = publish(broker, events)
    assert outcome["accepted"] == len(events), outcome


def ask(broker, *request):
    """An admin command that must go well."""
    word, value = broker.admin(list(request))[:2]
    assert word == "OK", (request, word, value)
    return value


def item(broker, name, command="EVENT.EXPLAIN", topic=None):
    """What SHOW or EXPLAIN says of an event that is in one topic."""
    items = ask(broker, command, name, {"topic": topic} if topic else {})["items"]
    assert len(items) == 1, items
    return items[0]


def reason(broker, name):
    return item(broker, name)["reason"]


def state(broker, name):
    return item(broker, name, "EVENT.SHOW")["state"]


def answer(worker, tags, kind="ACK", *words, **options):
    """ACK or NACK; what ACKED says once it is durable."""
    answer.seq += 1
    worker.send([kind, tags, *words, dict(options, seq=answer.seq)])
    heard = worker.receive("ACKED")
    assert heard[1] == answer.seq, heard
    return heard[2]


answer.seq = 1 << 20


def fail(worker, delivery, code=500, **options):
    return answer(worker, [delivery[0]], "NACK", code, "of the test", **options)


def names(deliveries):
    return [delivery[2][1] for delivery in deliveries]


def timed(call):
    """What it returns, and how many ms it took."""
    start = time.monotonic()
    value = call()
    return value, (time.monotonic() - start) * 1000


def ends(worker, count):
    """Takes so many and is done with them; their ids."""
    got = worker.take(count)
    assert answer(worker, [d[0] for d in got])["done"] == count
    return names(got)


class Notices:
    """What the stats socket says as it happens."""

    def __init__(self, broker, kind=""):
        self.socket = broker.socket(zmq.SUB, "stats")
        self.socket.subscribe(b"notice." + kind.encode())
        self.heard = []
        self.socket.subscribe(b"stats.broker")  # what comes each second: now the first is known too
        assert self.socket.poll(30000), "nobody publishes"
        self.socket.unsubscribe(b"stats.broker")

    def wait(self, what, fits, seconds=30):
        """The next one that fits; those before it are passed over."""
        deadline = time.monotonic() + seconds
        while True:
            left = deadline - time.monotonic()
            assert left > 0 and self.socket.poll(int(left * 1000)), (what, self.heard)
            subject, body = self.socket.recv_multipart()
            if not subject.startswith(b"notice."):
                continue
            self.heard.append((subject.decode(), msgpack.unpackb(body)))
            if fits(*self.heard[-1]):
                return self.heard[-1][1]
