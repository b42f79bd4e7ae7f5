"""A worker's command for the page's tests: does what the payload says. SPDX-License-Identifier: MIT

    {"fail": CODE}          fails with this code, unless the file DIRECTORY/mended is there
    {"fail_once": CODE}     fails the first attempt alone
    {"hold": true}          holds the event until DIRECTORY/released is there
"""
import json
import os
import select
import sys


def judge(event, attempt, directory):
    payload = event["payload"] if isinstance(event.get("payload"), dict) else {}
    code = payload.get("fail")
    if code and not os.path.exists(os.path.join(directory, "mended")):
        return {"result": "retry", "code": code, "text": f"the other side said {code}",
                "trace": "at handler.judge\nat handler.main"}
    if payload.get("fail_once") and attempt == 1:
        return {"result": "retry", "code": payload["fail_once"], "text": "not this time"}
    if payload.get("hold") and not os.path.exists(os.path.join(directory, "released")):
        return None
    return {"result": "done"}


def main():
    directory = sys.argv[1]
    held = []
    rest = b""
    while True:
        ready, _, _ = select.select([0], [], [], 0.1)
        if ready:
            data = os.read(0, 1 << 16)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            held += [json.loads(line) for line in lines if line]
        kept = []
        for work in held:
            answer = judge(work["event"], work.get("attempt", 1), directory) \
                if "event" in work else {}
            if answer is None:
                kept.append(work)
            elif answer:
                print(json.dumps({"tag": work["tag"], **answer}), flush=True)
        held = kept


main()
