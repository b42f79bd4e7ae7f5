/* Replays and discards that go on in the server, with their progress.
   SPDX-License-Identifier: MIT */
import {call, get, repeat} from './api.js';
import {ask, toast} from './dialog.js';
import {badge, fill, make, place, setAttribute, setText} from './dom.js';
import {count, time, toMs} from './format.js';

const KEY = 'eventflow.tasks';
const MOST = 50;
const LOOK_MS = 1000;
const ENDED = ['done', 'cancelled', 'failed', 'gone'];

/* Those that this tab has begun. */
let own = [];
try {
    own = JSON.parse(sessionStorage.getItem(KEY)) || [];
} catch {
    own = [];
}

export function remember(task) {
    own.unshift({...task, at: Date.now()});
    own.length = Math.min(own.length, MOST);
    try {
        sessionStorage.setItem(KEY, JSON.stringify(own));
    } catch {
        // Forgotten with the page then.
    }
}

/* The server's list, where it has one, and those of this tab. */
async function look(signal) {
    let known = [];
    try {
        known = (await get('api/v1/tasks', {signal})).items || [];
    } catch (error) {
        if (signal.aborted) {
            throw error;
        }
    }
    const byId = new Map(known.map((task) => [String(task.id), task]));
    for (const mine of own) {
        if (!byId.has(mine.id)) {
            try {
                const task = await get(`api/v1/tasks/${encodeURIComponent(mine.id)}`, {signal});
                byId.set(mine.id, task);
            } catch (error) {
                if (signal.aborted) {
                    throw error;
                }
                byId.set(mine.id, {state: error.status === 404 ? 'gone' : 'unknown'});
            }
        }
        byId.set(mine.id, {...mine, ...byId.get(mine.id)});
    }
    return [...byId.values()];
}

const moved = (task) => task.moved ?? 0;
const total = (task) => task.matched ?? task.count;

async function cancel(task) {
    const answer = await ask({
        title: 'Cancel this task?', yes: 'Cancel it', no: 'Let it go on', danger: true,
        text: 'What it has moved already stays moved.',
        run: () => call('DELETE', `api/v1/tasks/${encodeURIComponent(task.id)}`),
    });
    if (answer) {
        toast('The task is cancelled.');
    }
}

function entry(first) {
    let task = first;
    const verb = first.kind ?? first.verb;
    const bar = make('progress', {'aria-label': 'Progress'});
    const text = make('span', {class: 'grow'});
    const state = badge('');
    const stop = make('button', {type: 'button', class: 'act', onclick: () => cancel(task)},
        'Cancel');
    const trouble = make('p', {class: 'trouble'});
    return {
        element: make('li', {class: 'card task'},
            make('div', {class: 'head'},
                make('h2', null, `${verb} `, first.topic
                ? make('a', {href: place(['topics', first.topic])}, first.topic)
                : 'all topics'), state, stop),
            bar, make('div', {class: 'row'}, text, make('span', {class: 'muted small'},
                time(first.started ?? first.at), first.who && ` by ${first.who}`)), trouble),
        update(next) {
            task = next;
            const most = total(task);
            const ended = ENDED.includes(task.state);
            setAttribute(bar, 'max', most || 1);
            setAttribute(bar, 'value', most ? moved(task) : Number(task.state === 'done'));
            setText(text, `${count(moved(task))} of ${most === undefined ? '?' : count(most)}` +
                (task.asked > moved(task) ? `, ${count(task.asked - moved(task))} had gone` : '') +
                (task.rate_per_s > 0 ? `, ${task.rate_per_s}/s` : ''));
            setText(state, task.state || 'running');
            setAttribute(state, 'class', 'badge ' + (ended
                ? (task.state === 'failed' ? 'bad' : task.state === 'cancelled' ? 'warn' : 'good')
                : 'busy'));
            stop.hidden = ended;
            setText(trouble, task.error ?? '');
        },
    };
}

export function tasksPage(root) {
    const list = make('ul', {class: 'plain'});
    const none = make('p', {class: 'muted'},
        'None. Replays and discards of dead letters show here.');
    const entries = new Map();
    const cut = new AbortController();
    fill(root, make('h1', {tabindex: '-1'}, 'Tasks'), none, list);
    repeat(async () => {
        const tasks = await look(cut.signal);
        tasks.sort((a, b) => (toMs(b.started ?? b.at) ?? 0) - (toMs(a.started ?? a.at) ?? 0));
        none.hidden = tasks.length > 0;
        tasks.forEach((task, i) => {
            const id = String(task.id);
            if (!entries.has(id)) {
                entries.set(id, entry(task));
                list.insertBefore(entries.get(id).element, list.children[i] || null);
            }
            entries.get(id).update(task);
        });
    }, LOOK_MS, cut.signal);
    return () => cut.abort();
}

