"""Writes a corpus for fuzz_http. SPDX-License-Identifier: MIT

usage: corpus_http.py DIRECTORY"""
import base64
import json
import os
import sys

import msgpack

EVENT = {"topic": "email", "type": "T", "payload": {"a": [1, -2.5, None, True, "ä😀"]}, "id": "i",
         "key": "k", "at": "2025-01-31T12:00:00Z", "delay": "5m", "ttl": 1000, "user_id": 7,
         "schema": 1, "headers": {"x": 1}, "on_dead": {"payload": 2}, "trace": "00", "other": [{}]}
CLOUD = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "n": 3, "topic": "db",
         "time": "2025-01-31T12:00:00Z", "expirytime": "2099-01-31T12:00:00Z", "partitionkey": "p",
         "traceparent": "00", "datacontenttype": "application/json", "data": {"a": 1}}
SCHEMA = {"type": ["object", "null"], "required": ["a"], "additionalProperties": False,
          "properties": {"a": {"enum": [1, "x", {"y": [1]}]}, "b": {"items": {"minimum": 3}},
                         "c": {"minLength": 1, "maxLength": 3, "const": "q"}}}
SEEDS = {
    "object": (0, json.dumps(EVENT).encode()),
    "array": (0, json.dumps([EVENT, 5, {"payload": 1}]).encode()),
    "twice": (0, b'{"payload":{"a":1,"a":2}}'),
    "special": (0, b'{"payload":{"$bin":"AQ=="},"id":{"$bin":"AQ=="},"x":{"$map":[[1,2]]}}'),
    "numbers": (0, b'{"payload":[1e308,-0,18446744073709551615,-9223372036854775808,1e-400]}'),
    "deep": (0, b'{"payload":' + b"[" * 31 + b"]" * 31 + b"}"),
    "lines": (1, b"\n".join(json.dumps(e).encode() for e in (EVENT, {"payload": 0})) + b"\r\n\n{"),
    "packed": (2, msgpack.packb(["email", None, {"a": b"\x00"}, {"type": "T"}])),
    "packed_map": (2, msgpack.packb(EVENT)),
    "packed_list": (2, msgpack.packb([["email", "a", 1], EVENT])),
    "cloud": (3, json.dumps(CLOUD).encode()),
    "cloud_bytes": (3, json.dumps(dict({k: v for k, v in CLOUD.items() if k != "data"},
                                       data_base64=base64.b64encode(b"ab").decode())).encode()),
    "cloud_batch": (4, json.dumps([CLOUD, CLOUD]).encode()),
    "cloud_binary": (5, b"id:1\nsource:/s%20%E2%82%AC\nspecversion:1.0\ntype:\"t\\\"x\"\n{\"a\":1}"),
    "schema": (6, json.dumps(SCHEMA).encode() + b'\x00{"a":1,"b":[3,4],"c":"q"}'),
    "schema_fixed": (6, b'{"a":[2],"b":[5,"xy"]}'),
    "tokens": (7, b"# x\nshop publish:a,publish:b.* aaaaaaaaaaaaaaaa\nv read sha256:" + b"0" * 64),
}
os.makedirs(sys.argv[1], exist_ok=True)
for name, (kind, body) in SEEDS.items():
    with open(os.path.join(sys.argv[1], name), "wb") as out:
        out.write(bytes([kind]) + body)
