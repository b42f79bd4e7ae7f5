"""How fast the gateway confirms events, beside a bare libmicrohttpd handler in the same run.
SPDX-License-Identifier: MIT

usage: gateway.py BINARIES [SECONDS]   (needs wrk; prints one JSON object)

Twice: with the data directory on the disk, where 64 clients that wait for a sync each do nothing meanwhile, and in
memory (/dev/shm), which shows what HTTP costs: the handler beside it touches no disk either."""
import json
import os
import re
import resource
import socket
import statistics
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "flow"))
import http_gateway  # noqa: E402
import support  # noqa: E402

EVENT = ('{"topic":"email","type":"USER_NOTIFICATION","payload":{"to_email":"test@example.com",'
         '"message":"Testing my first event-driven app!"}}')
LINE = '{"topic":"email","payload":{"to_email":"test@example.com","n":%d}}'


def wrk(url, seconds, body, media="application/json", connections=64):
    """Answers a second, and of how many another status than 2xx came."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write('wrk.method = "POST"\nwrk.headers["Content-Type"] = "%s"\nwrk.body = %s\n'
                     % (media, json.dumps(body)))
        script.flush()
        done = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s",
                               script.name, url], capture_output=True, text=True, check=True,
                              timeout=seconds + 60)
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", done.stdout).group(1))
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", done.stdout)
    errors = re.search(r"Socket errors: (.*)", done.stdout)
    return {"per_s": rate, "bad": int(bad.group(1)) if bad else 0,
            "errors": errors.group(1) if errors else "",
            "p99": re.search(r"99%\s+(\S+)", done.stdout).group(1)}


def bare(binaries, port, threads=2):
    """The handler to compare with."""
    program = os.path.join(os.path.dirname(os.path.abspath(binaries)), "tests", "bare_server")
    process = subprocess.Popen([program, str(port), str(threads)], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE)
    process.stdout.readline()
    return process


def beside_slow(gateway, seconds, count):
    """The rate of a healthy client beside many slow ones, as a share of that without them."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    parts = (b"GET /health HTTP/1.1\r\nHost: x\r\nA: ", b"P",
             b"POST /api/v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000\r\n\r\n{")
    url = gateway.url("/api/v1/events")
    before = wrk(url, seconds, EVENT, connections=8)["per_s"]
    socks = []
    try:
        for n in range(count):
            sock = socket.create_connection(("127.0.0.1", gateway.ports["main"]), timeout=20)
            sock.sendall(parts[n % 3])
            socks.append(sock)
        beside = wrk(url, seconds, EVENT, connections=8)["per_s"]
    finally:
        for sock in socks:
            sock.close()
    after = wrk(url, seconds, EVENT, connections=8)["per_s"]
    return 2 * beside / (before + after)


def measure(binaries, seconds=5, batch=500):
    with support.Broker(binaries, topics="email\n    dedupe = 0ms") as broker:
        broker.start()
        with http_gateway.Gateway(broker, "--header-timeout", "120s", "--pace", "1") as gateway:
            lines = "\n".join(LINE % n for n in range(batch)) + "\n"
            port = support.free_ports(1)[0]
            other = bare(binaries, port)
            try:
                # By turns, for what else the machine does changes by the second.
                rounds = [(wrk(f"http://127.0.0.1:{port}/", 1, EVENT),
                           wrk(gateway.url("/api/v1/events"), 1, EVENT))
                          for _ in range(max(3, 2 * seconds))]
            finally:
                other.stdin.close()
                other.wait(timeout=20)
            many = wrk(gateway.url("/api/v1/events"), seconds, lines, "application/x-ndjson", 16)
            accepted = broker.topic("email")["accepted"]
            slow = beside_slow(gateway, seconds, 2000)
    shares = sorted(own["per_s"] / least["per_s"] for least, own in rounds)
    single = max((own for _, own in rounds), key=lambda own: own["per_s"])
    return {"bare_per_s": statistics.median(least["per_s"] for least, _ in rounds),
            "single_per_s": statistics.median(own["per_s"] for _, own in rounds),
            "share": statistics.median(shares), "shares": shares, "ndjson_events_per_s": many["per_s"] * batch,
            "beside_2000_slow_share": slow,
            "accepted": accepted, "best_single": single, "ndjson": many}


def main():
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    result = {"disk": measure(sys.argv[1], seconds)}
    if os.path.isdir("/dev/shm"):
        tempfile.tempdir = "/dev/shm"
        result["memory"] = measure(sys.argv[1], seconds)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
