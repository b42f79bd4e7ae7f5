"""What was confirmed and what became of it, by the frames alone. SPDX-License-Identifier: MIT

An event's id says its topic ("api:p0-17") and decides its payload, so every delivery can be judged
without a copy of what was sent. One generation of the ledger is what was published since the
topics were last empty; when they are empty again it is judged and forgotten, so that memory stays
bounded over any number of rounds."""
import random
import zlib

WAITING = "ready leased scheduled retrying parked".split()


def payload_of(name, most=48):
    check = zlib.crc32(name.encode())
    return [check, bytes(check % most)]


class Ledger:
    def __init__(self, topics, path, pad=48):
        self.topics, self.pad = topics, pad
        self.file = open(path, "w")  # one line an outcome, for people who look into a failure
        self.base = {t: {"accepted": 0, "done": 0, "purged": 0} for t in topics}
        self.total = self.certain = 0
        self.forget()

    def forget(self):
        self.sent = set()       # handed to a socket
        self.confirmed = set()  # CONFIRM came, not refused
        self.refused = set()
        self.answered = set()   # an ACK was sent
        self.done = {}          # ACKED came: done for certain; the tag that did it
        self.rejected = set()   # NACKed for good at least once
        self.wrong = []
        self.deliveries = 0
        self.file.seek(0)
        self.file.truncate()

    def note(self, kind, name):
        self.file.write(f"{kind} {name}\n")

    def confirm(self, name):
        self.confirmed.add(name)
        self.total += 1
        self.note("confirmed", name)

    def refuse(self, name, code):
        self.refused.add(name)
        self.note(f"refused {code}", name)

    def deliver(self, tag, event):
        """Tags grow: a lower one than that which ended the event was on its way for long."""
        topic, name, payload = event[:3]
        self.deliveries += 1
        if name.split(":")[0] != topic or payload != payload_of(name, self.pad):
            self.wrong.append(("payload", name))
        if name not in self.sent:
            self.wrong.append(("invented", name))
        if name in self.refused:
            self.wrong.append(("refused and delivered", name))
        if tag > self.done.get(name, tag):
            self.wrong.append(("done and delivered again", name))
        return name

    def finish(self, names):
        for name in names:
            if name in self.done:
                self.wrong.append(("done twice", name))
            self.note("done", name)
        self.done.update(names)  # name: tag
        self.certain += len(names)

    def letters(self, broker):
        """All dead letters, each once."""
        found = {}
        for topic in self.topics:
            after = 0
            while after is not None:
                page = broker.admin(["DLQ.LIST", topic, {"limit": 1000, "after": after}])[1]
                for item in page["items"]:
                    assert item["id"] not in found, f"{item['id']} is dead twice"
                    found[item["id"]] = item["reason"]
                after = page["next"]
        return found

    def is_drained(self, broker):
        """Nothing waits, the letters are over there, and none is on its way back or about to be."""
        if any(broker.admin(["DLQ.LIST", t, {"limit": 1, "reason": "overflow"}])[1]["items"]
               for t in self.topics):
            return False
        items = [broker.topic(t) for t in self.topics]
        return all(i[s] == 0 for i in items for s in WAITING) and (
            len(self.letters(broker)) == sum(i["dead"] for i in items))  # leaving ones aren't listed

    def judge(self, broker):
        """With nothing waiting any more: every confirmed event ended exactly one way, and nothing
        else is there. Then all of it is forgotten, here and (the letters) in the broker."""
        self.file.flush()
        assert not self.wrong, f"{len(self.wrong)} wrong: {self.wrong[:5]}"
        dead = self.letters(broker)
        lost = [n for n in self.confirmed if n not in self.answered and n not in dead]
        assert not lost, f"{len(lost)} confirmed and lost: {sorted(lost)[:5]}"
        both = [n for n in dead if n in self.done]
        assert not both, f"{len(both)} are done and dead: {both[:5]}"
        strange = [n for n in dead if n not in self.confirmed]
        assert not strange, f"{len(strange)} letters of events never confirmed: {strange[:5]}"
        broker.check_law()
        for topic in self.topics:
            self.check_totals(broker.topic(topic), dead)
        for topic in self.topics:
            while broker.admin(["DLQ.LIST", topic, {"limit": 1}])[1]["total"]:
                broker.admin(["DLQ.PURGE", topic, {"all": True}])  # so many at a time
        for topic in self.topics:
            self.base[topic] = {k: broker.topic(topic)[k] for k in ("accepted", "done")}
        result = len(self.confirmed), len(self.done), len(dead)
        self.forget()
        return result

    def check_totals(self, item, dead):
        """The broker's counts against our own: nothing counts twice, nothing is missing."""
        topic, base = item["topic"], self.base[item["topic"]]
        mine = sum(1 for n in self.confirmed if n.startswith(topic + ":"))
        letters = sum(1 for n in dead if n.startswith(topic + ":"))
        assert item["accepted"] - base["accepted"] == mine, (mine, base, item)
        assert item["done"] - base["done"] == mine - letters, (mine, letters, base, item)


def dice_of(seed, name, number):
    """The dice of one round: any range of rounds can be run again alone."""
    return random.Random(f"{seed}/{name}/{number}")
