"""A worker process of the scenario of ordering keys. SPDX-License-Identifier: MIT

usage: keyed.py ENDPOINT FILE NAME SEED

Writes "begin NAME KEY I [WORKER…]" before it works on an event (with the workers that were taken
for lost while they had it) and "end NAME KEY I" before it acknowledges it; one in ten fails.
"leave" on standard input drops the connection, answered "left"; "join" makes a new one."""
import os
import random
import sys

import msgpack
import zmq

FAILED = 0.1


class Hand:
    def __init__(self, endpoint, path, name, seed):
        self.endpoint, self.name, self.dice = endpoint, name, random.Random(seed)
        self.file = os.open(path, os.O_WRONLY | os.O_APPEND)
        self.context, self.poller, self.socket = zmq.Context(), zmq.Poller(), None
        self.poller.register(sys.stdin.fileno(), zmq.POLLIN)

    def note(self, *words):
        os.write(self.file, (" ".join(map(str, words)) + "\n").encode())

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
        self.socket = None
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
        for body in bodies:
            unpacker = msgpack.Unpacker(strict_map_key=False)
            unpacker.feed(body)
            for delivery in unpacker:
                self.work(*delivery)

    def work(self, tag, _, event, info=None):
        key, i = event[2]
        errors = (info or {}).get("errors", [])
        self.note("begin", self.name, key, i, *[e[4] for e in errors if e[0] == "WORKER_LOST"])
        if self.dice.random() < FAILED:
            self.send(["NACK", [tag], 500, "of the test"])
        else:
            self.note("end", self.name, key, i)
            self.send(["ACK", [tag]])


if __name__ == "__main__":
    Hand(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4]).run()
