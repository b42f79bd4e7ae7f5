/* What a person may do to topics, events and dead letters: asks, does it, says what came of it.
   SPDX-License-Identifier: MIT */
import {call, post} from './api.js';
import {make, place} from './dom.js';
import {ask, toast} from './dialog.js';
import {count, exactly, plural} from './format.js';
import {remember} from './tasks.js';

const enc = encodeURIComponent;

/* A button that a server which is only read hides. */
export function actButton(label, run, attributes) {
    return make('button', {type: 'button', ...attributes, class: 'act ' + (attributes?.class || ''),
        onclick: run}, label);
}

/* Asks, posts, says `done`. True where it was done. */
async function act(question, path, body, done) {
    const given = await ask({
        ...question,
        run: async (values) => {
            const sent = typeof body === 'function' ? body(values) : body;
            const answer = await call('POST', path, {body: sent ?? {}});
            return {answer, values};
        },
    });
    if (given) {
        toast(typeof done === 'function' ? done(given) : done);
        document.dispatchEvent(new Event('acted')); // pages look again at once
    }
    return given !== null;
}

const topicPath = (name, verb) => `api/v1/topics/${enc(name)}/${verb}`;

export function pauseTopic(name) {
    return act({
        title: `Pause ${name}?`, yes: 'Pause',
        text: 'Nothing more is given to its workers until it is resumed. What they hold ' +
            'goes on, and new events are still accepted.',
    }, topicPath(name, 'pause'), {}, `${name} is paused.`);
}

export function resumeTopic(name) {
    return act({
        title: `Resume ${name}?`, yes: 'Resume',
        text: 'Its events are delivered again, and new ones accepted.',
    }, topicPath(name, 'resume'), {}, `${name} runs.`);
}

export function drainTopic(name) {
    return act({
        title: `Drain ${name}?`, yes: 'Drain', danger: true,
        text: 'It takes no new events: publishers are refused until it is resumed. What it holds ' +
            'is still worked off.',
    }, topicPath(name, 'drain'), {}, `${name} takes nothing new.`);
}

export function purgeTopic(name, waiting) {
    return act({
        title: `Purge ${name}?`, yes: 'Purge', danger: true,
        text: `Throws away what waits in it, ${plural(waiting, 'event')} now. ` +
            'This can’t be undone.',
        fields: [{name: 'sure', label: `Type ${name} to go on`, must: name, required: true}],
    }, topicPath(name, 'purge'), {}, ({answer}) =>
        `Purged ${plural(answer.data?.purged ?? waiting, 'event')} of ${name}.`);
}

/* What was changed alone is set; what was emptied goes back to the settings. */
export function scalePool(name, pool) {
    const number = {type: 'number', min: '0', max: '1000', step: '1'};
    const now = {min: pool?.min, max: pool?.max, scale: pool?.scale};
    const text = (value) => String(value ?? '');
    return act({
        title: `Workers of ${name}`, yes: 'Set',
        text: 'Bounds of the scaler, or a fixed number. Empty: as the settings say.',
        fields: [
            {...number, name: 'min', label: 'At least', value: text(now.min)},
            {...number, name: 'max', label: 'At most', value: text(now.max)},
            {...number, name: 'scale', label: 'Exactly', value: text(now.scale),
                help: 'Empty: the scaler decides by the load.'},
        ],
    }, `api/v1/pools/${enc(name)}`, (values) => Object.fromEntries(Object.entries(values)
        .filter(([key, value]) => value !== text(now[key]))
        .map(([key, value]) => [key, value === '' ? null : Number(value)])),
    `The pool of ${name} is set.`);
}

export function setBreaker(topic, downstream, state) {
    const words = {
        open: ['Open', 'Its events wait until it is closed or given back to its rule.'],
        closed: ['Close', 'Its events run whatever becomes of them.'],
        auto: ['Give back', 'It opens and closes by its rule again.'],
    }[state];
    return act({
        title: `${words[0]} the breaker ${downstream || `of ${topic}`}?`, yes: words[0],
        text: words[1], danger: state === 'open',
    }, `api/v1/breakers/${enc(topic)}${downstream ? '/' + enc(downstream) : ''}`, {state},
    `The breaker is set to ${state}.`);
}

export function unparkKey(topic, key) {
    return act({
        title: key === null ? `Unpark all keys of ${topic}?` : `Unpark ${key}?`, yes: 'Unpark',
        text: 'The events that wait behind it go on, in order.',
    }, topicPath(topic, 'unpark'), {key}, ({answer}) =>
        `Unparked ${plural(answer.data?.unparked ?? 1, 'key')}.`);
}

/* One event: run-now, cancel, delay, release. */
export function actOnEvent(item, verb) {
    const questions = {
        'run-now': {title: 'Run it now?', yes: 'Run now',
            text: 'It needn’t wait for its time any more.', done: 'It is ready to run.'},
        cancel: {title: 'Cancel this event?', yes: 'Cancel it', no: 'Keep it', danger: true,
            text: 'It will never run. This can’t be undone.', done: 'It is cancelled.'},
        delay: {title: 'Delay this event', yes: 'Delay', done: 'It waits.',
            fields: [{name: 'seconds', label: 'Seconds from now', type: 'number', value: '60',
                min: '0', required: true}]},
        release: {title: 'Take it back from its worker?', yes: 'Take back',
            text: 'It counts as no attempt; for a minute another worker has to take it.',
            done: 'It is taken back.'},
    };
    const {done, ...question} = questions[verb];
    const topic = item.topic;
    return act(question, `api/v1/events/${enc(item.id)}/${verb}?topic=${enc(topic)}`,
        (values) => (verb === 'delay'
            ? {delay: Math.round(Number(values.seconds) * 1000)} : {}), done);
}

export const letterPath = (topic, n) => `api/v1/failed-events/${enc(topic)}/${enc(n)}`;

function taskId(answer) {
    return answer.data?.id ?? decodeURIComponent(answer.location.split('/').pop());
}

/* How many letters it would be, as the server counts them. */
async function dryRun(verb, body) {
    const {data} = await post(`api/v1/failed-events/${verb}`, {...body, dry_run: true});
    return data?.matched;
}

/* Replays or discards letters: `bodies` are one for each topic, {topic, n: […]} or
   {topic, filter: {…}} (no topic: all). Each becomes a task. */
export async function moveLetters(verb, bodies, known) {
    const replay = verb === 'replay';
    let most = known;
    try {
        const counts = await Promise.all(bodies.map((body) => dryRun(verb, body)));
        if (counts.every((each) => typeof each === 'number')) {
            most = counts.reduce((sum, each) => sum + each, 0);
        }
    } catch (error) {
        toast(error.message, {bad: true});
        return false;
    }
    const topics = [...new Set(bodies.map((body) => body.topic))];
    const where = topics.length > 1 ? `${count(topics.length)} topics` : topics[0] ?? 'all topics';
    const what = typeof most === 'number' ? plural(most, 'dead letter') : 'these dead letters';
    const fields = replay ? [{name: 'rate', label: 'Events a second', type: 'number', value: '50',
        min: '0', step: 'any', help: '0 or empty: as fast as it goes.'}] : [];
    if (!replay && most >= 100) {
        fields.push({name: 'sure', label: `Type ${most} to go on`, must: String(most),
            required: true});
    }
    const given = await ask({
        title: `${replay ? 'Replay' : 'Discard'} ${what}?`, yes: replay ? 'Replay' : 'Discard',
        danger: !replay, fields,
        text: replay
            ? `They go back into ${where} with fresh attempts; their errors stay with them.`
            : `They are removed from ${where} for good. This can’t be undone.`,
        run: async ({rate}) => {
            const extra = replay && Number(rate) > 0 ? {rate: `${Number(rate)}/s`} : {};
            const ids = [];
            for (const body of bodies) {
                const answer = await post(`api/v1/failed-events/${verb}`, {...body, ...extra});
                const id = taskId(answer);
                remember({id, verb, topic: body.topic, count: most});
                ids.push(id);
            }
            return ids;
        },
    });
    if (given) {
        toast(`${replay ? 'Replaying' : 'Discarding'} ${what}.`,
            {link: ['See the progress', place(['tasks'])]});
    }
    return given !== null;
}

/* One letter back as it is. */
export function replayLetter(topic, n) {
    return act({
        title: 'Replay this dead letter?', yes: 'Replay',
        text: `It goes back into ${topic} with fresh attempts.`,
    }, letterPath(topic, n) + '/replay', {}, `Letter ${exactly(n)} goes back into ${topic}.`);
}
