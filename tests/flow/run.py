"""Runs every test_* function of the flow tests against real processes. SPDX-License-Identifier: MIT

usage: run.py BINARIES [TEST or MODULE...]"""
import importlib
import os
import sys
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
MODULES = sorted(name[:-3] for name in os.listdir(os.path.dirname(os.path.abspath(__file__)))
                 if name.startswith("test_") and name.endswith(".py"))


class Skip(Exception):
    pass


def main():
    binaries, names = sys.argv[1], sys.argv[2:]
    if "asan" in binaries:  # libzmq 4.3.4 leaves a few hundred bytes of a closing connection behind
        os.environ["LSAN_OPTIONS"] = "suppressions=" + os.path.join(
            os.path.dirname(os.path.abspath(__file__)), "lsan.supp")
    passed = failed = skipped = 0
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        for name in sorted(n for n in dir(module) if n.startswith("test_")):
            if names and name not in names and module_name not in names:
                continue
            start = time.monotonic()
            try:
                getattr(module, name)(binaries)
                passed += 1
                print(f"ok {module_name}.{name} {time.monotonic() - start:.1f} s", flush=True)
            except Exception as error:  # one test's end is no other's
                if type(error).__name__ == "Skip":
                    skipped += 1
                    print(f"skipped {module_name}.{name}: {error}", flush=True)
                    continue
                failed += 1
                print(f"FAILED {module_name}.{name}", flush=True)
                traceback.print_exc()
    print(f"flow: {passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
