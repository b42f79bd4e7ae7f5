/* The first page: the top line, alerts, all topics. SPDX-License-Identifier: MIT */
import {get, withQuery} from './api.js';
import {sparkline} from './chart.js';
import {badge, fill, make, place, setAttribute, setText} from './dom.js';
import {bytes, count, duration, plural, rate} from './format.js';
import {PAST, live, totals, watch} from './live.js';
import {Table} from './table.js';
import {alertList, firing} from './alerts.js';

/* {key, label, value (sum, snapshot) as text, kind (sum, snapshot), past: name of live.total} */
const TILES = [
    {label: 'In', unit: '/s', value: (sum) => rate(sum.in), past: 'in'},
    {label: 'Done', unit: '/s', value: (sum) => rate(sum.done), past: 'done'},
    {label: 'Failed', unit: '/s', value: (sum) => rate(sum.failed), past: 'failed',
        kind: (sum) => sum.failed > 0 && 'warn'},
    {label: 'Oldest waits', value: (sum) => duration(sum.age), past: 'age'},
    {label: 'In flight', value: (sum) => count(sum.leased), past: 'leased'},
    {label: 'Dead', value: (sum) => count(sum.dead), past: 'dead', href: place(['dead']),
        kind: (sum) => sum.dead > 0 && 'bad'},
    {label: 'Sync to disk', value: (sum) => duration(sum.sync), past: 'sync'},
    {label: 'Disk left', value: (_, {process}) => bytes(process?.disk_free_bytes),
        note: (_, {broker}) => `journal ${bytes(broker?.journal_bytes)}`,
        kind: (_, {broker}) => ({low: 'warn', full: 'bad'})[broker?.space]},
];

function tile(spec) {
    const value = make('span', {class: 'value'}, '–');
    const spark = spec.past && sparkline(120, 26, PAST);
    const note = spec.note && make('span', {class: 'muted small'});
    const box = make(spec.href ? 'a' : 'div', {class: 'tile', href: spec.href},
        make('span', {class: 'label'}, spec.label),
        make('span', {class: 'amount'}, value,
            spec.unit && make('span', {class: 'unit'}, spec.unit)),
        note, spark && spark.element);
    return {
        element: make('li', null, box),
        update(sum, snapshot) {
            setText(value, spec.value(sum, snapshot));
            setAttribute(box, 'data-kind', spec.kind?.(sum, snapshot) || null);
            if (note) {
                setText(note, spec.note(sum, snapshot));
            }
            spark?.update(live.total[spec.past]);
        },
    };
}

/* A series of the history -> a list of live.total. Scale doesn't matter to a line. */
const PAST_NAMES = {in: 'in', done: 'done', failed: 'failed', leased: 'leased', dead: 'dead',
    oldest_ms: 'age', sync_p99_us: 'sync'};

/* The past before this page was opened, so that the lines don't begin empty. */
async function seed(signal) {
    const to = Date.now();
    const answer = await get(withQuery('api/v1/history', {
        series: Object.keys(PAST_NAMES).join(), step: 1,
        from: new Date(to - PAST * 1000).toISOString(), to: new Date(to).toISOString(),
    }), {signal});
    if (answer.step_s !== 1) {
        return;
    }
    for (const [from, name] of Object.entries(PAST_NAMES)) {
        const list = live.total[name];
        const past = answer.series?.[from] || [];
        if (list.length < PAST / 2) {
            list.unshift(...past.slice(0, Math.max(0, past.length - list.length)));
            list.splice(0, Math.max(0, list.length - PAST));
        }
    }
}

const openBreakers = (topic) => (topic.breakers_open || 0) + (topic.breakers_half_open || 0);

/* What of a topic wants to be looked at; '' where all is well. */
function trouble(topic) {
    return topic.dead > 0 || topic.paused || topic.draining || topic.failed_per_s > 0 ||
        topic.unwell > 0 || openBreakers(topic) > 0 || topic.parked > 0 ||
        (topic.ready > 0 && !topic.workers);
}

function nameCell(cell) {
    const link = make('a', {class: 'name'});
    const paused = badge('paused', 'warn');
    const draining = badge('draining', 'warn');
    const idle = badge('no worker', 'bad');
    cell.append(link, paused, draining, idle);
    return (topic) => {
        setText(link, topic.topic);
        setAttribute(link, 'title', topic.topic.length > 40 ? topic.topic : null);
        setAttribute(link, 'href', place(['topics', topic.topic]));
        paused.hidden = !topic.paused;
        draining.hidden = !topic.draining;
        idle.hidden = topic.workers > 0 || !topic.ready;
    };
}

/* A number that links to where it comes from, and stands out where it isn't 0. */
function marked(key, kind, href) {
    return (cell) => {
        const link = href ? make('a') : cell;
        if (href) {
            cell.append(link);
        }
        return (topic) => {
            setText(link, count(topic[key]));
            setAttribute(cell, 'data-kind', topic[key] > 0 ? kind : null);
            if (href) {
                setAttribute(link, 'href', topic[key] > 0 ? href(topic) : null);
            }
        };
    };
}

const COLUMNS = [
    {key: 'topic', label: 'Topic', value: (topic) => topic.topic, build: nameCell},
    {key: 'ready', label: 'Depth', number: true, help: 'Events that are ready to run',
        value: (topic) => topic.ready, text: (topic) => count(topic.ready)},
    {key: 'age', label: 'Oldest', number: true, help: 'How long the oldest of them has waited',
        value: (topic) => topic.oldest_ms,
        text: (topic) => (topic.ready > 0 ? duration(topic.oldest_ms) : '–')},
    {key: 'in', label: 'In/s', number: true, wide: true, value: (topic) => topic.in_per_s,
        text: (topic) => rate(topic.in_per_s)},
    {key: 'done', label: 'Done/s', number: true, wide: true, value: (topic) => topic.done_per_s,
        text: (topic) => rate(topic.done_per_s)},
    {key: 'past', label: 'Done, 2 min', wide: true, build: (cell) => {
        const spark = sparkline(96, 20, PAST);
        cell.append(spark.element);
        return (topic) => spark.update(live.past.get(topic.topic)?.done || []);
    }},
    {key: 'failed', label: 'Failed/s', number: true, wide: true,
        value: (topic) => topic.failed_per_s, text: (topic) => rate(topic.failed_per_s)},
    {key: 'leased', label: 'In flight', number: true, wide: true, value: (topic) => topic.leased,
        text: (topic) => count(topic.leased)},
    {key: 'retrying', label: 'Retrying', number: true, wide: true,
        value: (topic) => topic.retrying, build: marked('retrying', 'warn')},
    {key: 'dead', label: 'Dead', number: true, value: (topic) => topic.dead,
        build: marked('dead', 'bad', (topic) => place(['dead'], {topic: topic.topic}))},
    {key: 'workers', label: 'Workers', number: true, wide: true, value: (topic) => topic.workers,
        text: (topic) => count(topic.workers) + (topic.unwell ? ` (${topic.unwell} unwell)` : '')},
    {key: 'breakers', label: 'Breakers', wide: true, number: true,
        help: 'Breakers that are open or trying', value: openBreakers,
        text: (topic) => (openBreakers(topic) > 0 ? `${openBreakers(topic)} open` : '0')},
];

function filterForm(change) {
    const text = make('input', {type: 'search', placeholder: 'Name contains …',
        'aria-label': 'Filter topics by name', autocomplete: 'off', spellcheck: 'false',
        oninput: change});
    const only = make('input', {type: 'checkbox', onchange: change});
    const shown = make('span', {class: 'muted'});
    return {
        element: make('form', {class: 'filter', onsubmit: (event) => event.preventDefault()},
            text, make('label', {class: 'check'}, only, 'only with trouble'), shown),
        apply(topics) {
            const wanted = text.value.trim().toLowerCase();
            const rows = topics.filter((topic) => topic.topic.toLowerCase().includes(wanted) &&
                (!only.checked || trouble(topic)));
            setText(shown, rows.length === topics.length ? plural(topics.length, 'topic')
                : `${count(rows.length)} of ${plural(topics.length, 'topic')}`);
            return rows;
        },
    };
}

export function overview(root) {
    const tiles = TILES.map(tile);
    const alerts = make('section', {'aria-label': 'Alerts', class: 'alerts'});
    const table = new Table({
        caption: 'Topics', columns: COLUMNS, id: (topic) => topic.topic, store: 'topics',
        empty: 'No topics fit.',
    });
    const filter = filterForm(() => update());
    let shownAlerts = null;
    fill(root,
        make('h1', {tabindex: '-1'}, 'Overview'),
        make('ul', {class: 'tiles', 'aria-label': 'Now'}, tiles.map((each) => each.element)),
        alerts,
        make('section', {class: 'card'},
            make('div', {class: 'head'}, make('h2', null, 'Topics'), filter.element),
            table.element));
    function update() {
        const state = firing().map((alert) => JSON.stringify(alert)).join();
        if (state !== shownAlerts) {
            shownAlerts = state;
            fill(alerts, firing().length ? alertList(firing()) : null);
        }
        if (!live.snapshot) {
            return;
        }
        const sum = totals(live.snapshot);
        tiles.forEach((each) => each.update(sum, live.snapshot));
        table.update(filter.apply(live.snapshot.topics || []));
    }
    const cut = new AbortController();
    seed(cut.signal).then(update, () => undefined);
    update();
    const end = watch(update);
    return () => {
        end();
        cut.abort();
    };
}
