"""The HTTP server's loops: who takes which connection, what is full, and what waits beside what.
SPDX-License-Identifier: MIT"""
import os
import re
import resource
import select
import signal
import socket
import time

import support
from http_gateway import Gateway, answer_is_whole
from test_gateway import pair

GOOD = b'{"topic":"email","payload":1}'
PATIENT = ("--header-timeout", "600s", "--idle-timeout", "600s")
SPARE = 256  # beyond --connections, which are told 503 (WEB_SPARE)
LISTENS = "0A"  # a socket's state in /proc/net/tcp


def live(version=b"1.1", *lines):
    return b"\r\n".join((b"GET /health/live HTTP/" + version, b"Host: localhost", *lines, b"", b""))


def post(body=GOOD, *lines):
    return b"\r\n".join((b"POST /api/v1/events HTTP/1.1", b"Host: localhost",
                         b"Content-Length: %d" % len(body), *lines, b"", b"")) + body


def dial(gateway, count=1):
    return [socket.create_connection(("127.0.0.1", gateway.ports["main"]), timeout=60) for _ in range(count)]


def hear(sock, is_all=answer_is_whole):
    """What comes until it is all."""
    got = b""
    while not is_all(got):
        part = sock.recv(65536)
        assert part, got[-500:]
        got += part
    return got


def ask(sock, data):
    sock.sendall(data)
    return hear(sock)


def all_live(socks):
    for sock in socks:
        assert ask(sock, live()).startswith(b"HTTP/1.1 200")


def sockets_of(gateway, port):
    """(state, port of the other side, callers that wait, inode) of those of one port."""
    for name in "tcp", "tcp6":
        with open(f"/proc/{gateway.process.pid}/net/{name}") as file:
            rows = [line.split() for line in file.readlines()[1:]]
        for row in rows:
            if int(row[1].rpartition(":")[2], 16) == port:
                yield row[3], int(row[2].rpartition(":")[2], 16), int(row[4].partition(":")[2], 16), row[9]


def waiting(gateway):
    """Callers that the kernel holds until somebody accepts them."""
    return sum(row[2] for row in sockets_of(gateway, gateway.ports["main"]) if row[0] == LISTENS)


def loops(gateway, port=None):
    """For each loop that has connections, by its epoll's descriptor: their clients' ports."""
    rows = sockets_of(gateway, port or gateway.ports["main"])
    clients = {f"socket:[{inode}]": client for state, client, _, inode in rows if state != LISTENS}
    place = f"/proc/{gateway.process.pid}/"
    found = {}
    for fd in os.listdir(place + "fdinfo"):
        try:
            if "eventpoll" not in os.readlink(place + "fd/" + fd):
                continue
            with open(place + "fdinfo/" + fd) as file:
                targets = re.findall(r"(?m)^tfd:\s*(\d+)", file.read())
            names = [os.readlink(place + "fd/" + target) for target in targets]
        except FileNotFoundError:
            continue  # closed meanwhile
        ports = {clients[name] for name in names if name in clients}
        if ports:
            found[fd] = ports
    return found


def held(gateway):
    return set().union(*loops(gateway).values())


def ports_of(socks):
    return {sock.getsockname()[1] for sock in socks}


def wait_until_held(gateway, socks):
    support.wait_for(f"these {len(socks)} are in", lambda: held(gateway) == ports_of(socks))


def shares(gateway, port=None):
    return sorted(len(ports) for ports in loops(gateway, port).values())


def close(socks):
    for sock in socks:
        sock.close()


def test_connections_are_shared_out_evenly(binaries):
    with pair(binaries, "--threads", "3", *PATIENT) as (_, gateway):
        wait_until_held(gateway, [])  # those that saw that it is ready have gone
        socks = dial(gateway, 60)

        def check():
            wait_until_held(gateway, socks)
            each = shares(gateway)
            assert len(each) == 3 and each[0] >= 18 and each[2] <= 22, each
            all_live(socks)
        check()
        for which in range(3):  # all of one loop, whichever it is
            ports = sorted(loops(gateway).values(), key=min)[which]
            close(sock for sock in socks if sock.getsockname()[1] in ports)
            socks = [sock for sock in socks if sock.fileno() >= 0]
            wait_until_held(gateway, socks)
            assert len(shares(gateway)) == 2 and len(socks) <= 42
            socks += dial(gateway, 60 - len(socks))
            check()
        close(socks[:40])  # some of all
        del socks[:40]
        wait_until_held(gateway, socks)
        socks += dial(gateway, 40)
        check()
        close(socks)


def lower_files(process, spare):
    """So few descriptors that just `spare` are left."""
    used = {int(fd) for fd in os.listdir(f"/proc/{process.pid}/fd")}
    most = 0
    while spare > 0:
        spare -= most not in used
        most += 1
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (most, most))


def cpu_seconds(process):
    with open(f"/proc/{process.pid}/stat") as file:
        words = file.read().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def test_callers_wait_for_descriptors(binaries):
    for threads in "1", "3":
        with pair(binaries, "--threads", threads, *PATIENT) as (broker, gateway):
            wait_until_held(gateway, [])
            old = dial(gateway, 5)
            for sock in old:
                assert ask(sock, post()).startswith(b"HTTP/1.1 202")
            wait_until_held(gateway, old)
            lower_files(gateway.process, 10)
            new = dial(gateway, 40)
            support.wait_for("it is said", lambda: "accept.failed" in gateway.logged())
            support.wait_for("no more fit", lambda: len(held(gateway)) + waiting(gateway) == 45)
            inside = [sock for sock in new if sock.getsockname()[1] in held(gateway)]
            assert 0 < len(inside) <= 10 and waiting(gateway) == 40 - len(inside), len(inside)
            all_live(old + inside)
            for sock in old + inside:
                assert ask(sock, post()).startswith(b"HTTP/1.1 202")
            begin, spent = time.monotonic(), cpu_seconds(gateway.process)
            support.wait_for("a second passes", lambda: time.monotonic() - begin >= 1)
            spent = cpu_seconds(gateway.process) - spent
            assert spent < 0.3 * (time.monotonic() - begin), spent
            all_live(old + inside)
            # What the answer needs can't be opened either: it says so, and nothing ends.
            topics = live().replace(b"/health/live", b"/api/v1/topics")
            assert ask(old[0], topics).startswith(b"HTTP/1.1 50")
            outside = [sock for sock in new if sock not in inside]
            for sock in outside:
                sock.sendall(live())
            assert not select.select(outside, [], [], 0)[0], "there is no room for them"
            close(inside)
            for sock in outside:  # each makes room for another
                assert hear(sock).startswith(b"HTTP/1.1 200")
                sock.close()
            all_live(old)
            close(old)
            assert gateway.post("/api/v1/events", GOOD).status == 202
            assert broker.topic("email")["accepted"] == 11 + len(inside)


def test_callers_wait_where_it_is_full(binaries):
    with pair(binaries, "--connections", "5", "--threads", "3", *PATIENT) as (_, gateway):
        wait_until_held(gateway, [])
        inside = dial(gateway, 5 + SPARE)
        wait_until_held(gateway, inside)
        outside = dial(gateway, 9)
        for sock in outside:
            sock.sendall(live())
        support.wait_for("they wait", lambda: waiting(gateway) == 9)
        all_live(inside)
        assert waiting(gateway) == 9 and not select.select(outside, [], [], 0)[0]
        for turn in range(9):  # one of each loop in turn makes room, for one
            ports = sorted(loops(gateway).values(), key=min)[turn % 3]
            leaves = next(sock for sock in inside if sock.getsockname()[1] in ports)
            if turn % 2:
                got = ask(leaves, post())  # the end of a connection, too
                assert got.startswith(b"HTTP/1.1 503") and b"OVERLOAD" in got and b"Retry-After" in got, got
            inside.remove(leaves)
            leaves.close()
            assert hear(outside[turn]).startswith(b"HTTP/1.1 200")
            inside.append(outside[turn])
            wait_until_held(gateway, inside)
            assert waiting(gateway) == 8 - turn and not select.select(outside[turn + 1:], [], [], 0)[0]
        close(inside[:-3])
        wait_until_held(gateway, inside[-3:])
        for sock in inside[-3:]:
            assert ask(sock, post()).startswith(b"HTTP/1.1 202")
            sock.close()


def second_loopback():
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
        return "[::1]:0"
    except OSError:
        return "127.0.0.2:0"


def test_a_listener_serves_each_of_its_addresses(binaries):
    with support.Broker(binaries, "email") as broker:
        broker.start()
        for threads in "1", "2":
            gateway = Gateway(broker, "--threads", threads, *PATIENT, listen="127.0.0.1:0," + second_loopback())

            def places():
                found = re.findall(r"listening name=main url=http://\[?([^\s\]]+)\]?:(\d+)", gateway.logged())
                return [(host, int(port)) for host, port in found]
            support.wait_for("it listens on both", lambda: len(places()) == 2)
            try:
                socks = {place: [socket.create_connection(place, timeout=60) for _ in range(20)]
                         for place in places()}
                for host, port in socks:  # only those of its own address have them
                    support.wait_for("they are in", lambda: sum(shares(gateway, port)) == 20)
                    each = shares(gateway, port)
                    assert len(each) == int(threads) and each[-1] <= 20 / int(threads) + 2, (host, each)
                for each in socks.values():
                    all_live(each)
                    for sock in each:
                        support.wait_for("the broker is there", lambda: ask(sock, post()).startswith(
                            b"HTTP/1.1 202"))
                    close(each)
            finally:
                gateway.close()
        assert broker.topic("email")["accepted"] == 80


BAD = b'{"topic":"email","payload":"' + b"x" * 20000  # cut: it is refused, the broker isn't asked


def pipelined(gateway):
    with dial(gateway)[0] as sock:
        sock.sendall(live() * 1000)
        got = hear(sock, lambda all: all.count(b"HTTP/1.1 200") == 1000 and all.endswith(b"}\n"))
    assert got.count(b"HTTP/1.1 ") == 1000


def expecting(gateway):
    with dial(gateway)[0] as sock:
        for _ in range(1500):
            sock.sendall(post(BAD, b"Expect: 100-continue")[:-len(BAD)])
            assert hear(sock, lambda all: all.endswith(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
            assert ask(sock, BAD).startswith(b"HTTP/1.1 400")


def in_pieces(gateway):
    with dial(gateway)[0] as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = post(BAD)
        for at in range(0, len(data), 100):
            sock.sendall(data[at:at + 100])
        assert hear(sock).startswith(b"HTTP/1.1 400")


def with_much_ahead(gateway):
    with dial(gateway)[0] as sock:
        for _ in range(50):
            assert ask(sock, live(b"1.1", b"A: " + b"x" * 20000)).startswith(b"HTTP/1.1 200")


def large(gateway):
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        sock.settimeout(60)
        sock.connect(("127.0.0.1", gateway.ports["main"]))
        for _ in range(5):
            got = ask(sock, live().replace(b"/health/live", b"/openapi.json"))
            assert got.startswith(b"HTTP/1.1 200") and len(got) > 10000, len(got)


def old_ones(gateway):
    for _ in range(50):
        with dial(gateway)[0] as sock:
            sock.sendall(live(b"1.0"))
            got = b""
            while part := sock.recv(65536):
                got += part
        assert re.match(rb"HTTP/1\.[01] 200 ", got), got


def fastest(gateway, work):
    """The best of five: the machine may be busy."""
    times = []
    for _ in range(5):
        begin = time.monotonic()
        work(gateway)
        times.append(time.monotonic() - begin)
    return min(times)


def test_who_waits_for_the_broker_holds_up_nobody_else(binaries):
    works = pipelined, expecting, in_pieces, with_much_ahead, large, old_ones
    with pair(binaries, "--threads", "1", "--headers", "64KiB", "--confirm-timeout", "10m",
              *PATIENT) as (broker, gateway):
        alone = {work: fastest(gateway, work) for work in works}
        os.kill(broker.process.pid, signal.SIGSTOP)
        try:
            socks = dial(gateway, 30)
            for sock in socks:
                sock.sendall(post())
            support.wait_for("all wait", lambda: gateway.get("/health").json()["unconfirmed_events"] == 30)
            for work in works:
                beside = fastest(gateway, work)
                assert beside < max(6 * alone[work], 1), (work.__name__, beside, alone[work])
            assert not select.select(socks, [], [], 0)[0], "they still wait"
        finally:
            os.kill(broker.process.pid, signal.SIGCONT)
        for sock in socks:
            assert hear(sock).startswith(b"HTTP/1.1 202")
        assert broker.topic("email")["accepted"] == 30
        close(socks)
