/* A whole system of one's own on ephemeral ports: broker, workers, gateway, monitor.
   SPDX-License-Identifier: MIT */
import fs from 'node:fs';
import path from 'node:path';
import {Program, freePorts, pause, root, temporary, until} from './support.mjs';

const ENDPOINTS = ['ingress', 'front', 'back', 'admin', 'stats'];
const HANDLER = path.join(root, 'tests/page/handler.py');

function settings(directory, endpoints, handler) {
    const lines = ENDPOINTS.map((name) => `    ${name} = "${endpoints[name]}"`);
    return `server
    data = "${directory}/data"
${lines.join('\n')}
topic
    defaults
        attempts = 2
        retry_base = 100ms
        retry_cap = 200ms
    email
        breaker = 90%
        breaker_calls = 1000
    slow
        retry_base = 1h
        retry_cap = 1h
        retry_jitter = 0
    idle
    keyed
        on_blocked = park
    api
        pool
            command = "exec ${handler}"
            min = 1
            max = 3
            stall = 300ms
            idle = 5s
`;
}

export class System {
    static async start(bin, {monitor} = {}) {
        const self = new System();
        self.bin = bin;
        self.directory = temporary();
        const ports = await freePorts(ENDPOINTS.length + 2);
        self.endpoints = Object.fromEntries(ENDPOINTS.map((name, i) =>
            [name, `tcp://127.0.0.1:${ports[i]}`]));
        self.url = `http://127.0.0.1:${ports[5]}/`;
        self.gatewayUrl = `http://127.0.0.1:${ports[6]}/`;
        self.monitorWords = monitor || [];
        self.env = {};
        for (const name of ENDPOINTS) {
            self.env[`EVENTFLOW_${name.toUpperCase()}`] = self.endpoints[name];
        }
        const command = `${bin}/eventflow-worker exec --persistent --children 1 --concurrency 20`;
        const handler = `/usr/bin/python3 ${HANDLER} ${self.directory}`;
        fs.writeFileSync(self.file('eventflow.cfg'),
            settings(self.directory, self.endpoints, `${command} -- ${handler}`));
        await self.startBroker();
        self.workers = ['email', 'slow', 'keyed'].map((topic) => self.program('eventflow-worker', [
            'exec', '--persistent', '--children', '1', '--concurrency', '20', '--topic', topic,
            '--name', `worker-${topic}`, '--', ...handler.split(' ')]));
        await self.startMonitor();
        await self.startGateway();
        return self;
    }

    file(name) {
        return path.join(this.directory, name);
    }

    program(name, words) {
        return new Program(path.join(this.bin, name), words,
            {log: this.file(`${name}.log`), env: this.env});
    }

    async startBroker() {
        this.broker = this.program('eventflowd', ['--config', this.file('eventflow.cfg')]);
        await until('the broker answers', async () => {
            const asked = this.program('eventflow', ['status', '--json']);
            return await asked.ended === 0;
        });
    }

    async startMonitor() {
        this.monitor = this.program('eventflow-monitor', ['--listen', new URL(this.url).host,
            '--data', this.file('monitor.db'), '--gateway', this.gatewayUrl, '--probe', '500ms',
            ...this.monitorWords]);
        await until('the monitor answers', async () => (await fetch(this.url)).ok);
    }

    /* Publishing goes through the gateway. */
    async startGateway() {
        this.gateway = this.program('eventflow-gateway',
            ['--listen', new URL(this.gatewayUrl).host]);
        await until('the gateway answers', async () =>
            (await fetch(`${this.gatewayUrl}health/ready`)).ok);
    }

    async ask(method, where, body) {
        const answer = await fetch(this.url + where, {
            method, body: body && JSON.stringify(body),
            headers: {'Content-Type': 'application/json'},
        });
        return answer.json();
    }

    async topic(name) {
        return (await this.ask('GET', `api/v1/topics/${name}`)).stats;
    }

    /* Publishes these events, [{topic, type, payload, …}]; answers their ids. */
    async publish(events) {
        const answer = await fetch(`${this.gatewayUrl}api/v1/events`, {
            method: 'POST', body: JSON.stringify(events),
            headers: {'Content-Type': 'application/json'},
        });
        const told = await answer.json();
        if (!answer.ok) {
            throw new Error(`${answer.status} ${JSON.stringify(told)}`);
        }
        return told.items.map((item) => item.id);
    }

    /* About so many events a second until the returned function is called. */
    load(rate, make) {
        let runs = true;
        const ended = (async () => {
            for (let i = 0; runs; i++) {
                await this.publish(Array.from({length: Math.ceil(rate / 10)}, (_, k) =>
                    make(i * rate + k)));
                await pause(100);
            }
        })();
        ended.catch(() => {}); // a test that fails ends the system first; else the caller hears it
        return () => {
            runs = false;
            return ended;
        };
    }
}
