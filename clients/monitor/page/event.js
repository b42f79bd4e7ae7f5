/* One event: why it isn't running, what became of it step by step, its payload; and the list in
   which events are found. SPDX-License-Identifier: MIT */
import {get, withQuery} from './api.js';
import {actButton, actOnEvent} from './acts.js';
import {badge, facts, fill, make, place, refill, setText, stateBadge} from './dom.js';
import {count, duration, fromInput, time, toInput, toMs} from './format.js';
import {print} from './json.js';
import {live, now, watch} from './live.js';
import {Table} from './table.js';

const LOOK_MS = 3000;
const ENDED = ['done', 'dead', 'purged'];

function step(kind, when, title, ...more) {
    return make('li', {class: kind}, make('div', {class: 'step'},
        make('b', null, title), when ? make('time', {class: 'muted'}, time(when, true)) : null),
    more);
}

function attemptStep(attempt, index) {
    const start = toMs(attempt.start);
    const ended = toMs(attempt.date);
    const took = start !== undefined && ended !== undefined ? ended - start : undefined;
    const code = attempt.status_code ?? '';
    const place = [attempt.worker, attempt.host, attempt.pid && `pid ${attempt.pid}`]
        .filter(Boolean).join(', ');
    return step('bad', attempt.date, `Attempt ${attempt.attempt ?? index + 1} failed`,
        make('p', null, code === '' ? null : badge(String(code), 'bad'), ' ',
            attempt.message ?? ''),
        make('p', {class: 'muted small'}, [
            place && `by ${place}`, took !== undefined && `took ${duration(took)}`,
            attempt.rule && `rule ${attempt.rule}`,
            attempt.delay > 0 && `next after ${duration(Number(attempt.delay))}`,
        ].filter(Boolean).join(' · ')),
        attempt.stack_trace ? make('details', null, make('summary', null, 'Trace'),
            make('pre', {tabindex: '0'}, String(attempt.stack_trace))) : null);
}

/* What is so at present, or how it ended. */
function lastStep(item) {
    const what = {
        leased: ['busy', null, `With worker ${item.worker ?? '?'}`,
            item.deadline && `until ${time(item.deadline)}`],
        scheduled: ['', item.due, 'Is due'],
        retrying: ['warn', item.due, 'Is tried again'],
        parked: ['warn', null, 'Parked: an operator has to unpark its key'],
        ready: ['', null, 'Ready, waits for its turn'],
        done: ['good', item.ended, 'Done'],
        dead: ['bad', item.ended, `Dead: ${item.reason ?? ''}`],
        purged: ['', item.ended, 'Purged'],
    }[item.state] || ['', null, String(item.state)];
    const [kind, when, title, text] = what;
    return step(kind, when, title, text && make('p', {class: 'muted small'}, text),
        item.result !== undefined && item.result !== null && make('details', null,
            make('summary', null, 'Result'), make('pre', {tabindex: '0'}, print(item.result))));
}

export function timeline(item) {
    return make('ol', {class: 'timeline', 'aria-label': 'Time-line'},
        step('', item.accepted, 'Accepted'), (item.history || item.error || []).map(attemptStep),
        lastStep(item));
}

function acts(item, done) {
    const button = (label, verb, kind) => actButton(label, async () => {
        if (await actOnEvent(item, verb)) {
            done();
        }
    }, {class: kind});
    const waits = ['scheduled', 'retrying', 'parked'].includes(item.state);
    return make('div', {class: 'acts', role: 'group', 'aria-label': 'Acts'},
        waits && button('Run now', 'run-now'),
        (waits || item.state === 'ready') && button('Delay …', 'delay'),
        item.state === 'leased' && button('Take back', 'release'),
        (waits || item.state === 'ready') && button('Cancel …', 'cancel', 'danger'),
        item.state === 'dead' && make('a', {
            class: 'button', href: place(['dead', item.topic, item.n]),
        }, 'Dead letter'));
}

function why(item) {
    const explain = item.explain || {};
    const text = explain.text ?? item.text;
    if (!text) {
        return null;
    }
    const title = ENDED.includes(item.state) ? 'How it ended'
        : item.state === 'leased' ? 'It is running' : 'Why is it not running?';
    return make('div', {class: 'why'}, make('h3', null, title), make('p', null, text),
        facts([
            ['Reason', String(explain.reason ?? '').replace(/_/g, ' ')],
            ['Since', explain.since && time(explain.since)],
            ['Until', explain.until && `${time(explain.until)}, in ` +
                duration(Math.max(0, (toMs(explain.until) ?? 0) - now()))],
            ['Worker', explain.worker],
            ['Behind', explain.behind !== undefined && explain.behind !== null &&
                make('a', {href: place(['event', `${item.topic}#${explain.behind}`])},
                    `#${explain.behind}`)],
        ]));
}

const SHOWN = ['payload', 'error', 'history', 'explain', 'id', 'topic', 'attempts', 'n', 'state',
    'segment', 'offset', 'accepted', 'ended', 'due', 'deadline', 'worker', 'tag', 'result',
    'reason', 'is_loaded', 'timestamp'];

/* The event's own members, without what is shown apart. */
export function metaOf(event) {
    return Object.keys(event || {}).filter((key) => key && !SHOWN.includes(key)).map((key) => {
        const value = event[key];
        return [key[0].toUpperCase() + key.slice(1).replace(/_/g, ' '),
            key === 'dispatch_date' ? time(value, true)
                : typeof value === 'object' && value !== null ? print(value) : String(value)];
    });
}

export function payloadCard(event, title) {
    return [make('h3', null, title || 'Payload'),
        make('pre', {class: 'payload', tabindex: '0', 'aria-label': 'Payload'},
            event.is_loaded === false || !('payload' in event)
                ? 'It isn’t kept any more, or is being read from the disk.'
                : print(event.payload))];
}

function card(item, again) {
    return make('section', {class: 'card'},
        make('div', {class: 'head'},
            make('h2', null, make('a', {href: place(['topics', item.topic])}, item.topic)),
            stateBadge(item.state), acts(item, again)),
        why(item),
        make('div', {class: 'columns'},
            make('div', null, make('h3', null, 'Time-line'), timeline(item)),
            make('div', null, payloadCard(item),
                make('h3', null, 'Facts'), facts([
                    ['Number', item.n !== undefined && String(item.n)],
                    ['Failed attempts', String(item.attempts ?? '')],
                    ['Segment', item.segment !== undefined &&
                        `${item.segment}, offset ${item.offset}`],
                    ...metaOf(item),
                ]))));
}

/* An event's id as text, whatever it is made of. */
export function idText(id) {
    return typeof id === 'string' || typeof id === 'number' ? String(id) : print(id ?? '');
}

/* `id` may be TOPIC#N too. */
async function find(id, topic, signal) {
    const path = `api/v1/events/${encodeURIComponent(id)}`;
    return (await get(withQuery(path, {topic}), {signal, exact: true})).items;
}

export function eventPage(root, {parts: [, id], query}) {
    const cards = make('div', {class: 'stack'}, make('p', {class: 'muted'}, 'Looking …'));
    const cut = new AbortController();
    let timer = 0;
    let shown = null;
    fill(root, make('div', {class: 'head'},
        make('h1', {tabindex: '-1', class: 'id'}, 'Event ', make('span', {class: 'mono'}, id))),
    cards);
    const look = async () => {
        let last = false;
        try {
            const items = await find(id, query.get('topic'), cut.signal);
            const state = print(items);
            if (state !== shown) {
                shown = state;
                refill(cards, items.map((item) => card({id, ...item}, again)));
            }
            last = items.every((item) => item.state === 'done' || item.state === 'purged');
        } catch (error) {
            if (cut.signal.aborted) {
                return;
            }
            shown = null;
            fill(cards, make('p', {class: 'trouble', role: 'alert'}, error.status === 404
                ? `No event that is kept has the id ${id}.` : error.message));
        }
        clearTimeout(timer); // an act may have made two of them look
        timer = last ? 0 : setTimeout(look, LOOK_MS);
    };
    const again = () => {
        clearTimeout(timer);
        look();
    };
    look();
    return () => {
        cut.abort();
        clearTimeout(timer);
    };
}

const COLUMNS = [
    {key: 'accepted', label: 'Accepted', value: (item) => toMs(item.accepted) ?? 0,
        text: (item) => time(item.accepted), plain: true},
    {key: 'id', label: 'Event', head: true, value: (item) => idText(item.id), build: (cell) => {
        const link = make('a', {class: 'id'});
        cell.append(link);
        return (item) => {
            setText(link, idText(item.id));
            link.setAttribute('href', place(['event', idText(item.id)], {topic: item.topic}));
        };
    }},
    {key: 'state', label: 'State', value: (item) => item.state, build: (cell) => {
        let state = null;
        return (item) => {
            if (state !== item.state) {
                state = item.state;
                fill(cell, stateBadge(state));
            }
        };
    }},
    {key: 'topic', label: 'Topic', value: (item) => item.topic, text: (item) => item.topic},
    {key: 'type', label: 'Type', wide: true, value: (item) => item.type ?? '',
        text: (item) => item.type ?? ''},
    {key: 'attempts', label: 'Failed', number: true, value: (item) => item.attempts,
        text: (item) => count(item.attempts)},
];

const AGES = [['', 'any time'], ['15', '15 minutes'], ['60', '1 hour'], ['1440', '1 day'],
    ['10080', '7 days'], ['at', 'a date …']];

/* A choice of how far back, by minutes or by a date. Value: minutes, or RFC 3339. */
export function sinceField(value) {
    const isDate = value !== '' && Number.isNaN(Number(value));
    const date = make('input', {type: 'datetime-local', step: '1', 'aria-label': 'Since the date',
        value: isDate ? toInput(Date.parse(value)) : ''});
    const select = make('select', {onchange: () => {
        date.hidden = select.value !== 'at';
    }}, AGES.map(([minutes, text]) => make('option',
        {value: minutes, selected: minutes === (isDate ? 'at' : value)}, text)));
    date.hidden = !isDate;
    return {
        elements: [make('label', null, 'Since', select), date],
        value() {
            const ms = select.value === 'at' ? fromInput(date.value) : undefined;
            return select.value === 'at' ? (ms ? new Date(ms).toISOString() : '') : select.value;
        },
    };
}

export function sinceTime(value) {
    return value && !Number.isNaN(Number(value))
        ? new Date(now() - Number(value) * 60000).toISOString() : value || '';
}

/* The topics to choose from; which there are comes with the first snapshot. */
export function topicSelect(chosen, any) {
    const select = make('select');
    const draw = () => {
        const wanted = select.value || chosen;
        const names = [...live.topics.keys()].sort();
        if (wanted && !names.includes(wanted)) {
            names.unshift(wanted);
        }
        fill(select, make('option', {value: ''}, any), names.map((name) =>
            make('option', {value: name, selected: name === wanted}, name)));
    };
    draw();
    if (!live.snapshot) {
        const end = watch(() => {
            if (live.snapshot) {
                end();
                draw();
            }
        });
    }
    return select;
}

export function eventsPage(root, {query}) {
    const wanted = (name) => query.get(name) || '';
    const topic = topicSelect(wanted('topic'), 'all topics');
    const states = ['', 'ready', 'leased', 'scheduled', 'retrying', 'parked', 'done', 'dead'];
    const state = make('select', null, states.map((each) =>
        make('option', {value: each, selected: each === wanted('state')}, each || 'any')));
    const type = make('input', {type: 'search', value: wanted('type'), autocomplete: 'off'});
    const since = sinceField(wanted('since'));
    const table = new Table({
        caption: 'Events', columns: COLUMNS, id: (item) => `${item.topic}/${item.n}`,
        sort: {key: 'accepted', descending: true}, empty: 'No event that is kept fits.',
    });
    const more = make('button', {type: 'button', hidden: true, onclick: () => look()}, 'Load more');
    const trouble = make('p', {class: 'trouble', role: 'alert'});
    const cut = new AbortController();
    let items = [];
    let cursor = null;
    fill(root, make('h1', {tabindex: '-1'}, 'Events'),
        make('form', {class: 'filters card', onsubmit: (event) => {
            event.preventDefault();
            location.hash = place(['events'], {topic: topic.value, state: state.value,
                type: type.value.trim(), since: since.value()});
        }}, make('label', null, 'Topic', topic), make('label', null, 'State', state),
        make('label', null, 'Type', type), since.elements,
        make('button', {class: 'primary'}, 'Filter')),
        make('section', {class: 'card'}, trouble, table.element, more));
    const look = async () => {
        more.disabled = true;
        try {
            // A page may come empty with more behind it.
            for (let pages = 0; pages < 20; pages++) {
                const answer = await get(withQuery('api/v1/events', {
                    topic: wanted('topic'), state: wanted('state'), type: wanted('type'),
                    since: sinceTime(wanted('since')), limit: 100, cursor,
                }), {signal: cut.signal});
                items = items.concat(answer.items || []);
                cursor = answer.next ?? null;
                if (cursor === null || (answer.items || []).length) {
                    break;
                }
            }
            table.update(items);
        } catch (error) {
            setText(trouble, cut.signal.aborted ? '' : error.message);
        }
        more.hidden = cursor === null;
        more.disabled = false;
    };
    look();
    return () => cut.abort();
}
