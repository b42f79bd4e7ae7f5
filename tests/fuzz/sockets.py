"""A client that sends requests with faults over real sockets. SPDX-License-Identifier: MIT

usage: sockets.py BINARIES SECONDS [SEED]

Starts a broker, a gateway and a monitor of these binaries (an asan build says most) and sends them what
corpus_web.py has, changed here and there, whole, in pieces, cut off, several at a time; the monitor also hears a
broker's statistics with faults in them. Then all of them must still be well: no status that isn't meant, nothing
left open, no growth, and good requests are answered as ever."""
import os
import random
import re
import socket
import struct
import sys
import threading
import time

import msgpack
import zmq

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "flow")]

import corpus_web  # noqa: E402
import support  # noqa: E402

MEANT = {100, 200, 202, 204, 207, 302, 304, 400, 401, 403, 404, 405, 409, 413, 414, 415, 422, 429, 431, 501, 502, 503,
         504, 505, 507}
PIECES = [b"\0", b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"%", b"%00", b"%ff", b"\xff", b"\xc0\xaf", b"\xed\xa0\x80",
          b"[" * 200, b"{\"a\":" * 100, b"9" * 400, b"1e999", b"-0", b"\\ud800", b"\xdd\xff\xff\xff\xff",
          b"\xc7\xff\x01", b"Content-Length: 7\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: b\r\n",
          b"Expect: 100-continue\r\n", b"HTTP/1.0", b"HTTP/1.1", b"..", b"/", b"#", b"?", b"&", b"=", b"\"", b"'", b"<script>",
          b"{\"$map\":[[1,2]]}", b"{\"$bin\":\"AQ==\"}", b"null", b"0x1d", b"X-Forwarded-For: 1.2.3.4\r\n"]


CLIENTS = 12  # at a time


def requests():
    """Those of the corpus, without what stands there for a broker."""
    found = sorted({data[2:].split(b"\xff\xfe")[0] for _, data in corpus_web.web()})
    found += [corpus_web.request("GET", "/api/v1/live", b"", "Last-Event-ID: 1")]
    chunks = b"%x\r\n%s\r\n0\r\n\r\n"
    for data in found[:]:
        head, _, body = data.partition(b"\r\n\r\n")
        if body:
            head = re.sub(rb"Content-Length: \d+", b"Transfer-Encoding: chunked", head)
            found.append(head + b"\r\n\r\n" + chunks % (len(body), body))
    return found


def changed(data, chance):
    """The data with a few faults."""
    data = bytearray(data)
    for _ in range(chance.choice([0, 1, 1, 2, 3, 8])):
        at = chance.randrange(len(data) + 1)
        to = min(len(data), at + chance.choice([1, 1, 2, 8, 64]))
        what = chance.randrange(7)
        if what == 0:
            data[at:at] = chance.choice(PIECES)
        elif what == 1:
            data[at:to] = chance.choice(PIECES)
        elif what == 2 and at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        elif what == 3:
            del data[at:to]
        elif what == 4:
            data[at:at] = data[at:to] * chance.choice([1, 2, 50, 3000])
        elif what == 5:
            del data[at:]
        else:
            data[at:to] = bytes(chance.randrange(256) for _ in range(to - at))
    return bytes(data[:200000])


class Client:
    def __init__(self, port, seed):
        self.port, self.chance = port, random.Random(seed)
        self.seeds = requests()
        self.sent = 0
        self.silent = 0
        self.statuses = {}

    def send(self):
        """One connection's life; keeps the statuses that came."""
        data = b"".join(changed(self.chance.choice(self.seeds), self.chance)
                        for _ in range(self.chance.choice([1, 1, 1, 2, 5])))
        self.sent += 1
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as sock:
            try:
                if self.chance.randrange(8) == 0:  # in pieces
                    cut = self.chance.randrange(len(data) + 1)
                    sock.sendall(data[:cut])
                    sock.sendall(data[cut:])
                else:
                    sock.sendall(data)
                if self.chance.randrange(8) == 0:  # gone, without waiting
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
                if self.chance.randrange(2):
                    sock.shutdown(socket.SHUT_WR)
                self.read(sock, data)
            except OSError:
                pass  # closed with bytes unread

    def read(self, sock, data):
        got = b""
        sock.settimeout(1)  # there may be no answer: it isn't whole
        try:
            while (part := sock.recv(65536)) and len(got) < 1 << 22:
                got += part
                sock.settimeout(0.02)  # the connection is kept once it has its answer
        except socket.timeout:
            self.silent += not got
        for status in re.findall(rb"(?:^|\r\n|\}\n|\n)HTTP/1\.[01] (\d{3}) ", got):
            self.statuses[int(status)] = self.statuses.get(int(status), 0) + 1
            assert int(status) in MEANT, (data, got[:500])


class Broker:
    """Statistics and answers with faults: for a monitor of its own."""

    def __init__(self, chance):
        self.chance = chance
        self.context = zmq.Context()
        self.stats = self.context.socket(zmq.PUB)
        self.admin = self.context.socket(zmq.ROUTER)
        self.ports = [each.bind_to_random_port("tcp://127.0.0.1") for each in (self.stats, self.admin)]
        self.rounds = [("stats.broker", corpus_web.STATUS), ("stats.topic.email", corpus_web.TOPIC),
                       ("stats.worker.w", corpus_web.WORKER), ("stats.pool.email", corpus_web.POOL),
                       ("notice.crash_loop", {"topic": "email", "detail": "d", "time": 5}),
                       ("notice.breaker", {"topic": "email", "detail": "d"})]
        self.endpoints = {"STATS": f"tcp://127.0.0.1:{self.ports[0]}", "ADMIN": f"tcp://127.0.0.1:{self.ports[1]}"}

    def send(self):
        for subject, value in self.rounds:
            self.stats.send_multipart([changed(subject.encode(), self.chance) if self.chance.randrange(4) == 0
                                       else subject.encode(), changed(msgpack.packb(value), self.chance)])
        while self.admin.poll(0):
            frames = self.admin.recv_multipart()
            answer = msgpack.packb(["OK", frames[-1][:0].decode() or corpus_web.STATUS])
            self.admin.send_multipart(frames[:-1] + [changed(answer, self.chance)])

    def close(self):
        self.context.destroy(linger=0)


def held(pid):
    """Descriptors, and MiB in memory."""
    with open(f"/proc/{pid}/statm") as file:
        pages = int(file.read().split()[1])
    return len(os.listdir(f"/proc/{pid}/fd")), pages * os.sysconf("SC_PAGE_SIZE") >> 20


def campaign(binaries, seconds, seed, report=print):
    from http_gateway import Gateway
    from test_monitor import Monitor
    report(f"seed {seed}")
    broker = support.Broker(binaries, "email\ndb\napi").start()
    liar = Broker(random.Random(seed))
    try:
        with Gateway(broker, "--idle-timeout", "5s", "--audit", "none") as gateway:
            monitor = Monitor(broker, "--idle-timeout", "5s", "--gateway", gateway.url(""), "--audit", "none").start()
            other = Monitor(broker, "--audit", "none", "--stats", liar.endpoints["STATS"], "--admin",
                            liar.endpoints["ADMIN"], "--data", os.path.join(broker.directory, "other.db"))
            other.log += "2"
            other.start()
            parts = {"gateway": gateway.process, "monitor": monitor.process, "other": other.process,
                     "broker": broker.process}
            clients = [Client(monitor.port if i % 3 == 0 else gateway.ports["main"], f"{seed}-{i}")
                       for i in range(CLIENTS)]
            try:
                run(clients, liar, parts, seconds, report)
                well(gateway, monitor, other, broker)
            finally:
                for each in monitor, other:
                    each.process.terminate()
                    each.process.wait(timeout=60)
                    assert each.process.returncode == 0 and "Sanitizer" not in each.logged() and (
                        "runtime error" not in each.logged()), each.logged()[-5000:]
    finally:
        liar.close()
        broker.close()


def run(clients, liar, parts, seconds, report):
    start = time.monotonic()
    before = {}
    wrong = []

    def work(client):
        try:
            while time.monotonic() - start < seconds and not wrong:
                client.send()
        except BaseException as error:  # told by the thread that waits
            wrong.append(error)
    threads = [threading.Thread(target=work, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        liar.send()
        support.select_pause()
        for name, process in parts.items():
            if process.poll() is not None:
                wrong.append(AssertionError(f"the {name} ended with {process.returncode}"))
        if not before and time.monotonic() - start > seconds / 3:
            before = {name: held(process.pid) for name, process in parts.items()}
    sums = {}
    for client in clients:
        for status, count in client.statuses.items():
            sums[status] = sums.get(status, 0) + count
    report(f"{sum(each.sent for each in clients)} connections, {sum(each.silent for each in clients)} of them without "
           f"an answer, {dict(sorted(sums.items()))}")
    if wrong:
        raise wrong[0]
    last = {}

    def is_as_before():
        """Descriptors without those of connections: what threads and pools may add is little."""
        last.update({name: held(process.pid) for name, process in parts.items()})
        return all(last[name][0] <= before[name][0] + 20 for name in parts)
    try:
        support.wait_for("what was open is closed", is_as_before, seconds=120)
    finally:
        report(f"descriptors and MiB: {before} -> {last}")
    assert all(last[name][1] < before[name][1] + 600 for name in parts), (before, last)


def well(gateway, monitor, other, broker):
    """Good requests are answered as ever."""
    for name in "email", "db", "api":
        assert gateway.post(f"/api/v1/topics/{name}/resume").status == 200
    answer = gateway.post("/api/v1/events", {"topic": "email", "id": "the-last", "payload": 7})
    assert answer.status == 202, answer
    assert gateway.get("/api/v1/events/the-last").json()["items"][0]["payload"] == 7
    assert gateway.get("/api/v1/events?limit=1000").json()["items"]
    support.wait_for("the monitor is well", lambda: monitor.ask("/health/ready")[0] == 200)
    assert other.ask("/metrics")[0] == 200 and other.ask("/api/v1/alerts")[0] == 200
    assert broker.process.poll() is None


if __name__ == "__main__":
    campaign(os.path.abspath(sys.argv[1]), float(sys.argv[2]),
             int(sys.argv[3]) if len(sys.argv) > 3 else random.randrange(1 << 32))
