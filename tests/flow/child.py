"""A persistent child of the tests: what an event's payload says is what it does.
SPDX-License-Identifier: MIT

answer: its answer, said at once; held: says so to the terminal and answers only when cancelled
(deaf: not even then); say: on standard error; exit, kill: how it ends; write: as it stands."""
import json
import os
import sys

import msgpack

IS_JSON = os.environ.get("FORMAT", "") != "msgpack"


def requests():
    if IS_JSON:
        for line in sys.stdin:
            yield json.loads(line)
        return
    unpacker = msgpack.Unpacker()
    while True:
        data = os.read(0, 65536)
        if not data:
            return
        unpacker.feed(data)
        yield from unpacker


def write(data):
    while data:
        data = data[os.write(1, data):]


def say(answer):
    write((json.dumps(answer) + "\n").encode() if IS_JSON else msgpack.packb(answer))


def tell(text):
    """What a test is to see, past the worker."""
    if "TELL" in os.environ:
        with open(os.environ["TELL"], "a") as file:
            file.write(text + "\n")


def work(tag, payload):
    if "say" in payload:
        sys.stderr.write(payload["say"] + "\n")
        sys.stderr.flush()
    if "exit" in payload:
        sys.exit(payload["exit"])
    if "kill" in payload:
        os.kill(os.getpid(), payload["kill"])
    if "write" in payload:
        write(payload["write"].encode())
    if "held" in payload:
        tell(json.dumps({"tag": tag, "pid": os.getpid()}))
    if "answer" in payload:
        answer = dict({"tag": tag}, **payload["answer"])
        if "pid" in payload:
            answer["value"] = os.getpid()
        say(answer)


def main():
    deaf = set()
    for request in requests():
        if "cancel" in request:
            if request["cancel"] not in deaf:
                say({"tag": request["cancel"], "result": "retry"})
            continue
        event = request["event"]
        payload = event["payload"] if isinstance(event, dict) else event[2]
        if payload.get("deaf"):
            deaf.add(request["tag"])
        work(request["tag"], payload)


if __name__ == "__main__":
    main()
