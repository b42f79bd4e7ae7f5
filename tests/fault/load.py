"""Publishers and workers in one loop, made to be cut off. SPDX-License-Identifier: MIT

All of them live in the caller's thread: `Load.pump` moves frames until a condition holds. While a
test does something else to the broker they stand still, so what happens between two pumps is the
test's doing alone. Publishers keep several messages outstanding under one session; workers answer
whole batches with ranges of tags."""
import time

import msgpack
import zmq

from ledger import payload_of

SILENT = 1.5  # seconds without a frame until a peer connects anew


class Peer:
    """A DEALER that can lose its connection at any time."""
    endpoint = None

    def __init__(self, load, dice):
        self.load, self.ledger, self.dice = load, load.ledger, dice
        self.socket = None
        self.packer = msgpack.Packer()
        self.connect()

    def connect(self):
        if self.socket is not None:
            self.load.poller.unregister(self.socket)
            self.load.peers.pop(self.socket)
            self.socket.close(0)
        self.socket = self.load.context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.reconnect_ivl = 10
        self.socket.sndhwm = self.socket.rcvhwm = 0
        self.socket.connect(self.load.endpoints[self.endpoint])
        self.load.poller.register(self.socket, zmq.POLLIN)
        self.load.peers[self.socket] = self
        self.is_welcome = False
        self.heard_at = time.monotonic()
        self.introduce()

    def send(self, header, *bodies):
        self.socket.send_multipart([self.packer.pack(header), *bodies])

    def read(self):
        for _ in range(50):  # others want their turn
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self.heard_at = time.monotonic()
            header = msgpack.unpackb(frames[0])
            if header[0] == "PING":
                self.send(["PONG"])
            elif header[0] == "ERROR":  # libzmq has reconnected unseen, or the session was taken
                return self.connect()
            else:
                self.take(header, frames[1:])
        return None

    def tick(self, now):
        if now - self.heard_at > SILENT:
            self.connect()


class Publisher(Peer):
    endpoint = "front"

    def __init__(self, load, name, dice):
        self.name = name
        self.session = dice.randbytes(16)
        self.unconfirmed = {}  # seq: names of its events
        self.heard = self.seq = self.count = 0
        super().__init__(load, dice)

    def introduce(self):
        self.send(["HELLO", 1, {"session": self.session, "heard": self.heard}])

    def take(self, header, _):
        if header[0] == "WELCOME":
            self.is_welcome = True
            for seq in sorted(self.unconfirmed):
                if seq > header[2]["last"]:
                    self.publish(seq)
        elif header[0] == "CONFIRM":
            self.confirm(header[1], header[2])

    def tick(self, now):
        super().tick(now)
        while (self.is_welcome and self.load.publishing
               and len(self.unconfirmed) < self.load.outstanding):
            self.seq += 1
            names = []
            for _ in range(self.dice.randrange(1, self.load.batch)):
                self.count += 1
                names.append(f"{self.dice.choice(self.load.topics)}:{self.name}-{self.count}")
            self.unconfirmed[self.seq] = names
            self.ledger.sent.update(names)
            self.publish(self.seq)

    def publish(self, seq):
        pack, pad = self.packer.pack, self.ledger.pad
        self.send(["PUBLISH", seq], b"".join(
            pack([n[:n.index(":")], n, payload_of(n, pad)]) for n in self.unconfirmed[seq]))

    def confirm(self, upto, outcome):
        refused = {}
        for seq, index, code, _ in outcome.get("refused", []):
            size = len(self.unconfirmed.get(seq, []))
            first, last = index if isinstance(index, list) else (
                (0, size - 1) if index is None else (index, index))
            refused.update({(seq, i): code for i in range(first, last + 1)})
        accepted = 0
        for seq in sorted(s for s in self.unconfirmed if s <= upto):
            for i, name in enumerate(self.unconfirmed.pop(seq)):
                if (seq, i) in refused:
                    self.ledger.refuse(name, refused[(seq, i)])
                    code = refused[(seq, i)]
                    self.load.codes[code] = self.load.codes.get(code, 0) + 1
                else:
                    self.ledger.confirm(name)
                    accepted += 1
        # what was sent again is answered again, so an answer may count more, never less
        if accepted > outcome["accepted"] + outcome["duplicates"]:
            self.ledger.wrong.append(("counts of a CONFIRM", upto, accepted, outcome))
        self.heard = max(self.heard, upto)


class Worker(Peer):
    """Works on everything; fails some. With a session it repeats its answers after a reconnect."""
    endpoint = "back"

    def __init__(self, load, dice, has_session=False):
        self.session = dice.randbytes(16) if has_session else None
        self.waiting = {}  # seq of an ACK: {tag: name}
        self.seq = 0
        self.topics = load.worked
        super().__init__(load, dice)

    def introduce(self):
        options = {"topics": self.topics, "credit": self.load.credit, "heartbeat": 500}
        if self.session:
            options["session"] = self.session
            options["held"] = ranges(t for tags in self.waiting.values() for t in tags)
        else:
            self.waiting = {}  # what was answered and not heard of stays unknown
        self.send(["READY", 1, options])

    def take(self, header, bodies):
        if header[0] == "EVENTS":
            self.work(bodies)
        elif header[0] == "ACKED":
            self.acked(self.waiting.pop(header[1], {}), header[2])
        elif header[0] == "WELCOME":
            self.repeat(set(header[2]["stale"]))

    def repeat(self, stale):
        again, self.waiting = self.waiting, {}
        for tags in again.values():
            kept = {t: n for t, n in tags.items() if t not in stale}
            if kept:
                self.acknowledge(kept)

    def acked(self, tags, outcome):
        """A range names the connection's own tags alone: of one sent again some may be passed over
        in silence. Then nothing is known of the rest."""
        stale = set(outcome.get("stale", []))
        if outcome["done"] > len(tags):
            self.ledger.wrong.append(("counts of an ACKED", len(tags), outcome))
        if outcome["done"] + len(stale) == len(tags):
            self.ledger.finish({n: t for t, n in tags.items() if t not in stale})

    def work(self, bodies):
        done = {}
        for body in bodies:
            unpacker = msgpack.Unpacker(strict_map_key=False, max_buffer_size=1 << 26)
            unpacker.feed(body)
            for delivery in unpacker:
                tag, name = delivery[0], self.ledger.deliver(delivery[0], delivery[2])
                luck = self.dice.random()
                if luck < self.load.retried:
                    self.send(["NACK", [tag], 500, "a fault of the test"])
                elif luck < self.load.retried + self.load.rejected:
                    self.ledger.rejected.add(name)
                    self.send(["NACK", [tag], 65, "for good", {"dead": True}])
                elif luck < self.load.retried + self.load.rejected + self.load.released:
                    self.send(["NACK", [tag], 0, "not now", {"release": True, "retry": 10}])
                else:
                    done[tag] = name
        if done:
            self.ledger.answered.update(done.values())
            self.acknowledge(done)

    def acknowledge(self, tags):
        self.seq += 1
        self.waiting[self.seq] = tags
        self.send(["ACK", ranges(tags), {"seq": self.seq}])


def ranges(tags):
    """Tags as [first, last] pairs of neighbours."""
    found = []
    for tag in sorted(tags):
        if found and found[-1][1] == tag - 1:
            found[-1][1] = tag
        else:
            found.append([tag, tag])
    return found


class Load:
    """Some publishers and workers of one broker, and how they behave."""
    outstanding, batch, credit = 12, 80, 2000
    retried, rejected, released = 0.02, 0.003, 0.002

    def __init__(self, broker, ledger, dice, publishers=2, workers=2, endpoints=None,
                 worked=None):
        self.broker, self.ledger, self.topics = broker, ledger, ledger.topics
        self.endpoints = dict(broker.endpoints, **(endpoints or {}))
        self.context, self.poller = zmq.Context(), zmq.Poller()
        self.peers, self.codes = {}, {}
        self.publishing = True
        self.worked = worked or self.topics  # by our workers; others may do the rest
        self.publishers = [Publisher(self, f"p{i}", dice) for i in range(publishers)]
        self.workers = [Worker(self, dice, i % 2 == 1) for i in range(workers)]

    def reseed(self, dice):
        for peer in self.publishers + self.workers:
            peer.dice = dice

    def reconnect(self):
        """At once, where the test knows that the broker is a new one."""
        for peer in self.publishers + self.workers:
            peer.connect()

    def pump(self, what, until, seconds):
        """Moves frames until the condition holds; it is an error where it doesn't in time."""
        deadline = time.monotonic() + seconds
        while not until():
            now = time.monotonic()
            if now > deadline:
                self.ledger.file.flush()
                raise AssertionError(f"not within {seconds} s: {what}; {self.describe()}")
            for socket, _ in self.poller.poll(5):
                if socket in self.peers:
                    self.peers[socket].read()
            for peer in self.publishers + self.workers:
                peer.tick(now)

    def pump_for(self, seconds):
        end = time.monotonic() + seconds
        self.pump("time passes", lambda: time.monotonic() >= end, seconds + 60)

    def pump_confirms(self, count, seconds=120):
        target = self.ledger.total + count
        self.pump(f"{count} events are confirmed", lambda: self.ledger.total >= target, seconds)

    def drain(self, seconds=90):
        """Publishes no more until all that was has ended."""
        self.publishing = False
        self.pump("all is confirmed", lambda: not any(
            p.unconfirmed for p in self.publishers), seconds)
        self.pump("everything has ended", Seldom(
            lambda: self.ledger.is_drained(self.broker)), seconds)
        self.pump("every ACK is answered", lambda: not any(
            w.waiting for w in self.workers), seconds)

    def judge(self, seconds=90):
        self.drain(seconds)
        result = self.ledger.judge(self.broker)
        self.publishing = True
        return result

    def describe(self):
        return {"status": self.broker.process.poll(),
                "confirmed": self.ledger.total, "wrong": self.ledger.wrong[:3], "codes": self.codes,
                "unconfirmed": [len(p.unconfirmed) for p in self.publishers],
                "waiting": [len(w.waiting) for w in self.workers]}

    def close(self):
        self.context.destroy(linger=0)
        self.ledger.file.close()


class Seldom:
    """A condition that costs requests, asked every 50 ms."""

    def __init__(self, condition):
        self.condition, self.next = condition, 0

    def __call__(self):
        if time.monotonic() < self.next:
            return False
        self.next = time.monotonic() + 0.05
        return self.condition()
