/* Alerts that fire or did, and what the broker said lately. SPDX-License-Identifier: MIT */
import {get, repeat} from './api.js';
import {badge, fill, make, place, setAttribute, setText} from './dom.js';
import {duration, time, toMs} from './format.js';
import {live, now, watch} from './live.js';
import {Table} from './table.js';

const LOOK_MS = 5000;

export function firing() {
    return [...live.alerts.values()].filter((alert) => alert.state !== 'pending')
        .sort((a, b) => (toMs(b.since) ?? 0) - (toMs(a.since) ?? 0));
}

function kindOf(alert) {
    return alert.severity === 'critical' ? 'bad' : 'warn';
}

const words = (name) => String(name ?? '').replace(/_/g, ' ');

/* The topic stands before the text already. */
function withoutName({topic, text}) {
    return topic && text.startsWith(topic + ': ') ? text.slice(topic.length + 2) : text;
}

export function alertList(alerts) {
    return make('ul', {class: 'alert-list'}, alerts.map((alert) =>
        make('li', {class: kindOf(alert)},
            badge(words(alert.name), kindOf(alert)),
            alert.topic ? make('a', {href: place(['topics', alert.topic])}, alert.topic) : null,
            make('span', null, withoutName(alert)),
            make('span', {class: 'muted small'},
                `for ${duration(Math.max(0, now() - (toMs(alert.since) ?? now())))}`))));
}

const BAD = ['stall', 'crash_loop', 'spawn_failed', 'poison', 'space', 'blocked'];

const NOTICES = [
    {key: 'time', label: 'When', value: (notice) => toMs(notice.time) ?? 0,
        text: (notice) => time(notice.time), plain: true},
    {key: 'kind', label: 'What', value: (notice) => notice.kind, build: (cell) => {
        const mark = badge('');
        cell.append(mark);
        return (notice) => {
            setText(mark, words(notice.kind));
            setAttribute(mark, 'class',
                'badge' + (BAD.includes(notice.kind) ? ' bad' : ''));
        };
    }},
    {key: 'topic', label: 'Topic', value: (notice) => notice.topic || '', build: (cell) => {
        const link = make('a');
        cell.append(link);
        return (notice) => {
            setText(link, notice.topic || '');
            setAttribute(link, 'href', notice.topic ? place(['topics', notice.topic]) : null);
        };
    }},
    {key: 'detail', label: 'Detail', text: (notice) => notice.detail ?? '', class: 'long'},
];

let numbered = 0;
const numbers = new WeakMap();
function numberOf(notice) { // two notices may be alike in every word
    if (!numbers.has(notice)) {
        numbers.set(notice, numbered += 1);
    }
    return numbers.get(notice);
}

const lasted = (alert) => (toMs(alert.changed) ?? NaN) - (toMs(alert.since) ?? NaN);

const ENDED = [
    {key: 'since', label: 'Since', value: (alert) => toMs(alert.since) ?? 0,
        text: (alert) => time(alert.since), plain: true},
    {key: 'lasted', label: 'Lasted', number: true, value: lasted,
        text: (alert) => duration(lasted(alert))},
    {key: 'name', label: 'Alert', value: (alert) => alert.name, text: (alert) => words(alert.name)},
    {key: 'topic', label: 'Topic', value: (alert) => alert.topic || '',
        text: (alert) => alert.topic || ''},
    {key: 'text', label: 'Text', text: (alert) => alert.text ?? '', class: 'long'},
];

const PROBES = {up: 'good', recovering: 'warn', down: 'bad', unknown: ''};

/* What the monitor finds when it knocks at the broker and the gateway. */
function probeList(probes) {
    return make('ul', {class: 'plain'}, Object.entries(probes).map(([name, probe]) =>
        make('li', {class: 'row'}, make('b', null, name),
            badge(words(probe.state), PROBES[probe.state]),
            typeof probe.took_ms === 'number' && make('span', {class: 'muted small'},
                `answers in ${duration(probe.took_ms)}`),
            make('span', null, probe.detail))));
}

export function alertsPage(root) {
    const now = make('div');
    const probes = make('div');
    const ended = new Table({
        caption: 'Alerts that are over', columns: ENDED,
        id: (alert) => `${alert.id} ${alert.since}`,
        sort: {key: 'since', descending: true}, empty: 'None is kept.', page: 50,
    });
    const notices = new Table({
        caption: 'Notices', columns: NOTICES, id: numberOf, page: 50,
        sort: {key: 'time', descending: true}, empty: 'Nothing since this page was opened.',
    });
    const cut = new AbortController();
    let shown = null;
    fill(root, make('h1', {tabindex: '-1'}, 'Alerts'),
        make('section', {class: 'card'}, make('h2', null, 'Firing'), now),
        make('section', {class: 'card'}, make('h2', null, 'Probes'), probes),
        make('section', {class: 'card'}, make('h2', null, 'Over by now'), ended.element),
        make('section', {class: 'card'}, make('h2', null, 'Notices of the broker'),
            notices.element));
    const update = () => {
        const state = JSON.stringify(firing());
        if (shown !== state) {
            shown = state;
            fill(now, firing().length ? alertList(firing())
                : make('p', {class: 'muted'}, 'Nothing fires.'));
        }
        ended.update(live.ended);
        notices.update(live.notices);
    };
    repeat(async () => {
        const answer = await get('api/v1/alerts', {signal: cut.signal});
        fill(probes, probeList(answer.probes));
    }, LOOK_MS, cut.signal);
    update();
    const end = watch(update);
    return () => {
        end();
        cut.abort();
    };
}
