/* The stream of snapshots, notices and alerts, and what of it is kept in memory.
   Role: one connection for the whole page. Owns the last snapshot, a short past of each topic,
   alerts by id, the last notices. Tells its watchers at most once a frame. On failure it tries
   again, later each time. Read with fetch, not EventSource: that can't send a token.
   SPDX-License-Identifier: MIT */
import {address, currentToken, get, headers, renewToken} from './api.js';
import {toMs} from './format.js';

export const PAST = 120;  // samples of the short past, one a second
const NOTICES_MOST = 500;
const ENDED_MOST = 100;
const TRY_FIRST_MS = 500; // doubled for each failure, up to
const TRY_LAST_MS = 8000;
const SILENCE_MS = 10000; // a connection on which nothing came for so long is taken for dead
const STALE_MS = 4000;    // a snapshot older than that isn't shown as live

export const live = {
    link: 'connecting', // connecting, live, stale, lost
    snapshot: null,
    topics: new Map(),  // name -> as in the snapshot
    past: new Map(),    // name -> {depth: [], done: []}
    total: {in: [], done: [], failed: [], age: [], leased: [], dead: [], sync: []},
    alerts: new Map(),  // pending or firing, by id
    knowsAlerts: false, // those that fired before are among them, or can't be learnt
    ended: [],          // alerts that are over, newest first
    notices: [],        // newest first
    down: new Map(),    // "broker", "gateway" -> since when
};

let offset = -Infinity; // the server's clock less ours, as the fastest snapshot had it
let snapshotAt = 0;     // by our clock
const watchers = new Set();
let frame = 0;

export function now() {
    return Date.now() + (offset > -Infinity ? offset : 0);
}

/* Called with nothing, in an animation frame. Returns what ends it. */
export function watch(watcher) {
    watchers.add(watcher);
    return () => watchers.delete(watcher);
}

export function changed() {
    if (!frame) {
        frame = requestAnimationFrame(() => {
            frame = 0;
            watchers.forEach((watcher) => watcher());
        });
    }
}

function setLink(link) {
    if (live.link !== link) {
        live.link = link;
        changed();
    }
}

function keepSample(list, value) {
    list.push(value);
    if (list.length > PAST) {
        list.shift();
    }
}

/* Sums and maxima over all topics: the page's top line. */
export function totals(snapshot) {
    const sum = {in: 0, done: 0, failed: 0, age: 0, leased: 0, dead: 0};
    for (const topic of snapshot.topics || []) {
        sum.in += topic.in_per_s || 0;
        sum.done += topic.done_per_s || 0;
        sum.failed += topic.failed_per_s || 0;
        sum.age = Math.max(sum.age, topic.oldest_ms || 0);
        sum.leased += topic.leased || 0;
        sum.dead += topic.dead || 0;
    }
    sum.sync = snapshot.totals?.sync_p99_ms ?? (snapshot.process?.sync_us ?? NaN) / 1000;
    return sum;
}

function takeSnapshot(snapshot) {
    snapshotAt = Date.now();
    offset = Math.max(offset, (toMs(snapshot.time) ?? snapshotAt) - snapshotAt);
    live.snapshot = snapshot;
    live.down.delete('broker');
    const seen = new Map();
    for (const topic of snapshot.topics || []) {
        const past = live.past.get(topic.topic) || {depth: [], done: []};
        keepSample(past.depth, topic.ready || 0);
        keepSample(past.done, topic.done_per_s || 0);
        live.past.set(topic.topic, past);
        seen.set(topic.topic, topic);
    }
    live.topics = seen;
    for (const name of live.past.keys()) {
        if (!seen.has(name)) {
            live.past.delete(name);
        }
    }
    const sum = totals(snapshot);
    for (const [name, list] of Object.entries(live.total)) {
        keepSample(list, sum[name]);
    }
    setLink('live');
}

const TAKERS = {
    snapshot: takeSnapshot,
    notice(notice) {
        live.notices.unshift(notice);
        live.notices.length = Math.min(live.notices.length, NOTICES_MOST);
    },
    alert(alert) {
        if (alert.state === 'resolved') {
            live.alerts.delete(alert.id);
            live.ended.unshift(alert);
            live.ended.length = Math.min(live.ended.length, ENDED_MOST);
        } else {
            live.alerts.set(alert.id, alert);
        }
    },
    down({what, since}) {
        live.down.set(what, since);
    },
    up({what}) {
        live.down.delete(what);
    },
};

function takeMessage(name, data) {
    const take = TAKERS[name];
    if (!take) {
        return;
    }
    try {
        take(JSON.parse(data));
    } catch (error) {
        console.error('a message of the stream can’t be read', name, error);
    }
    changed();
}

/* Server-sent events, by the line. */
class Lines {
    constructor() {
        this.rest = '';
        this.name = '';
        this.data = [];
    }

    take(text) {
        const lines = text.split('\n'); // a long line comes in pieces: only the new one is searched
        lines[0] = this.rest + lines[0];
        this.rest = lines.pop();
        lines.forEach((line) => this.line(line.endsWith('\r') ? line.slice(0, -1) : line));
    }

    line(line) {
        if (line === '') {
            if (this.data.length) {
                takeMessage(this.name || 'message', this.data.join('\n'));
            }
            this.name = '';
            this.data = [];
        } else if (line.startsWith('event:')) {
            this.name = line.slice(6).trim();
        } else if (line.startsWith('data:')) {
            this.data.push(line.slice(line[5] === ' ' ? 6 : 5));
        }
    }
}

/* Alerts that fire are told once; those who come later ask. */
async function learnAlerts() {
    const answer = await get('api/v1/alerts');
    const isOver = (alert) => alert.state === 'resolved';
    live.alerts = new Map(answer.items.filter((alert) => !isOver(alert))
        .map((alert) => [alert.id, alert]));
    live.ended = answer.items.filter(isOver);
    changed();
}

/* Until it ends; true where it came to something. */
async function stream() {
    const cut = new AbortController();
    let silence = 0;
    const listen = () => {
        clearTimeout(silence);
        silence = setTimeout(() => cut.abort(), SILENCE_MS);
    };
    listen();
    try {
        const used = currentToken();
        const response = await fetch(address('api/v1/live'), {
            headers: headers({Accept: 'text/event-stream'}), cache: 'no-store', signal: cut.signal,
        });
        if (response.status === 401) {
            clearTimeout(silence);
            return await renewToken(used) !== null;
        }
        if (!response.ok || !response.body) {
            return false;
        }
        live.down.clear();
        learnAlerts().catch(() => undefined).finally(() => {
            live.knowsAlerts = true;
        });
        const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
        const lines = new Lines();
        for (;;) {
            const {done, value} = await reader.read();
            if (done) {
                return true;
            }
            listen();
            lines.take(value);
        }
    } catch {
        return false;
    } finally {
        clearTimeout(silence);
    }
}

let wake = () => undefined;

function pause(ms) {
    return new Promise((resolve) => {
        const timer = setTimeout(resolve, ms);
        wake = () => {
            clearTimeout(timer);
            resolve();
        };
    });
}

/* Doesn't wait any longer before it tries again. */
export function hurry() {
    wake();
}

export async function start() {
    addEventListener('online', () => wake());
    document.addEventListener('visibilitychange', () => document.hidden || wake());
    setInterval(() => {
        if (live.link === 'live' && Date.now() - snapshotAt > STALE_MS) {
            setLink('stale');
        }
    }, 500);
    let tries = 0;
    for (;;) {
        const began = Date.now();
        const came = await stream();
        setLink('lost');
        tries = came || Date.now() - began > SILENCE_MS ? 0 : tries + 1;
        const most = Math.min(TRY_FIRST_MS * 2 ** tries, TRY_LAST_MS);
        await pause(most * (0.5 + Math.random() / 2));
    }
}
