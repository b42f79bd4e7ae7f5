"""Runs the fault campaigns: real brokers, faults of every kind, a ledger.
SPDX-License-Identifier: MIT

usage: run.py BINARIES [--long] [--only NAME] [--seed N] [--rounds N] [--start-round K]

Every round has its own dice, from the seed and the round's number, so --start-round goes on
where a campaign ended. What fails keeps its data directory, log and ledger."""
import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "flow"), os.path.join(HERE, "..", "support")]

import calls
import clocks
import commands
import crash
import dedupe
import full
import network
import order
import peers
import quota
import units
from ledger import Ledger, dice_of
from load import Load
from support import Broker

SCENARIOS = [("kill", crash.kill), ("powercut", crash.powercut), ("nthcall", calls.nthcall),
             ("workers", peers.workers), ("commands", commands.commands), ("orphan", peers.orphan), ("stop", peers.stop),
             ("absence", peers.absence), ("clock", clocks.clock), ("at", clocks.at),
             ("network", network.network), ("keys", order.keys), ("quota", quota.quota),
             ("routes", units.routes), ("units", units.units), ("dedupe", dedupe.dedupe),
             ("full", full.full)]


class Skip(Exception):
    """The scenario can't run here, and why."""


class Run:
    """What a scenario is given: where the programs are, how long, with which dice."""
    Skip = Skip

    def __init__(self, name, options):
        self.name, self.seed, self.options = name, options.seed, options
        self.binaries = os.path.abspath(options.binaries)
        self.number = options.start_round
        self.kept = []

    @property
    def is_long(self):
        return self.options.long

    def rounds(self, short, long):
        """The numbers of the rounds, from 1."""
        count = self.options.rounds or (long if self.is_long else short)
        last = self.options.start_round + count - 1
        for self.number in range(self.options.start_round, last + 1):
            yield self.number, self.number == last

    def dice(self):
        return dice_of(self.seed, self.name, self.number)

    def shim(self, name):
        return os.path.join(self.binaries, "..", "tests", f"lib{name}.so")

    def say(self, text):
        print(f"  {self.name} {self.number}: {text}", flush=True)

    def broker(self, topics="", server="", directory=None):
        return KeptBroker(self, topics, server, directory)

    def load(self, broker, topics, **options):
        ledger = Ledger(topics, os.path.join(broker.directory, "ledger"),
                        options.pop("pad", 48))
        return Load(broker, ledger, self.dice(), **options)


class KeptBroker(Broker):
    """A broker whose directory stays where its test fails."""

    def __init__(self, run, topics, server, directory):
        super().__init__(run.binaries, topics, "heartbeat = 300ms\n" + server)
        self.run = run
        if directory:  # elsewhere, such as on a small disk
            with open(self.config) as file:
                text = file.read().replace(f'"{self.data}"', f'"{directory}"')
            with open(self.config, "w") as file:
                file.write(text)
            self.data = directory

    def linger(self, seconds):
        """Until it has ended, but not longer. Its exit status, or None."""
        try:
            return self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return None

    def __exit__(self, kind, error, _):
        try:
            if kind and issubclass(kind, Exception) and not issubclass(kind, Skip):
                if self.process and self.process.poll() is None:
                    self.kill()  # a copy of what changes would be no evidence
                copy = tempfile.mkdtemp(prefix=f"ef-fault-{self.run.name}-")
                shutil.copytree(self.directory, copy, dirs_exist_ok=True)
                self.run.kept.append(copy)
        finally:
            self.close()


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("usage: ")[1].split("\n")[0])
    parser.add_argument("binaries")
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--only", choices=[name for name, _ in SCENARIOS])
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--start-round", type=int, default=1)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every broker is ended
    passed = failed = skipped = 0
    for name, scenario in SCENARIOS:
        if options.only not in (None, name):
            continue
        run, start = Run(name, options), time.monotonic()
        print(f"{name}: seed {options.seed}", flush=True)
        try:
            scenario(run)
            passed += 1
            print(f"ok {name} {time.monotonic() - start:.1f} s", flush=True)
        except Skip as reason:
            skipped += 1
            print(f"skipped {name}: {reason}", flush=True)
        except Exception as error:  # one scenario's end is no other's
            failed += 1
            traceback.print_exc(limit=None if not isinstance(error, AssertionError) else -3)
            print(f"FAILED {name} in round {run.number}: {error}\n"
                  f"  kept: {' '.join(run.kept) or 'nothing'}\n  again: {sys.argv[0]} "
                  f"{options.binaries} --only {name} --seed {options.seed} --start-round "
                  f"{run.number}{' --long' if options.long else ''}", flush=True)
    print(f"fault: {passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed + skipped else 0


if __name__ == "__main__":
    sys.exit(main())
