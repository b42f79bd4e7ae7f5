"""Writes a corpus for fuzz_frames from proto/vectors.json. SPDX-License-Identifier: MIT

usage: corpus.py DIRECTORY"""
import json
import os
import sys

here = os.path.dirname(os.path.abspath(__file__))
os.makedirs(sys.argv[1], exist_ok=True)
with open(os.path.join(here, "..", "..", "proto", "vectors.json")) as file:
    for vector in json.load(file):
        kind = {"front": 0, "back": 1}.get(vector["socket"])
        if kind is not None and sum(map(len, vector["frames"])) < 4000:
            with open(os.path.join(sys.argv[1], vector["name"]), "wb") as out:
                out.write(bytes([0, kind]) + b"\xff\xfe".join(bytes.fromhex(f) for f in vector["frames"]))
