/* Dead letters: found, grouped by what they died of, shown, edited, sent back, discarded.
   SPDX-License-Identifier: MIT */
import {call, get, withQuery} from './api.js';
import {actButton, letterPath, moveLetters, replayLetter} from './acts.js';
import {ask, toast} from './dialog.js';
import {badge, facts, fill, make, place, setAttribute, setText} from './dom.js';
import {idText, metaOf, payloadCard, sinceField, sinceTime, timeline, topicSelect}
    from './event.js';
import {count, errorLine, plural, time, toMs} from './format.js';
import {parse, print} from './json.js';
import {Table} from './table.js';

const PAGE = 500;
const LOADED_MOST = 2000;  // then a person narrows the filter
const EXPORT_MOST = 100000;
const GONE = 'It isn’t here any more: it was replayed or discarded.';
const REASONS = ['', 'attempts', 'permanent', 'overflow', 'expired', 'invalid', 'poison', 'quota'];
const FILTERS = ['topic', 'reason', 'error', 'type', 'since', 'q'];

/* What differs from letter to letter of one fault: numbers, ids. */
function signature(error) {
    return error.replace(/\b[0-9a-f]{8}-[0-9a-f-]{27}\b/gi, '…').replace(/\d{4,}/g, '…')
        .slice(0, 200);
}

/* Loads letters page by page and hands each page on. `whole`: those were all. */
async function load(filter, most, options, take) {
    let loaded = 0;
    let cursor = null;
    do {
        const answer = await get(withQuery('api/v1/failed-events', {
            ...filter, since: sinceTime(filter.since), limit: PAGE, cursor, full: options.full,
        }), options);
        loaded += answer.items.length;
        cursor = answer.next;
        take(answer.items);
    } while (cursor !== null && loaded < most);
    return {loaded, whole: cursor === null};
}

const key = (letter) => `${letter.topic}/${letter.n}`;

function groups(letters) {
    const found = new Map();
    for (const letter of letters) {
        const error = errorLine(letter.error);
        const id = JSON.stringify([letter.topic, letter.reason, signature(error)]);
        const group = found.get(id) || {
            id, topic: letter.topic, reason: letter.reason, error, letters: [], newest: 0,
        };
        group.letters.push(letter);
        group.newest = Math.max(group.newest, toMs(letter.timestamp) ?? 0);
        found.set(id, group);
    }
    return [...found.values()];
}

/* What another event does in its place isn't done twice, unless somebody chooses it. */
const movable = (verb, letters) =>
    letters.filter((letter) => verb !== 'replay' || letter.superseded === undefined);

/* One body for each topic of these letters. */
function bodies(letters) {
    const byTopic = new Map();
    for (const letter of letters) {
        byTopic.set(letter.topic, [...(byTopic.get(letter.topic) || []), letter.n]);
    }
    return [...byTopic].map(([topic, n]) => ({topic, n}));
}

function groupTable(moved) {
    return new Table({
        caption: 'Groups by error', id: (group) => group.id, page: 20,
        sort: {key: 'count', descending: true}, empty: 'No dead letter fits.',
        columns: [
            {key: 'error', label: 'Error', value: (group) => group.error, class: 'long',
                text: (group) => group.error || '(none)'},
            {key: 'count', label: 'Letters', number: true, value: (group) => group.letters.length,
                text: (group) => count(group.letters.length)},
            {key: 'topic', label: 'Topic', wide: true, value: (group) => group.topic,
                text: (group) => group.topic},
            {key: 'reason', label: 'Reason', wide: true, value: (group) => group.reason,
                text: (group) => group.reason},
            {key: 'newest', label: 'Newest', number: true, wide: true,
                value: (group) => group.newest, text: (group) => time(group.newest)},
            {key: 'acts', label: '', class: 'act', build: (cell) => {
                let group = null;
                const move = (verb) => async () => {
                    const letters = movable(verb, group.letters);
                    if (await moveLetters(verb, bodies(letters), letters.length)) {
                        moved();
                    }
                };
                const replay = actButton('Replay …', move('replay'));
                const discard = actButton('Discard …', move('discard'), {class: 'danger'});
                cell.append(make('div', {class: 'acts'}, replay, discard));
                return (next) => {
                    group = next;
                    replay.hidden = movable('replay', group.letters).length === 0;
                    setAttribute(replay, 'aria-label', `Replay ${plural(group.letters.length,
                        'letter')} of ${group.topic}: ${group.error}`);
                    setAttribute(discard, 'aria-label', `Discard ${plural(group.letters.length,
                        'letter')} of ${group.topic}: ${group.error}`);
                };
            }},
        ],
    });
}

function chooser(cell, chosen, changed) {
    let letter = null;
    const box = make('input', {type: 'checkbox', onchange: () => {
        if (box.checked) {
            chosen.set(key(letter), letter);
        } else {
            chosen.delete(key(letter));
        }
        changed();
    }});
    cell.append(box);
    return (next) => {
        letter = next;
        box.checked = chosen.has(key(letter));
        setAttribute(box, 'aria-label', `Choose ${idText(letter.id)}`);
    };
}

function letterLink(cell) {
    const link = make('a', {class: 'id'});
    cell.append(link);
    return (letter) => {
        setText(link, idText(letter.id ?? letter.n));
        setAttribute(link, 'href', place(['dead', letter.topic, letter.n]));
    };
}

function letterTable(chosen, changed) {
    return new Table({
        caption: 'Letters', id: key, page: 50, sort: {key: 'dead', descending: true},
        empty: 'No dead letter fits.',
        columns: [
            {key: 'choose', label: '', hiddenLabel: 'Chosen', class: 'act', plain: true,
                build: (cell) => chooser(cell, chosen, changed)},
            {key: 'id', label: 'Event', head: true, value: (letter) => idText(letter.id),
                build: letterLink},
            {key: 'dead', label: 'Died', value: (letter) => toMs(letter.timestamp) ?? 0,
                text: (letter) => time(letter.timestamp)},
            {key: 'error', label: 'Error', value: (letter) => errorLine(letter.error),
                text: (letter) => errorLine(letter.error), class: 'long'},
            {key: 'topic', label: 'Topic', wide: true, value: (letter) => letter.topic,
                text: (letter) => letter.topic},
            {key: 'type', label: 'Type', wide: true, value: (letter) => letter.type ?? '',
                text: (letter) => letter.type ?? ''},
            {key: 'reason', label: 'Reason', wide: true, value: (letter) => letter.reason,
                text: (letter) => letter.reason +
                    (letter.superseded === undefined ? '' : ', superseded')},
            {key: 'attempts', label: 'Attempts', number: true, wide: true,
                value: (letter) => letter.attempts, text: (letter) => count(letter.attempts)},
        ],
    });
}

function filterForm(wanted) {
    const topic = topicSelect(wanted.topic, 'all topics');
    const reason = make('select', null, REASONS.map((each) =>
        make('option', {value: each, selected: each === wanted.reason}, each || 'any')));
    const text = (value, placeholder) =>
        make('input', {type: 'search', value, placeholder, autocomplete: 'off'});
    const error = text(wanted.error, 'code or words');
    const type = text(wanted.type);
    const q = text(wanted.q, 'in the payload');
    const since = sinceField(wanted.since);
    return make('form', {class: 'filters card', onsubmit: (event) => {
        event.preventDefault();
        const to = place(['dead'], {topic: topic.value, reason: reason.value,
            error: error.value.trim(), type: type.value.trim(), since: since.value(),
            q: q.value.trim()});
        if (to === location.hash) {
            dispatchEvent(new HashChangeEvent('hashchange'));
        } else {
            location.hash = to;
        }
    }}, make('label', null, 'Topic', topic), make('label', null, 'Reason', reason),
    make('label', null, 'Error', error), make('label', null, 'Type', type), since.elements,
    make('label', null, 'Text', q), make('button', {class: 'primary'}, 'Filter'));
}

/* One line a letter, whole, as the server has it. */
async function exportLetters(filter, button) {
    button.disabled = true;
    const lines = [];
    try {
        await load(filter, EXPORT_MOST, {full: '1', exact: true}, (letters) => {
            lines.push(...letters.map((letter) => print(letter, null) + '\n'));
            setText(button, `Exported ${count(lines.length)}`);
        });
        const link = make('a', {
            href: URL.createObjectURL(new Blob(lines, {type: 'application/x-ndjson'})),
            download: `dead-letters-${new Date().toISOString().slice(0, 19)}.ndjson`,
        });
        link.click();
        setTimeout(() => URL.revokeObjectURL(link.href), 10000);
        toast(`Exported ${plural(lines.length, 'dead letter')}.`);
    } catch (error) {
        toast(`The export ended: ${error.message}`, {bad: true});
    }
    setText(button, 'Export');
    button.disabled = false;
}

/* Buttons for what was ticked, and for everything that the filter finds. */
function bulkActs(filter, chosen, state, moved) {
    const words = make('span', {class: 'muted', role: 'status'});
    const move = (verb, all) => async () => {
        const wanted = all ? movable(verb, state.letters) : [...chosen.values()];
        // What is loaded whole goes by its numbers: that and nothing else was seen.
        const filters = {reason: filter.reason, error: filter.error, type: filter.type,
            since: sinceTime(filter.since), q: filter.q};
        const named = Object.fromEntries(Object.entries(filters).filter(([, value]) => value));
        const byFilter = all && !state.whole;
        const list = byFilter ? [{topic: filter.topic || undefined, filter: named}]
            : bodies(wanted);
        if (await moveLetters(verb, list, byFilter ? undefined : wanted.length)) {
            chosen.clear();
            moved();
        }
    };
    const some = [actButton('Replay chosen …', move('replay', false)),
        actButton('Discard chosen …', move('discard', false), {class: 'danger'})];
    const all = [actButton('Replay all …', move('replay', true)),
        actButton('Discard all …', move('discard', true), {class: 'danger'})];
    const save = make('button', {type: 'button', onclick: () => exportLetters(filter, save)},
        'Export');
    return {
        element: make('div', {class: 'acts', role: 'group', 'aria-label': 'Acts on letters'},
            some, all, save, words),
        update() {
            some.forEach((button) => {
                button.hidden = chosen.size === 0;
            });
            all.forEach((button, i) => {
                button.hidden = chosen.size > 0 ||
                    movable(i ? 'discard' : 'replay', state.letters).length === 0;
            });
            save.hidden = state.letters.length === 0;
            setText(words, chosen.size ? `${count(chosen.size)} chosen` : '');
        },
    };
}

export function deadPage(root, {query}) {
    const filter = Object.fromEntries(FILTERS.map((name) => [name, query.get(name) || '']));
    const chosen = new Map();
    const state = {letters: [], whole: false};
    const sum = make('p', {class: 'muted', role: 'status'}, 'Looking …');
    const trouble = make('p', {class: 'trouble', role: 'alert'});
    let cut = new AbortController();
    const again = () => {
        cut.abort();
        cut = new AbortController();
        look(cut.signal);
    };
    const moved = () => setTimeout(again, 700); // a task's first letters are gone by then
    const acts = bulkActs(filter, chosen, state, moved);
    const grouped = groupTable(moved);
    const table = letterTable(chosen, () => acts.update());
    fill(root, make('h1', {tabindex: '-1'}, 'Dead letters'), filterForm(filter), trouble,
        make('section', {class: 'card'}, make('h2', null, 'Groups by error'), sum, grouped.element),
        make('section', {class: 'card'}, make('div', {class: 'head'}, make('h2', null, 'Letters'),
            make('button', {type: 'button', onclick: again}, 'Look again'), acts.element),
        table.element));
    const draw = () => {
        grouped.update(groups(state.letters));
        table.update(state.letters);
        acts.update();
    };
    const look = async (signal) => {
        const letters = [];
        try {
            setText(trouble, '');
            const found = await load(filter, LOADED_MOST, {signal},
                (items) => letters.push(...items));
            state.letters = letters;
            state.whole = found.whole;
            setText(sum, found.whole ? plural(found.loaded, 'dead letter')
                : `The first ${count(found.loaded)} dead letters; narrow the filter to see others`);
            const here = new Set(letters.map(key));
            [...chosen.keys()].filter((id) => !here.has(id)).forEach((id) => chosen.delete(id));
            draw();
        } catch (error) {
            if (!signal.aborted) {
                setText(sum, '');
                setText(trouble, error.message);
            }
        }
    };
    look(cut.signal);
    return () => cut.abort();
}

/* A new event with the payload as edited. Undefined: nothing was done. */
async function editLetter(topic, n, event) {
    const given = await ask({
        title: 'Edit and replay', yes: 'Replay edited', wide: true,
        text: `The edited payload becomes a new event in ${topic}, which takes this letter’s ` +
            'place: each names the other, and a replay of many letters leaves this one out.',
        fields: [{name: 'payload', label: 'Payload, JSON', type: 'text area', rows: 16,
            value: print(event.payload ?? null), required: true},
        {name: 'after', label: 'This letter then', type: 'select', value: 'keep',
            options: [['keep', 'stays'], ['discard', 'is discarded']]}],
        run: async ({payload, after}) => {
            parse(payload); // what is wrong with it is said before it is sent
            const answer = await call('POST', letterPath(topic, n) + '/replay',
                {text: `{"payload":${payload}}`});
            if (after === 'discard') {
                await call('POST', 'api/v1/failed-events/discard', {body: {topic, n: [Number(n)]}});
            }
            return {id: idText(answer.data.id), after};
        },
    });
    if (given) {
        toast('The edited event is on its way.',
            {link: ['Follow it', place(['event', given.id], {topic})]});
    }
    return given;
}

export function letterPage(root, {parts: [, topic, n]}) {
    const body = make('div', {class: 'stack'}, make('p', {class: 'muted'}, 'Looking …'));
    const cut = new AbortController();
    fill(root, body);
    const gone = () => {
        location.hash = place(['dead'], {topic});
    };
    const draw = (letter) => {
        const event = letter.event || {};
        const id = idText(letter.id ?? n);
        const newer = letter.superseded === undefined ? null : idText(letter.superseded);
        fill(body, make('div', {class: 'head'},
            make('h1', {tabindex: '-1', class: 'id'}, 'Dead letter ',
                make('span', {class: 'mono'}, id)),
            badge(String(letter.reason ?? ''), 'bad'),
            newer !== null && badge('superseded', 'warn'),
            make('div', {class: 'acts', role: 'group', 'aria-label': 'Acts'},
                actButton('Replay', async () => await replayLetter(topic, n) && gone(),
                    {class: 'primary'}),
                actButton('Edit and replay …', async () => {
                    const given = await editLetter(topic, n, event);
                    if (given) {
                        await (given.after === 'discard' ? gone() : look());
                    }
                }),
                actButton('Discard …', async () =>
                    await moveLetters('discard', [{topic, n: [Number(n)]}], 1) && gone(),
                {class: 'danger'}))),
        make('p', {class: 'links'},
            make('a', {href: place(['dead'], {topic})}, `All of ${topic}`),
            make('a', {href: place(['event', id], {topic})}, 'The event’s page')),
        make('div', {class: 'columns'},
            make('section', {class: 'card'}, make('h2', null, 'What happened'),
                timeline({...letter, accepted: event.dispatch_date, state: 'dead',
                    ended: letter.timestamp})),
            make('section', {class: 'card'}, payloadCard(event), make('h3', null, 'Facts'), facts([
                ['Topic', topic], ['Number', String(n)],
                ['Failed attempts', String(letter.attempts ?? '')],
                ['Superseded by', newer !== null &&
                    make('a', {href: place(['event', newer], {topic})}, newer)],
                ...metaOf(event),
            ]))));
        body.querySelector('h1').focus();
    };
    const look = async () => {
        try {
            draw(await get(letterPath(topic, n), {signal: cut.signal, exact: true}));
        } catch (error) {
            if (!cut.signal.aborted) {
                fill(body, make('h1', {tabindex: '-1'}, 'Dead letter'),
                    make('p', {class: 'trouble', role: 'alert'}, error.status === 404 ? GONE
                        : error.message));
            }
        }
    };
    look();
    return () => cut.abort();
}

