/* Asks the server: JSON both ways, problems as errors, a token where one is wanted.
   SPDX-License-Identifier: MIT */
import {parse} from './json.js';

const TOKEN_KEY = 'eventflow.token';
const RETRY_MOST_S = 5;
const root = new URL('.', document.baseURI);

let token = read();
let askForToken = null; // asks a person; set by the page
let asking = null;      // its promise while somebody is asked: once for all requests
let isRefused = false;  // nobody gave one: not asked again until `wantToken`

/* What the one who looks may do. `acts` false: nothing is shown that would change anything. */
export const access = {acts: true, name: '', readOnly: false};
const watchers = new Set();

function read() {
    try {
        return sessionStorage.getItem(TOKEN_KEY) || '';
    } catch {
        return '';
    }
}

/* For this tab alone, so that closing it forgets it. */
function keep(value) {
    token = value;
    try {
        sessionStorage.setItem(TOKEN_KEY, value);
    } catch {
        // Kept in memory then.
    }
}

export function setTokenAsker(ask) {
    askForToken = ask;
}

export function watchAccess(watcher) {
    watchers.add(watcher);
}

function changeAccess(change) {
    Object.assign(access, change);
    watchers.forEach((watcher) => watcher(access));
}

class Problem extends Error {
    constructor(status, body) {
        super(body.detail || body.title || `the server answered ${status}`);
        this.status = status;
        this.code = body.code || '';
        this.title = body.title || '';
        this.requestId = body.instance || '';
    }
}

export function needsToken() {
    return isRefused;
}

export function wantToken() {
    isRefused = false;
    return renewToken(token);
}

/* The token that requests bear now. */
export function currentToken() {
    return token;
}

/* Another token than the one that was refused, or null where none was given. A late answer to a
   request with an older one asks nobody. */
export function renewToken(refused) {
    if (token !== refused) {
        return Promise.resolve(token);
    }
    if (!askForToken || isRefused) {
        return Promise.resolve(null);
    }
    if (!asking) {
        asking = askForToken(token !== '').then((given) => {
            asking = null;
            isRefused = given === null;
            if (!isRefused) {
                keep(given);
            }
            watchers.forEach((watcher) => watcher(access));
            return given;
        });
    }
    return asking;
}

export function headers(more) {
    const all = {Accept: 'application/json', ...more};
    if (token) {
        all.Authorization = 'Bearer ' + token;
    }
    return all;
}

export function address(path) {
    return new URL(path, root);
}

/* 'api/v1/topics' with {limit: 5}; what is empty is left out. */
export function withQuery(path, query) {
    const search = new URLSearchParams();
    for (const [name, value] of Object.entries(query)) {
        if (value !== undefined && value !== null && value !== '') {
            search.set(name, value);
        }
    }
    return search.size ? `${path}?${search}` : path;
}

async function problemOf(response) {
    let body = {};
    try {
        body = await response.json();
    } catch {
        // Not ours, then: the status has to do.
    }
    return new Problem(response.status, body || {});
}

function pause(seconds, signal) {
    return new Promise((resolve, reject) => {
        const stop = () => {
            clearTimeout(timer);
            reject(signal.reason);
        };
        const timer = setTimeout(() => {
            signal?.removeEventListener('abort', stop);
            resolve();
        }, seconds * 1000);
        signal?.addEventListener('abort', stop);
    });
}

/* Looks now, and again `ms` after each look, until the signal. What is shown stays when a look
   fails: the next one may do better. */
export async function repeat(look, ms, signal) {
    while (!signal.aborted) {
        await look().catch(() => {});
        await pause(ms / 1000, signal).catch(() => {});
    }
}

/* `text`: a body that is JSON already. An answer's `data` is read without loss where `exact`. */
export async function call(method, path, {body, text, signal, exact} = {}) {
    const sent = text ?? (body === undefined ? undefined : JSON.stringify(body));
    let patience = method === 'GET' ? 1 : 0;
    for (;;) {
        const used = token;
        const response = await fetch(address(path), {
            method, signal, body: sent, cache: 'no-store', credentials: 'same-origin',
            headers: headers(sent === undefined ? {} : {'Content-Type': 'application/json'}),
        });
        if (response.status === 401 && await renewToken(used) !== null) {
            continue;
        }
        const wait = Number(response.headers.get('Retry-After'));
        if ((response.status === 429 || response.status === 503) && patience-- > 0 &&
            wait > 0 && wait <= RETRY_MOST_S) {
            await pause(wait, signal);
            continue;
        }
        if (!response.ok) {
            const problem = await problemOf(response);
            if (problem.code === 'READ_ONLY') {
                changeAccess({acts: false, readOnly: true});
            }
            throw problem;
        }
        const content = await response.text();
        return {
            status: response.status,
            location: response.headers.get('Location') || '',
            data: content === '' ? null : exact ? parse(content) : JSON.parse(content),
        };
    }
}

export async function get(path, options) {
    return (await call('GET', path, options)).data;
}

export function post(path, body, options) {
    return call('POST', path, {body, ...options});
}

/* Who the server takes us for; a server that can't say lets us try. */
export async function learnAccess() {
    try {
        const who = await get('api/v1/access');
        changeAccess({
            name: who.name || '',
            readOnly: who.read_only === true,
            acts: who.read_only !== true && who.role === 'administer',
        });
    } catch {
        changeAccess({});
    }
}
