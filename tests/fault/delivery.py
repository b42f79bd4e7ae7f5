"""Publishers and workers of the delivery scenarios: what is sent and how each event is answered is
the scenario's choice. SPDX-License-Identifier: MIT

Both are peers of a Load (load.py) without its own publishers, workers and ledger: they live in its
loop and take part in its pumps."""
import time

import msgpack

import load as parts
from ledger import WAITING


class NoLedger:
    """A scenario that keeps its own books."""
    total, wrong = 0, []

    def __init__(self, topics, path):
        self.topics, self.file = topics, open(path, "w")


def empty_load(run, broker, topics):
    """A loop without peers."""
    ledger = NoLedger(topics, broker.directory + "/ledger")
    return parts.Load(broker, ledger, run.dice(), publishers=0, workers=0)


class Sender(parts.Peer):
    """Sends messages in order under one session, `most` outstanding; what is unconfirmed is sent
    again after a lost connection. A message is (events, options)."""
    endpoint = "front"

    def __init__(self, load, dice, messages, most=8):
        self.session = dice.randbytes(16)
        self.messages, self.most = messages, most
        self.seq = self.heard = 0
        self.unconfirmed = {}  # seq: its message's index
        self.confirmed = {}    # index: [[first, last, code], …] of what was refused of it
        self.counts = {"accepted": 0, "duplicates": 0}
        self.lost = []         # seqs that stored nothing, to be sent under new ones
        self.next = 0
        super().__init__(load, dice)
        load.publishers.append(self)

    def introduce(self):
        self.send(["HELLO", 1, {"session": self.session, "heard": self.heard}])

    def take(self, header, _):
        if header[0] == "WELCOME":
            self.is_welcome = True
            for seq in sorted(s for s in self.unconfirmed if s > header[2]["last"]):
                self.publish(seq)
        elif header[0] == "CONFIRM":
            self.confirm(header[1], header[2])

    def confirm(self, upto, outcome):
        refused = {}
        for seq, index, code, _ in outcome.get("refused", []):
            first, last = index if isinstance(index, list) else (index, index)
            refused.setdefault(seq, []).append([first, last, code])
        for name in self.counts:
            self.counts[name] += outcome[name]
        for seq in sorted(s for s in self.unconfirmed if s <= upto):
            index = self.unconfirmed.pop(seq)
            if [None, None, "SEQ"] in refused.get(seq, []):
                self.lost.append(index)
            else:
                self.confirmed[index] = refused.get(seq, [])
        self.heard = max(self.heard, upto)

    def tick(self, now):
        super().tick(now)
        while self.is_welcome and len(self.unconfirmed) < self.most:
            if self.lost:
                index = self.lost.pop(0)
            elif self.next < len(self.messages):
                index, self.next = self.next, self.next + 1
            else:
                return
            self.seq += 1
            self.unconfirmed[self.seq] = index
            self.publish(self.seq)

    def publish(self, seq):
        events, options = self.messages[self.unconfirmed[seq]]
        self.send(["PUBLISH", seq, options], b"".join(map(self.packer.pack, events)))

    def is_over(self):
        return len(self.confirmed) == len(self.messages)

    def refused(self):
        """(message's index, first, last, code) of everything that was refused."""
        return [(i, *item) for i, items in self.confirmed.items() for item in items]


class Receiver(parts.Peer):
    """Gives every delivery to `decide`, which returns None for an ACK, a list of events for an ACK
    with them, a pair (code, options) for a NACK, or "hold" to leave it unanswered."""
    endpoint = "back"

    def __init__(self, load, dice, topics, decide, credit=20):
        self.topics, self.decide, self.credit = topics, decide, credit
        self.waiting = {}  # seq: what it answered
        self.seq = 0
        self.refused = []  # what ACKED refused
        super().__init__(load, dice)
        load.workers.append(self)

    def introduce(self):
        self.waiting = {}
        self.send(["READY", 1, {"topics": self.topics, "credit": self.credit, "heartbeat": 1000}])

    def take(self, header, bodies):
        if header[0] == "ACKED":
            self.waiting.pop(header[1], None)
            self.refused += header[2].get("refused", [])
        elif header[0] == "EVENTS":
            for delivery in deliveries(bodies):
                self.answer(delivery[0], self.decide(delivery))

    def answer(self, tag, decision):
        if decision == "hold":
            return
        self.seq += 1
        self.waiting[self.seq] = tag
        if isinstance(decision, tuple):
            code, options = decision
            self.send(["NACK", [tag], code, "of the test", dict(options, seq=self.seq)])
        else:
            self.send(["ACK", [tag], {"seq": self.seq}],
                      *([b"".join(map(self.packer.pack, decision))] if decision else []))


def deliveries(bodies):
    for body in bodies:
        unpacker = msgpack.Unpacker(strict_map_key=False, max_buffer_size=1 << 26)
        unpacker.feed(body)
        yield from unpacker


def unfinished(broker, *topics):
    """How many events of them have not ended, by one answer: between two they move on."""
    return sum(item[state] for item in broker.admin(["TOPICS"])[1]["items"]
               if item["topic"] in topics for state in WAITING)


def close(load, peer):
    """One peer less."""
    load.poller.unregister(peer.socket)
    load.peers.pop(peer.socket)
    peer.socket.close(0)
    for peers in (load.publishers, load.workers):
        if peer in peers:
            peers.remove(peer)


def after(seconds):
    """A condition that holds from then on."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


def restart(broker, load, extra=None):
    broker.kill()
    broker.start(extra)
    broker.check_law()
    load.reconnect()
