"""proto/vectors.json: every frame is answered as it says. SPDX-License-Identifier: MIT"""
import json
import os

import msgpack
import zmq

from support import Broker

PATH = os.path.join(os.path.dirname(__file__), "..", "..", "proto", "vectors.json")


def answer_of(sock):
    while True:
        assert sock.poll(60000), "no answer"
        answer = msgpack.unpackb(sock.recv_multipart()[0])
        if answer[0] not in ("PING", "EVENTS"):
            return answer


def test_every_vector_is_answered(binaries):
    with open(PATH) as file:
        vectors = json.load(file)
    frames = {v["name"]: [bytes.fromhex(f) for f in v["frames"]] for v in vectors}
    assert len(vectors) > 50 and len(frames) == len(vectors)
    with Broker(binaries, routes="").start() as broker:
        for vector in vectors:
            sock = broker.socket(zmq.DEALER, vector["socket"])
            if "after" in vector:
                sock.send_multipart(frames[vector["after"]])
                answer_of(sock)
            sock.send_multipart(frames[vector["name"]])
            answer = answer_of(sock)
            wanted = vector["answer"]
            assert answer[:len(wanted)] == wanted, (vector["name"], answer)
            if "refused" in vector:
                [[_, _, code, text]] = answer[2]["refused"]
                assert code == vector["refused"] and text, (vector["name"], answer)
                assert answer[2]["accepted"] == 0
            if vector["socket"] == "front":
                sock.send(msgpack.packb(["BYE"]))
            sock.close(linger=100)
        broker.check_law()
