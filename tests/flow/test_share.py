"""What clients/monitor/share has for others, against a real monitor: the dashboard, the rules and
the manifests can be read, and ask for metrics and labels that are there.
SPDX-License-Identifier: MIT"""
import json
import os
import re
import subprocess

import yaml

from support import Broker, wait_for
from test_monitor import SHARE, Monitor, ended, publish, tool

LABELS_OF_PROMETHEUS = {"job", "instance", "le"}


def loaded(name):
    with open(os.path.join(SHARE, name), encoding="utf-8") as file:
        return json.load(file) if name.endswith(".json") else list(yaml.safe_load_all(file))


def members(value, key):
    """All that stands under a key, at any depth."""
    if isinstance(value, dict):
        return [found for name, inner in value.items()
                for found in ([inner] if name == key else members(inner, key))]
    if isinstance(value, list):
        return [found for inner in value for found in members(inner, key)]
    return []


def queries():
    """[(file, query in PromQL)], with Grafana's variables filled in."""
    grafana, [rules] = loaded("eventflow-grafana.json"), loaded("eventflow-alerts.yml")
    [keda] = loaded("eventflow-keda.yml")
    found = [("grafana", expr) for expr in members(grafana, "expr")]
    found += [("grafana", query.split("(", 1)[1].rsplit(",", 1)[0])
              for query in members(grafana["templating"], "query") if query.startswith("label_values")]
    found += [("alerts", expr) for expr in members(rules, "expr")]
    found += [("keda", query) for query in members(keda, "query")]
    fill = {"$__rate_interval": "1m", "$job": ".*", "$topic": ".*"}
    return [(name, re.sub(r"\$\w+", lambda word: fill[word.group()], query)) for name, query in found]


def test_shared_queries_find_what_they_ask_for(binaries):
    asked = queries()
    assert {name for name, _ in asked} == {"grafana", "alerts", "keda"} and len(asked) > 40, asked
    [hpa] = loaded("eventflow-hpa.yml")
    for metric in members(hpa, "metric"):
        labels = ",".join(f'{k}="{v}"' for k, v in metric["selector"]["matchLabels"].items())
        asked.append(("hpa", f"{metric['name']}{{{labels}}}"))
    with Broker(binaries) as broker:
        broker.start()
        with Monitor(broker, "--gateway", "http://127.0.0.1:1") as monitor, ended(
                broker.worker_process("--", "true", topic="email")):
            publish(broker, "email", 3)
            wait_for("the numbers are there", lambda: monitor.metrics().get(
                'eventflow_events_completed_total{topic="email"}') == 3)
            wait_for("the gateway was looked for",
                     lambda: "eventflow_gateway_up" in monitor.metrics())
            text = monitor.ask("/metrics")[2].decode()
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
    for name, query in asked:
        for metric, labels in re.findall(r"\b(eventflow_\w+)(?:\{([^}]*)\})?", query):
            base = re.sub(r"_(bucket|sum|count)$", "", metric)
            assert metric in kinds or kinds.get(base) == "histogram", f"{name}: no {metric}: {query}"
            have = re.findall(rf"^{metric}\{{([^}}]*)\}}", text, re.M)
            for label in set(re.findall(r"(\w+) *[=!]", labels)) - LABELS_OF_PROMETHEUS:
                assert not have or any(f'{label}="' in row for row in have), \
                    f"{name}: {metric} has no {label}: {query}"


def test_shared_queries_are_promql_and_keda_gets_the_wanted_number(binaries):
    promtool = tool("promtool")
    with Broker(binaries) as broker:  # for its directory
        path = os.path.join(broker.directory, "queries.yml")
        with open(path, "w", encoding="utf-8") as file:
            yaml.safe_dump({"groups": [{"name": "all", "rules": [
                {"record": f"query:{i}", "expr": query} for i, (_, query) in enumerate(queries())]}]},
                file)
        done = subprocess.run([promtool, "check", "rules", path], capture_output=True, text=True,
                              timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        [keda] = [query for name, query in queries() if name == "keda"]
        path = os.path.join(broker.directory, "keda.yml")
        wanted = 'eventflow_pool_desired_workers{topic="%s"}'
        with open(path, "w", encoding="utf-8") as file:
            yaml.safe_dump({"tests": [{
                "interval": "15s",
                "input_series": [{"series": wanted % "email", "values": "3 3"},
                                 {"series": wanted % "api", "values": "9 9"}],
                "promql_expr_test": [{"expr": keda, "eval_time": "15s",
                                      "exp_samples": [{"labels": "{}", "value": 3}]}]}]}, file)
        done = subprocess.run([promtool, "test", "rules", path], capture_output=True, text=True,
                              timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
