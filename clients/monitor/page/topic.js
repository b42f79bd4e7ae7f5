/* One topic's page: what may be done with it, its numbers, charts, pool, breakers, keys, settings.
   SPDX-License-Identifier: MIT */
import {get, withQuery} from './api.js';
import {actButton, drainTopic, pauseTopic, purgeTopic, resumeTopic, scalePool, setBreaker,
    unparkKey} from './acts.js';
import {Chart} from './chart.js';
import {badge, facts, fill, make, place, refill, setText, stateBadge} from './dom.js';
import {bytes, count, duration, rate, time, toMs} from './format.js';
import {live, watch} from './live.js';
import {Table} from './table.js';
import {workerTable} from './workers.js';

const LOOK_MS = 5000;
const POINTS = 240; // of a chart, about
const POINTS_LEAST = 40;
const RANGES = [['15', '15 minutes'], ['60', '1 hour'], ['360', '6 hours'], ['1440', '1 day'],
    ['10080', '7 days']];

const CHARTS = [
    {title: 'Events a second', format: rate, series: [
        {key: 'in', label: 'in'}, {key: 'done', label: 'done'}, {key: 'failed', label: 'failed'}]},
    {title: 'Depth', format: count, whole: true, series: [
        {key: 'ready', label: 'ready'}, {key: 'leased', label: 'in flight'},
        {key: 'retrying', label: 'retrying'}, {key: 'dead', label: 'dead'}]},
    {title: 'From delivery to answer', format: duration, series: [
        {key: 'took_p50_ms', label: 'p50'}, {key: 'took_p99_ms', label: 'p99'}]},
    {title: 'Oldest event waits', format: duration, series: [
        {key: 'oldest_ms', label: 'oldest'}]},
    {title: 'First delivery after', format: duration, series: [
        {key: 'waited_p50_ms', label: 'p50'}, {key: 'waited_p99_ms', label: 'p99'}]},
    {title: 'Workers', format: count, whole: true, series: [
        {key: 'workers', label: 'here'}, {key: 'desired', label: 'wanted'}]},
];
const SERIES = CHARTS.flatMap((chart) => chart.series.map((series) => series.key)).join();

const NUMBERS = [
    ['Ready', (topic) => count(topic.ready)],
    ['Oldest waits', (topic) => (topic.ready > 0 ? duration(topic.oldest_ms) : '–')],
    ['In', (topic) => rate(topic.in_per_s) + '/s'],
    ['Done', (topic) => rate(topic.done_per_s) + '/s'],
    ['Failed', (topic) => rate(topic.failed_per_s) + '/s'],
    ['In flight', (topic) => count(topic.leased)],
    ['Retrying', (topic) => count(topic.retrying)],
    ['Scheduled', (topic) => count(topic.scheduled)],
    ['Parked', (topic) => count(topic.parked)],
    ['Dead', (topic) => count(topic.dead)],
    ['Delivered again', (topic) => count(topic.redelivered)],
    ['Workers', (topic) => count(topic.workers)],
    ['p50', (topic) => duration(topic.recent_p50_ms ?? topic.took_p50_ms)],
    ['p99', (topic) => duration(topic.recent_p99_ms ?? topic.took_p99_ms)],
    ['Accepted in all', (topic) => count(topic.accepted)],
    ['Done in all', (topic) => count(topic.done)],
    ['Bytes', (topic) => bytes(topic.bytes)],
];

/* What attempts failed by, and events died of, in words. */
function reasons(topic) {
    const list = (what, counts) => Object.entries(counts || {})
        .map(([reason, times]) => `${count(times)} ${what} ${reason.replace('_', ' ')}`);
    const parts = [...list('failed:', topic.failures), ...list('dead:', topic.deaths)];
    return parts.length ? `Since the broker’s start, ${parts.join(', ')}` : '';
}

function numberList() {
    const values = NUMBERS.map(() => make('dd'));
    const why = make('p', {class: 'muted small'});
    return {
        element: [make('dl', {class: 'numbers'}, NUMBERS.map(([label], i) =>
            make('div', null, make('dt', null, label), values[i]))), why],
        update: (topic) => {
            NUMBERS.forEach(([, text], i) => setText(values[i], text(topic)));
            setText(why, reasons(topic));
        },
    };
}

function head(name) {
    const state = make('span', {class: 'states'});
    const get = () => live.topics.get(name) || {};
    const pause = actButton('Pause', () => pauseTopic(name));
    const resume = actButton('Resume', () => resumeTopic(name), {class: 'primary'});
    const drain = actButton('Drain', () => drainTopic(name));
    const scale = actButton('Workers …', () => scalePool(name, poolOf(name)));
    const purge = actButton('Purge …', () => {
        const topic = get();
        purgeTopic(name, (topic.ready || 0) + (topic.retrying || 0) + (topic.scheduled || 0) +
            (topic.parked || 0));
    }, {class: 'danger'});
    let shown = '';
    return {
        element: make('div', {class: 'head'}, make('h1', {tabindex: '-1'}, name), state,
            make('div', {class: 'acts', role: 'group', 'aria-label': 'Acts'},
                resume, pause, drain, scale, purge)),
        update(topic) {
            const stopped = topic.paused === true || topic.draining === true;
            // The button that has the focus hands it on when it goes.
            const focused = document.activeElement;
            resume.hidden = !stopped;
            pause.hidden = topic.paused === true;
            drain.hidden = topic.draining === true;
            if (focused && focused.hidden) {
                (stopped ? resume : pause).focus();
            }
            const states = [topic.paused && 'paused', topic.draining && 'draining']
                .filter(Boolean);
            if (shown !== states.join()) {
                shown = states.join();
                fill(state, states.map((each) => badge(each, 'warn')));
            }
        },
    };
}

function poolOf(name) {
    return (live.snapshot?.pools || []).find((pool) => pool.topic === name);
}

/* Charts begin where the history does, so that a young one isn't a speck at the end. */
function known(from, step, series) {
    const all = Object.values(series);
    const length = Math.max(0, ...all.map((values) => values.length));
    const first = Math.min(...all.map((values) =>
        values.findIndex((value) => value !== null)).filter((at) => at >= 0));
    const skipped = Math.max(0, Math.min(first, length - POINTS_LEAST));
    return {
        from: from + skipped * step, step,
        values: Object.fromEntries(Object.entries(series).map(([key, values]) =>
            [key, values.slice(skipped)])),
    };
}

/* Charts of the stored past, read again as often as they have new points. */
function charts(name) {
    const all = CHARTS.map((spec) => new Chart(spec));
    const range = make('select', {onchange: () => again()},
        RANGES.map(([minutes, text]) => make('option', {value: minutes}, text)));
    const trouble = make('p', {class: 'trouble', role: 'status'});
    let timer = 0;
    let cut = new AbortController();
    const look = async () => {
        const {signal} = cut;
        const minutes = Number(range.value);
        const step = Math.max(1, Math.round((minutes * 60) / POINTS));
        const to = Date.now();
        try {
            const answer = await get(withQuery('api/v1/history', {
                topic: name, series: SERIES, step,
                from: new Date(to - minutes * 60000).toISOString(), to: new Date(to).toISOString(),
            }), {signal});
            const data = known(toMs(answer.from), answer.step_s * 1000, answer.series || {});
            all.forEach((chart) => chart.update(data));
            setText(trouble, '');
        } catch (error) {
            if (signal.aborted) {
                return;
            }
            setText(trouble, `The history can’t be read: ${error.message}`);
        }
        timer = setTimeout(look, Math.max(2, Math.min(step, 60)) * 1000);
    };
    const again = () => {
        clearTimeout(timer);
        cut.abort();
        cut = new AbortController();
        look();
    };
    again();
    return {
        element: make('section', {class: 'card'},
            make('div', {class: 'head'}, make('h2', null, 'History'),
                make('label', {class: 'check'}, 'The last ', range)),
            trouble, make('div', {class: 'charts'}, all.map((chart) => chart.element))),
        end() {
            clearTimeout(timer);
            cut.abort();
            all.forEach((chart) => chart.destroy());
        },
    };
}

/* "from 0 to 1: stalled; 12 ready, …" without what other columns say. */
function sawText({from, to, reason, text}) {
    const known = `from ${from} to ${to}: ${reason}; `;
    return (text ?? '').startsWith(known) ? text.slice(known.length) : text ?? '';
}

/* The scaler: what it wants, and what it decided when, and why. */
function poolCard(name) {
    const now = make('div');
    const table = new Table({
        caption: 'Decisions of the scaler', page: 20, sort: {key: 'time', descending: true},
        id: (decision) => String(decision.key), empty: 'It has decided nothing yet.',
        columns: [
            {key: 'time', label: 'When', value: (decision) => toMs(decision.time) ?? 0,
                text: (decision) => time(decision.time)},
            {key: 'to', label: 'Workers', number: true, value: (decision) => decision.to,
                text: ({from, to}) => `${count(from)} → ${count(to)}`},
            {key: 'reason', label: 'Why', value: (decision) => decision.reason,
                text: (decision) => decision.reason},
            {key: 'text', label: 'What it saw', class: 'long saw',
                text: (decision) => sawText(decision)},
        ],
    });
    const element = make('section', {class: 'card'}, make('h2', null, 'Pool'), now, table.element);
    let shown = '';
    return {
        element,
        update() {
            const pool = poolOf(name);
            element.hidden = !pool;
            const state = JSON.stringify(pool || {});
            if (shown !== state && pool) {
                shown = state;
                fill(now, facts([
                    ['Running', count(pool.running) + (pool.starting
                        ? `, ${count(pool.starting)} starting` : '') + (pool.leaving
                        ? `, ${count(pool.leaving)} leaving` : '')],
                    ['Wanted', count(pool.desired)],
                    ['Started by others', pool.others > 0 && count(pool.others)],
                    ['Bounds', `${count(pool.min)} to ${count(pool.max)}`],
                    ['Restarts', count(pool.restarts)], ['Last reason', pool.reason],
                    ['Bounded by', pool.limit], ['Held by', pool.hold],
                ]));
            }
        },
        async look(signal) {
            const path = `api/v1/pools/${encodeURIComponent(name)}/history`;
            const answer = await get(path, {signal});
            table.update((answer.items || []).map((decision, i, all) =>
                ({...decision, key: `${decision.time}/${all.length - i}`})));
        },
    };
}

function breakerRow(name, breaker) {
    const turn = (state) => setBreaker(name, breaker.downstream, state);
    return make('tr', null,
        make('th', {scope: 'row'}, breaker.downstream || 'the topic’s own'),
        make('td', null, stateBadge(breaker.state), breaker.forced ? ' by hand' : ''),
        make('td', {class: 'number'}, `${count(breaker.failures)} of ${count(breaker.calls)}`),
        make('td', {class: 'number'}, count(breaker.opened)),
        make('td', {class: 'number'}, count(breaker.waiting)),
        make('td', null, breaker.until ? time(breaker.until) : ''),
        make('td', {class: 'act'}, make('div', {class: 'acts'},
            breaker.state !== 'open' && actButton('Open', () => turn('open')),
            breaker.state !== 'closed' && actButton('Close', () => turn('closed')),
            breaker.forced && actButton('By its rule', () => turn('auto')))));
}

function simpleTable(caption, heads, rows) {
    return make('div', {class: 'scroll', role: 'region', tabindex: '0', 'aria-label': caption},
        make('table', {'aria-label': caption},
            make('thead', null, make('tr', null, heads.map(([label, number]) =>
                make('th', {scope: 'col', class: number || null}, label)))),
            make('tbody', null, rows)));
}

function breakerCard(name, breakers) {
    if (!breakers.length) {
        return make('p', {class: 'muted'}, 'None: no downstream has failed, or none is set.');
    }
    return simpleTable('Breakers', [['Downstream'], ['State'], ['Failed', 'number'],
        ['Opened', 'number'], ['Waiting', 'number'], ['Until'], ['Acts', 'number act']],
    breakers.map((breaker) => breakerRow(name, breaker)));
}

function keyCard(name, info, keys) {
    const parked = keys.some((key) => key.reason === 'parked');
    return [
        facts([['Busy', count(info.busy)], ['Held up', count(info.blocked)],
            ['Parked', count(info.parked)], ['Events waiting behind', count(info.waiting)]]),
        keys.length ? simpleTable('Keys that are held up',
            [['Key'], ['Head'], ['Why'], ['Since'], ['Waiting', 'number'], ['Acts', 'number act']],
            keys.map((key) => make('tr', null, make('th', {scope: 'row'}, key.key || '(empty)'),
                make('td', null, make('a', {href: place(['event', `${name}#${key.n}`])},
                    `#${key.n}`)),
                make('td', null, stateBadge(key.reason)),
                make('td', null, time(key.since)),
                make('td', {class: 'number'}, count(key.waiting)),
                make('td', {class: 'act'}, make('div', {class: 'acts'}, key.reason === 'parked' &&
                    actButton('Unpark', () => unparkKey(name, key.key))))))) : null,
        parked ? make('div', {class: 'acts'},
            actButton('Unpark all', () => unparkKey(name, null))) : null,
    ];
}

/* What TOPIC.INFO says: asked for now and then, and drawn where it changed. */
function infoCards(name) {
    const breakers = make('div');
    const keys = make('div');
    const settings = make('div');
    const shown = new Map();
    const draw = (place, state, build) => {
        const text = JSON.stringify(state);
        if (shown.get(place) !== text) {
            shown.set(place, text);
            refill(place, build());
        }
    };
    return {
        elements: [
            make('section', {class: 'card'}, make('h2', null, 'Breakers'), breakers),
            make('section', {class: 'card'}, make('h2', null, 'Keys'), keys),
            make('section', {class: 'card'},
                make('details', null, make('summary', null, make('h2', null, 'Settings')),
                    settings)),
        ],
        async look(signal) {
            const path = `api/v1/topics/${encodeURIComponent(name)}`;
            const info = await get(path, {signal});
            let held = [];
            if (info.keys?.blocked > 0 || info.keys?.parked > 0) {
                held = (await get(withQuery(path + '/keys', {limit: 100}), {signal})).items || [];
            }
            draw(breakers, info.breakers, () => breakerCard(name, info.breakers || []));
            draw(keys, [info.keys, held], () => keyCard(name, info.keys || {}, held));
            draw(settings, [info.settings, info.quota, info.dedupe], () => [
                facts(Object.entries(info.settings || {}).map(([key, value]) =>
                    [key, value === '' ? '(empty)' : typeof value === 'object'
                        ? JSON.stringify(value) : String(value)])),
                facts([['Quota', info.quota?.limit ? `${count(info.quota.units)} units of ` +
                    `${count(info.quota.subjects)} subjects are taken` : undefined],
                ['Ids kept for dedupe', count(info.dedupe?.ids)]]),
            ]);
        },
    };
}

export function topicPage(root, {parts: [, name]}) {
    const top = head(name);
    const numbers = numberList();
    const history = charts(name);
    const pool = poolCard(name);
    const workers = workerTable('Workers of this topic');
    const info = infoCards(name);
    const trouble = make('p', {class: 'trouble', role: 'status'});
    const cut = new AbortController();
    let timer = 0;
    fill(root, top.element,
        make('p', {class: 'links'},
            make('a', {href: place(['dead'], {topic: name})}, 'Dead letters'),
            make('a', {href: place(['events'], {topic: name})}, 'Events')),
        trouble, make('section', {class: 'card', 'aria-label': 'Now'}, numbers.element),
        history.element, pool.element,
        make('section', {class: 'card'}, make('h2', null, 'Workers'), workers.element),
        info.elements);
    const update = () => {
        const topic = live.topics.get(name);
        if (topic) {
            top.update(topic);
            numbers.update(topic);
        }
        pool.update();
        workers.update((live.snapshot?.workers || []).filter((worker) =>
            (worker.topics || []).includes(name)));
    };
    const look = async () => {
        const outcomes = await Promise.allSettled([info.look(cut.signal), pool.look(cut.signal)]);
        if (cut.signal.aborted) {
            return;
        }
        setText(trouble, outcomes[0].status === 'rejected' ? outcomes[0].reason.message : '');
        clearTimeout(timer); // an act may have made two of them look
        timer = setTimeout(look, LOOK_MS);
    };
    look();
    update();
    document.addEventListener('acted', look);
    const end = watch(update);
    return () => {
        end();
        document.removeEventListener('acted', look);
        cut.abort();
        clearTimeout(timer);
        history.end();
    };
}
