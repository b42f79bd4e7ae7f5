"""A worker process of the scenario of ordering keys. SPDX-License-Identifier: MIT

usage: keyed.py ENDPOINT FILE NAME SEED

Writes "begin NAME KEY I [WORKER…]" before it works on an event (with the workers that were taken
for lost while they had it), "end NAME KEY I" before it acknowledges it and "kept NAME KEY I" once
that is durable. One in ten fails, some are given back. "leave" on standard input drops the
connection, answered "left"; "join" makes a new one."""
import os
import random
import sys

import msgpack
import zmq

FAILED, RELEASED = 0.1, 0.01


class Hand:
    def __init__(self, endpoint, path, name, seed):
        self.endpoint, self.name, self.dice = endpoint, name, random.Random(seed)
        self.file = os.open(path, os.O_WRONLY | os.O_APPEND)
        self.context, self.poller, self.socket = zmq.Context(), zmq.Poller(), None
        self.seq, self.unheard = 0, {}  # seq of an ACK: its events by tag
        self.poller.register(sys.stdin.fileno(), zmq.POLLIN)

    def note(self, kind, *words):
        os.write(self.file, (" ".join(map(str, (kind, self.name, *words))) + "\n").encode())

    def join(self):
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.reconnect_ivl = 10
        self.socket.connect(self.endpoint)
        self.poller.register(self.socket, zmq.POLLIN)
        self.send(["READY", 1, {"topics": ["email"], "credit": 100, "name": self.name,
                                "heartbeat": 700}])

    def leave(self):
        self.poller.unregister(self.socket)
        self.socket.close(0)
        self.unheard = {}
        os.write(1, b"left\n")

    def send(self, header):
        self.socket.send(msgpack.packb(header))

    def run(self):
        while True:
            ready = dict(self.poller.poll())
            if sys.stdin.fileno() in ready:
                words = os.read(0, 100).decode().split()
                if not words:
                    return  # the test has ended
                for word in words:
                    self.join() if word == "join" else self.leave()
            elif self.socket in ready:
                self.read(*self.socket.recv_multipart())

    def read(self, header, *bodies):
        header = msgpack.unpackb(header)
        if header[0] == "PING":
            self.send(["PONG"])
        elif header[0] == "ACKED":
            for tag, (key, i) in self.unheard.pop(header[1]).items():
                if tag not in header[2].get("stale", []):
                    self.note("kept", key, i)
        done = {}
        for body in bodies:
            unpacker = msgpack.Unpacker(strict_map_key=False)
            unpacker.feed(body)
            for delivery in unpacker:
                if self.works(*delivery):
                    done[delivery[0]] = delivery[2][2]
        if done:
            self.seq += 1
            self.unheard[self.seq] = done
            self.send(["ACK", list(done), {"seq": self.seq}])

    def works(self, tag, _, event, info=None):
        key, i = event[2]
        errors = (info or {}).get("errors", [])
        self.note("begin", key, i, *[e[4] for e in errors if e[0] == "WORKER_LOST"])
        luck = self.dice.random()
        if luck < FAILED + RELEASED:
            self.send(["NACK", [tag], 500, "of the test",
                       {"release": luck >= FAILED, "retry": 1}])
            return False
        self.note("end", key, i)
        return True


if __name__ == "__main__":
    Hand(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4]).run()
