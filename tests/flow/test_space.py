"""What the journal takes on disk, what older versions left, how a start goes on. SPDX-License-Identifier: MIT"""
import glob
import json
import os
import struct
import tarfile

import msgpack
from support import Broker, Publisher, Worker, wait_for

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden")
STATES = "accepted ready leased scheduled retrying parked done dead archived purged paused".split()
SMALL = "segment = 1MiB\nmax_message = 256KiB\nmax_event = 128KiB"


class Skip(Exception):
    """Not run, with the reason."""


def segment_bytes(broker):
    return sum(os.path.getsize(p) for p in glob.glob(os.path.join(broker.data, "journal", "*.seg")))


def totals(broker):
    return {t["topic"]: {s: t[s] for s in STATES} for t in broker.admin(["TOPICS"])[1]["items"]}


def test_older_formats_are_read(binaries):
    """Golden directories of each version of the format: same totals, same dead letters, and they work on."""
    for path in sorted(glob.glob(os.path.join(GOLDEN, "*.tar.xz"))):
        with open(path.replace(".tar.xz", ".json")) as file:
            expected = json.load(file)
        superseded = expected.pop("superseded", {})  # what alpha's letters say, by n
        with Broker(binaries, "alpha\n    retry_base = 1h\nbeta", server="segment = 64KiB\nmax_message = 16KiB\nmax_event = 16KiB") as broker:
            os.makedirs(broker.data)
            with tarfile.open(path) as archive:
                archive.extractall(broker.data)
            assert "intact" in broker.cli("journal", "verify", broker.data), path
            broker.start()
            wait_for("the letters are there", lambda: broker.admin(
                ["DLQ.LIST", "alpha", {"limit": 1}])[1]["total"] == expected["alpha"]["dead"])
            told = {str(i["n"]): i["superseded"] for i in broker.admin(["DLQ.LIST", "alpha"])[1]["items"] if "superseded" in i}
            assert told == superseded, (path, told)
            found = totals(broker)
            ready_now = found["alpha"]["ready"]
            for topic, counts in expected.items():  # what waited for a date may be due by now
                for states in (counts, found[topic]):
                    states["ready"] += states.pop("retrying")
                assert found[topic] == counts, (path, topic, found[topic], counts)
            broker.check_law()
            worker = Worker(broker, ["alpha"], credit=1000)
            events = worker.take(ready_now)
            assert len({e[2][1] for e in events}) == len(events)
            worker.send(["ACK", [e[0] for e in events], {"seq": 1}])
            assert worker.receive("ACKED")[2]["done"] == len(events)
            worker.close()
            broker.stop()


def test_newer_format_is_refused(binaries):
    """A segment of a version from the future: refused with both numbers, nothing is touched."""
    with Broker(binaries, "alpha") as broker:
        broker.start()
        publisher = Publisher(broker)
        publisher.publish([["alpha", "a", 1]])
        publisher.confirm()
        publisher.close()
        broker.kill()
        path = glob.glob(os.path.join(broker.data, "journal", "*.seg"))[0]
        with open(path, "r+b") as file:
            header = bytearray(file.read(64))
            header[8:10] = struct.pack("<H", 77)
            table = []
            for i in range(256):
                crc = i
                for _ in range(8):
                    crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
                table.append(crc)
            crc = 0xffffffff
            for byte in header[:12] + header[16:]:
                crc = crc >> 8 ^ table[(crc ^ byte) & 255]
            header[12:16] = struct.pack("<I", crc ^ 0xffffffff)
            file.seek(0)
            file.write(header)
        before = open(path, "rb").read()
        broker.launch()
        assert broker.process.wait(timeout=60) == 74
        assert "version 77" in broker.logged() and "up to 4" in broker.logged(), broker.logged()
        assert open(path, "rb").read() == before


def test_disk_is_bounded_with_one_old_event(binaries):
    """One event stays while others come, are released, retried and done: the disk stays under twice what is
    alive and four segments. Ids that are known are alive too, so there are none."""
    with Broker(binaries, """old
    lease = 1h
busy
    dedupe = 0
    retry_base = 10ms
    retry_cap = 20ms
    attempts = 1000""", server=SMALL).start() as broker:
        publisher = Publisher(broker)
        publisher.publish([["old", "stays", "x" * 1000]])
        publisher.confirm()
        worker = Worker(broker, ["busy"], credit=64)
        written, round_number, seq = 0, 0, 0
        while written < 24 << 20:
            round_number += 1
            events = [["busy", f"{round_number}-{k}", os.urandom(2000)] for k in range(60)]
            publisher.publish(events)
            while publisher.confirm()[1] < publisher.seq:
                pass
            written += 60 * 2100
            taken = worker.take(60)
            worker.send(["NACK", [e[0] for e in taken[:10]], 0, "", {"release": True, "retry": 0}])
            worker.send(["NACK", [e[0] for e in taken[10:30]], 500, "again", {"retry": 1}])
            done = [e[0] for e in taken[30:]]
            again = worker.take(30)
            seq += 1
            worker.send(["ACK", done + [e[0] for e in again], {"seq": seq}])
            assert worker.receive("ACKED")[2]["done"] == 60
        live = 1000
        bound = 2 * live + 4 * (1 << 20)
        wait_for("the disk is within its bound", lambda: segment_bytes(broker) <= bound)
        status = broker.admin(["STATUS"])[1]["broker"]
        assert status["journal_oldest"] > 10, status  # the old event has moved on
        old = Worker(broker, ["old"])
        assert old.take(1)[0][2] == ["old", "stays", "x" * 1000]
        old.close()
        worker.close()
        publisher.close()
        print(f"{written >> 20} MiB written, {segment_bytes(broker) >> 10} KiB on disk")


def test_checkpoint_is_a_help_and_no_more(binaries):
    """A clean stop leaves a checkpoint; with it, without it and with a damaged one the same is there."""
    with Broker(binaries, "alpha\nbeta", server=SMALL).start() as broker:
        publisher = Publisher(broker)
        for i in range(60):
            publisher.publish([[("alpha", "beta")[k % 2], f"{i}-{k}", "y" * 500] for k in range(100)])
            publisher.confirm()
        worker = Worker(broker, ["alpha"], credit=500)
        taken = worker.take(500)
        worker.send(["ACK", [e[0] for e in taken[:400]], {"seq": 1}])
        worker.receive("ACKED")
        worker.send(["NACK", [taken[450][0]], 65, "for good", {"dead": True, "seq": 2}])
        worker.receive("ACKED")
        worker.send(["BYE"])
        publisher.close()
        wait_for("all is given back", lambda: broker.topic("alpha")["leased"] == 0)
        expected = totals(broker)
        for damage in ("none", "flip", "removed"):
            broker.stop()
            paths = glob.glob(os.path.join(broker.data, "journal", "*.ckpt"))
            assert paths
            for path in paths:
                if damage == "removed":
                    os.unlink(path)
                elif damage == "flip":
                    with open(path, "r+b") as file:
                        file.seek(os.path.getsize(path) // 2)
                        byte = file.read(1)
                        file.seek(-1, os.SEEK_CUR)
                        file.write(bytes([byte[0] ^ 4]))
            broker.start()
            used = "journal.checkpoint" in broker.logged().rsplit("broker.end", 1)[-1]
            assert used == (damage == "none"), damage
            assert totals(broker) == expected, damage
            broker.check_law()


def test_status_tells_how_far_recovery_is(binaries):
    """While a long journal is read STATUS answers with the progress, and other requests say what goes on."""
    if "asan" in binaries:
        raise Skip("AddressSanitizer wants to be the first library that is loaded")
    with Broker(binaries, "alpha", server="segment = 64MiB").start() as broker:
        publisher = Publisher(broker)
        body = msgpack.packb(["alpha", None, "z" * 60000]) * 60
        for _ in range(12):
            publisher.seq += 1
            publisher.send(["PUBLISH", publisher.seq], body)
            publisher.confirm()
        publisher.close()
        broker.kill()
        for path in glob.glob(os.path.join(broker.data, "journal", "*.ckpt")):
            os.unlink(path)
        gate = os.path.join(broker.directory, "gate")
        os.mkfifo(gate)
        broker.launch({"LD_PRELOAD": os.path.join(broker.binaries, "..", "tests", "libgatedread.so"),
                       "GATEDREAD_GATE": gate})
        try:
            seen = wait_for("progress is told", lambda: progress(broker))
            assert 0 <= seen["recovered_bytes"] < seen["recovery_bytes"], seen
        finally:
            writer = os.open(gate, os.O_RDWR)  # the reading goes on, also where it comes there later
        wait_for("all of it is there", lambda: ready(broker) == 720, 60)
        os.close(writer)


def progress(broker):
    try:
        status = broker.admin(["STATUS"], seconds=5)[1]["broker"]
    except TimeoutError:
        return None
    if not status.get("recovering"):
        raise AssertionError("recovery was over before it was seen")
    assert broker.admin(["TOPICS"])[0] == "ERROR"
    return status


def ready(broker):
    answer = broker.admin(["TOPICS"])
    return next(t["ready"] for t in answer[1]["items"] if t["topic"] == "alpha") if answer[0] == "OK" else 0
