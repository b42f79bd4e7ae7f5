/* Workers: how they are, what they hold, and how long they may. SPDX-License-Identifier: MIT */
import {get, repeat, withQuery} from './api.js';
import {badge, fill, make, place, setAttribute, setText} from './dom.js';
import {bytes, count, duration, plural, time, toMs} from './format.js';
import {live, now, watch} from './live.js';
import {Table} from './table.js';

const HELD_MOST = 200;   // of one topic
const TOPICS_MOST = 20;  // asked for what is held
const LOOK_MS = 2000;

function stateCell(cell) {
    const mark = badge('');
    const why = make('span', {class: 'muted small'});
    cell.append(mark, ' ', why);
    return (worker) => {
        const unwell = worker.healthy === false;
        setText(mark, unwell ? 'unwell' : worker.draining ? 'draining' : 'well');
        setAttribute(mark, 'class',
            'badge ' + (unwell ? 'bad' : worker.draining ? 'warn' : 'good'));
        setText(why, worker.unhealthy || '');
    };
}

function topicsCell(cell) {
    let shown = null;
    return (worker) => {
        const topics = worker.topics || [];
        if (shown !== topics.join('\n')) {
            shown = topics.join('\n');
            fill(cell, topics.map((name, i) =>
                [i ? ', ' : '', make('a', {href: place(['topics', name])}, name)]));
        }
    };
}

function columns() {
    return [
        {key: 'worker', label: 'Worker', value: (worker) => worker.worker, build: (cell) => {
            const link = make('a');
            cell.append(link);
            return (worker) => {
                setText(link, worker.worker);
                setAttribute(link, 'href', place(['workers'], {worker: worker.worker}));
            };
        }},
        {key: 'state', label: 'State', value: (worker) => `${worker.healthy !== false}`,
            build: stateCell, class: 'wraps'},
        {key: 'topics', label: 'Topics', wide: true,
            value: (worker) => (worker.topics || []).join(), build: topicsCell},
        {key: 'in_flight', label: 'Holds', number: true, value: (worker) => worker.in_flight,
            text: (worker) => `${count(worker.in_flight)} of ` +
                count((worker.in_flight || 0) + (worker.credit || 0))},
        {key: 'done', label: 'Done', number: true, wide: true,
            value: (worker) => worker.done,
            text: (worker) => count(worker.done)},
        {key: 'failed', label: 'Failed', number: true, value: (worker) => worker.failed,
            text: (worker) => count(worker.failed)},
        {key: 'p50', label: 'p50', number: true, wide: true, value: (worker) => worker.took_p50_ms,
            text: (worker) => duration(worker.took_p50_ms),
            help: 'From delivery to answer, half of them within'},
        {key: 'p99', label: 'p99', number: true, wide: true, value: (worker) => worker.took_p99_ms,
            text: (worker) => duration(worker.took_p99_ms), help: '99 of 100 within'},
        {key: 'rss', label: 'Memory', number: true, wide: true, value: (worker) => worker.rss_bytes,
            text: (worker) => (worker.rss_bytes ? bytes(worker.rss_bytes) : '–')},
        {key: 'cpu', label: 'CPU', number: true, wide: true, value: (worker) => worker.cpu_ms,
            text: (worker) => (worker.cpu_ms ? duration(worker.cpu_ms) : '–')},
        {key: 'restarts', label: 'Restarts', number: true, wide: true,
            value: (worker) => worker.restarts ?? -1,
            text: (worker) => (worker.restarts === undefined ? '–' : count(worker.restarts)),
            help: 'Of its pool: workers that ended by themselves'},
        {key: 'since', label: 'Since', number: true, wide: true,
            value: (worker) => -(toMs(worker.started) ?? 0),
            text: (worker) => duration(now() - (toMs(worker.started) ?? now()))},
        {key: 'host', label: 'Where', wide: true, value: (worker) => worker.host || '',
            text: (worker) => `${worker.host || ''} ${worker.pid || ''}`},
    ];
}

export function workerTable(caption) {
    return new Table({
        caption, columns: columns(), id: (worker) => worker.worker, store: 'workers',
        empty: 'No worker is here.',
    });
}

/* How much of its time an event has left, as a bar and in words. */
function deadlineCell(cell) {
    const bar = make('meter', {min: '0', max: '1'});
    const words = make('span');
    cell.append(bar, ' ', words);
    return (item) => {
        const left = (toMs(item.deadline) ?? 0) - now();
        const lease = live.topics.get(item.topic)?.lease_ms || 30000;
        const share = Math.max(0, Math.min(1, left / lease));
        setAttribute(bar, 'value', share.toFixed(3));
        setAttribute(bar, 'aria-label', 'Time left');
        setAttribute(bar, 'low', '0.2');
        setAttribute(bar, 'high', '0.5');
        setAttribute(bar, 'optimum', '1');
        setText(words, left > 0 ? `${duration(left)} left` : `${duration(-left)} over`);
    };
}

function heldTable() {
    return new Table({
        caption: 'Events that are held', sort: {key: 'deadline', descending: false},
        id: (item) => `${item.topic}/${item.n}`, empty: 'Nothing is held.',
        columns: [
            {key: 'id', label: 'Event', value: (item) => String(item.id ?? item.n),
                build: (cell) => {
                    const link = make('a', {class: 'id'});
                    cell.append(link);
                    return (item) => {
                        setText(link, item.id ?? item.n);
                        setAttribute(link, 'href',
                            place(['event', item.id ?? item.n], {topic: item.topic}));
                    };
                }},
            {key: 'topic', label: 'Topic', wide: true, value: (item) => item.topic,
                text: (item) => item.topic},
            {key: 'worker', label: 'Worker', value: (item) => item.worker || '',
                text: (item) => item.worker || ''},
            {key: 'attempts', label: 'Failed before', number: true, wide: true,
                value: (item) => item.attempts, text: (item) => count(item.attempts)},
            {key: 'deadline', label: 'Time left', value: (item) => toMs(item.deadline) ?? 0,
                build: deadlineCell},
            {key: 'accepted', label: 'Accepted', wide: true,
                value: (item) => toMs(item.accepted) ?? 0, text: (item) => time(item.accepted)},
        ],
    });
}

async function lookAtHeld(topics, signal) {
    const answers = await Promise.all(topics.slice(0, TOPICS_MOST).map((topic) =>
        get(withQuery('api/v1/events', {topic, state: 'leased', limit: HELD_MOST}), {signal})));
    return answers.flatMap((answer, i) => (answer.items || []).map((item) =>
        ({...item, topic: item.topic ?? topics[i]})));
}

export function workersPage(root, {query}) {
    const only = query.get('worker');
    const table = workerTable('Workers');
    const held = heldTable();
    const sum = make('p', {class: 'muted'});
    const cut = new AbortController();
    let items = [];
    fill(root,
        make('h1', {tabindex: '-1'}, only ? `Worker ${only}` : 'Workers'),
        only && make('p', null, make('a', {href: place(['workers'])}, 'All workers')),
        make('section', {class: 'card'}, make('h2', null, only ? 'How it is' : 'How they are'),
            sum, table.element),
        make('section', {class: 'card'}, make('h2', null, 'What they hold'), held.element));
    const fits = (item) => only === null || item.worker === only;
    const update = () => {
        const workers = (live.snapshot?.workers || []).filter(fits);
        const unwell = workers.filter((worker) => worker.healthy === false).length;
        setText(sum, plural(workers.length, 'worker') + (unwell ? `, ${unwell} unwell` : ''));
        table.update(workers);
        held.update(items);
    };
    repeat(async () => {
        const busy = [...live.topics.values()].filter((topic) => topic.leased > 0)
            .map((topic) => topic.topic);
        items = (await lookAtHeld(busy, cut.signal)).filter(fits);
        update();
    }, LOOK_MS, cut.signal);
    update();
    const end = watch(update);
    return () => {
        end();
        cut.abort();
    };
}
