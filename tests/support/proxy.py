"""A TCP proxy that misbehaves as it is told, also while it runs. SPDX-License-Identifier: MIT

    with Proxy("tcp://127.0.0.1:5551") as proxy:
        connect(proxy.endpoint)
        proxy.up.delay = 0.05        # seconds, towards the server; proxy.down: towards the client
        proxy.down.rate = 20_000     # bytes a second
        proxy.both(hole=True)        # accept and read, forward nothing; what was read is lost
        proxy.cut()                  # RST to both ends of every connection
        proxy.refuses = True         # new connections get RST
        proxy.heal()

A hole loses bytes, so healing it cuts the connections that were in it: TCP would not go on
with a gap. One thread of its own; attributes may be set from any other."""
import collections
import heapq
import random
import selectors
import socket
import struct
import threading
import time

READ = 65536
QUEUED = 1 << 20  # bytes under way in one direction of one connection; then it isn't read


class Direction:
    """How bytes fare that go one way."""

    def __init__(self):
        self.heal()

    def heal(self):
        self.delay = self.jitter = 0.0  # seconds; the order of bytes is kept
        self.chunk = 0                  # at most so many bytes in one segment; 0: as they come
        self.rate = 0                   # bytes a second; 0: no limit
        self.hole = False


class Flow:
    """One way of one connection: bytes that were read and wait for their time."""

    def __init__(self, source, target, direction):
        self.source, self.target, self.direction = source, target, direction
        self.queue = collections.deque()  # (when, bytes); bytes is b"" at the end of the stream
        self.bytes = 0
        self.last = 0.0  # when the newest of them may go
        self.has_ended = self.was_in_hole = False

    def hurry(self):
        """What waits goes at once, in its order: a slow line that has been mended."""
        self.queue = collections.deque((0.0, part) for _, part in self.queue)
        self.last = 0.0

    def add(self, data, now, dice):
        how = self.direction
        if how.hole and data:
            self.was_in_hole = True
            return
        size = how.chunk or max(1, len(data))
        for at in range(0, max(1, len(data)), size):
            part = data[at:at + size]
            due = max(self.last, now + how.delay + dice.random() * how.jitter)
            if how.rate:
                due += len(part) / how.rate
            elif how.chunk:
                due += 0.0002  # else the kernel would put the pieces together again
            self.last = due
            self.queue.append((due, part))
            self.bytes += len(part)


class Link:
    """A client's connection and its own one to the server."""

    def __init__(self, proxy, client):
        self.client = client
        self.server = socket.socket()
        self.server.setblocking(False)
        self.server.connect_ex(proxy.target)
        for each in (self.client, self.server):
            each.setblocking(False)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.up = Flow(self.client, self.server, proxy.up)
        self.down = Flow(self.server, self.client, proxy.down)

    def close(self, reset):
        for each in (self.client, self.server):
            if reset:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            each.close()


class Proxy:
    """Listens on a port of its own and passes on to `target`, a tcp:// endpoint."""

    def __init__(self, target, seed=0):
        host, _, port = target.removeprefix("tcp://").rpartition(":")
        self.target = (host, int(port))
        self.up, self.down = Direction(), Direction()
        self.refuses = False
        self.accepted = 0
        self.dice = random.Random(seed)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.listener.setblocking(False)
        self.endpoint = "tcp://127.0.0.1:%d" % self.listener.getsockname()[1]
        self.wanted = collections.deque()  # what the thread shall do
        self.waker, self.woken = socket.socketpair()
        self.links = []
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def both(self, **how):
        for direction in (self.up, self.down):
            for name, value in how.items():
                setattr(direction, name, value)

    def cut(self):
        """RST on every connection."""
        self.tell(lambda: [self.drop(link) for link in list(self.links)])

    def half_close(self, way="up"):
        """FIN one way on every connection; the other way goes on."""
        self.tell(lambda: [self.end(link, getattr(link, way)) for link in list(self.links)])

    def heal(self):
        self.refuses = False
        self.up.heal()
        self.down.heal()
        self.tell(self.mend)

    def mend(self):
        for link in list(self.links):
            if link.up.was_in_hole or link.down.was_in_hole:
                self.drop(link)
            link.up.hurry()
            link.down.hurry()

    def tell(self, work):
        """Has the thread do it; returns when it is done."""
        done = threading.Event()
        self.wanted.append((work, done))
        self.waker.send(b"!")
        assert done.wait(10), "the proxy's thread has ended"

    def close(self):
        self.tell(lambda: setattr(self, "listener_is_wanted", False))
        self.thread.join(10)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    listener_is_wanted = True

    def run(self):
        while self.listener_is_wanted:
            with selectors.DefaultSelector() as selector:
                timeout = self.register(selector, time.monotonic())
                ready = [key.data for key, _ in selector.select(timeout)]
            if "woken" in ready:
                self.woken.recv(4096)
                while self.wanted:
                    work, done = self.wanted.popleft()
                    work()
                    done.set()
            if "accept" in ready:
                self.accept()
            self.move([r for r in ready if isinstance(r, tuple)])
        for link in list(self.links):
            self.drop(link)
        for each in (self.listener, self.waker, self.woken):
            each.close()

    def register(self, selector, now):
        """Says what is waited for. Returns for how long at most."""
        selector.register(self.woken, selectors.EVENT_READ, "woken")
        selector.register(self.listener, selectors.EVENT_READ, "accept")
        wanted, times = {}, []
        for link in self.links:
            for flow in (link.up, link.down):
                if not flow.has_ended and flow.bytes < QUEUED:
                    wanted.setdefault(flow.source, [0, link])[0] |= selectors.EVENT_READ
                if flow.queue and flow.queue[0][0] <= now:
                    wanted.setdefault(flow.target, [0, link])[0] |= selectors.EVENT_WRITE
                elif flow.queue:
                    heapq.heappush(times, flow.queue[0][0])
        for each, (events, link) in wanted.items():
            selector.register(each, events, (link, each))
        return max(0.0, times[0] - now) if times else None

    def accept(self):
        try:
            client, _ = self.listener.accept()
        except OSError:
            return
        self.accepted += 1
        link = Link(self, client)
        if self.refuses:
            link.close(True)
        else:
            self.links.append(link)

    def move(self, ready):
        now = time.monotonic()
        for link, each in ready:
            if link not in self.links:
                continue
            try:
                for flow in (link.up, link.down):
                    if flow.source is each and not flow.has_ended and flow.bytes < QUEUED:
                        self.read(flow, now)
                    if flow.target is each:
                        self.write(flow, now)
            except OSError:
                self.drop(link)
            if link.up.has_ended and link.down.has_ended and not (link.up.queue or link.down.queue):
                self.drop(link, False)

    def read(self, flow, now):
        try:
            data = flow.source.recv(READ)
        except BlockingIOError:
            return
        flow.has_ended = data == b""
        flow.add(data, now, self.dice)

    def write(self, flow, now):
        while flow.queue and flow.queue[0][0] <= now:
            due, part = flow.queue.popleft()
            if part == b"":
                flow.target.shutdown(socket.SHUT_WR)
                continue
            try:
                sent = flow.target.send(part)
            except BlockingIOError:
                sent = 0
            flow.bytes -= sent
            if sent < len(part):
                flow.queue.appendleft((due, part[sent:]))
                return

    def end(self, link, flow):
        flow.has_ended = True
        flow.queue.append((0.0, b""))

    def drop(self, link, reset=True):
        if link in self.links:
            self.links.remove(link)
            link.close(reset)
