/* The page: which part of it is shown, the line to the server, the switches.
   SPDX-License-Identifier: MIT */
import {access, learnAccess, needsToken, setTokenAsker, wantToken, watchAccess} from './api.js';
import {alertsPage, firing} from './alerts.js';
import {deadPage, letterPage} from './dead.js';
import {ask} from './dialog.js';
import {announce, fill, make, place, setAttribute, setText} from './dom.js';
import {eventPage, eventsPage} from './event.js';
import {duration, isUtc, setUtc, time, toMs} from './format.js';
import {hurry, live, now, start, watch} from './live.js';
import {overview} from './overview.js';
import {tasksPage} from './tasks.js';
import {topicPage} from './topic.js';
import {workersPage} from './workers.js';

/* The first part of the place -> [page, entry of the menu, title]. */
const PAGES = {
    '': [overview, 'overview', () => 'Overview'],
    topics: [topicPage, 'overview', (parts) => parts[1], 2],
    workers: [workersPage, 'workers', () => 'Workers'],
    dead: [deadPage, 'dead', () => 'Dead letters'],
    events: [eventsPage, 'events', () => 'Events'],
    event: [eventPage, 'events', (parts) => `Event ${parts[1]}`, 2],
    tasks: [tasksPage, 'tasks', () => 'Tasks'],
    alerts: [alertsPage, 'alerts', () => 'Alerts'],
};

const byId = (id) => document.getElementById(id);
let leave = null;

function store(name, value) {
    try {
        localStorage.setItem('eventflow.' + name, value);
    } catch {
        // Holds until the page is closed.
    }
}

function recall(name) {
    try {
        return localStorage.getItem('eventflow.' + name);
    } catch {
        return null;
    }
}

/* #/topics/email?x=y -> {parts, query}; null where it can't be read. */
function whereTo() {
    const [path, search] = location.hash.replace(/^#\/?/, '').split(/\?(.*)/s);
    try {
        return {parts: path.split('/').map(decodeURIComponent), query: new URLSearchParams(search)};
    } catch {
        return null;
    }
}

function show(focus) {
    const to = whereTo();
    const main = byId('main');
    const found = to && PAGES[to.parts[0]];
    leave?.();
    leave = null;
    if (!found || (found[3] && !to.parts[1])) {
        fill(main, make('h1', {tabindex: '-1'}, 'Not here'),
            make('p', null, 'No page has this address. ',
                make('a', {href: place([])}, 'Overview')));
        return;
    }
    const [page, entry, title] = found;
    const isLetter = to.parts[0] === 'dead' && to.parts.length > 2;
    leave = (isLetter ? letterPage : page)(main, to);
    document.title = `${isLetter ? 'Dead letter' : title(to.parts)} · eventflow`;
    document.querySelectorAll('nav [data-page]').forEach((link) => {
        setAttribute(link, 'aria-current', link.dataset.page === entry ? 'page' : null);
        if (link.dataset.page === entry) {
            link.scrollIntoView({block: 'nearest', inline: 'nearest'});
        }
    });
    if (focus) {
        scrollTo(0, 0);
        (main.querySelector('h1') || main).focus({preventScroll: true});
    }
}

/* Without seconds: the foot of the page isn't to tick. */
const upTime = (ms) => (ms < 60000 ? 'less than 1 min' : duration(Math.floor(ms / 60000) * 60000));

const LINKS = {connecting: 'connecting', live: 'live', stale: 'no news', lost: 'connection lost'};
let said = 'connecting';

/* The worst news, if there is any. */
function banner() {
    if (needsToken()) {
        return 'This server wants a token.';
    }
    if (live.link === 'lost') {
        return 'The connection to the monitor is lost; trying again. What is shown is old.';
    }
    if (live.down.size) {
        const [what, since] = live.down.has('broker')
            ? ['broker', live.down.get('broker')] : [...live.down][0];
        return `The ${what} doesn’t answer since ${time(since)}.` +
            (what === 'broker' ? ' What is shown is from before.' : '');
    }
    const broker = live.snapshot?.broker;
    if (broker?.recovering) {
        const share = broker.recovered_bytes / (broker.recovery_bytes || 1);
        return `The broker reads its journal: ${Math.floor(share * 100)} %.`;
    }
    return broker?.draining ? 'The broker is ending: it takes nothing new.' : '';
}

let told = null; // ids of those that fire, once they are known

/* Says what begins to fire while the page is open. */
function tellAlerts() {
    const ids = new Set(firing().map((alert) => alert.id));
    const fresh = told ? firing().filter((alert) => !told.has(alert.id)) : [];
    if (fresh.length) {
        announce(`Alert: ${fresh.map((alert) => alert.text).join('; ')}`);
    }
    if (live.knowsAlerts) {
        told = ids;
    }
}

function updateFrame() {
    const isDown = live.down.has('broker') && live.link !== 'lost';
    const state = isDown ? 'down' : live.link;
    const words = isDown ? 'broker down' : LINKS[live.link];
    setText(byId('link'), words);
    setAttribute(byId('link'), 'data-state', state);
    if (said !== state && !(said === 'connecting' && state === 'live')) {
        announce(words);
    }
    said = state;
    const text = banner();
    setText(byId('banner-text'), text);
    byId('banner-token').hidden = !needsToken();
    setAttribute(byId('banner'), 'hidden', text ? null : '');
    document.body.classList.toggle('old', state !== 'live');
    const alerts = firing().length;
    tellAlerts();
    setText(byId('alert-count'), alerts || '');
    setAttribute(byId('alert-count'), 'hidden', alerts ? null : '');
    const {process, broker} = live.snapshot || {};
    if (process) {
        const up = toMs(process.started);
        setText(byId('about'), [`eventflow ${process.version ?? ''}`, broker?.broker,
            up && `up ${upTime(now() - up)}`,
            process.config_ok === false && 'the last reload of its settings was refused',
            access.readOnly && 'read only',
            access.name && access.name !== 'loopback' && `as ${access.name}`]
            .filter(Boolean).join(' · '));
    }
}

const THEMES = {auto: 'light', light: 'dark', dark: 'auto'};

function switches() {
    const clock = byId('clock');
    const theme = byId('theme');
    const label = () => {
        setText(clock, isUtc() ? 'UTC' : 'Local');
        setAttribute(clock, 'aria-label', isUtc() ? 'UTC times' : 'Local times');
        setText(theme, `Theme: ${document.documentElement.dataset.theme || 'auto'}`);
    };
    setUtc(recall('utc') === '1');
    clock.addEventListener('click', () => {
        setUtc(!isUtc());
        store('utc', isUtc() ? '1' : '0');
        label();
        show(false);
    });
    theme.addEventListener('click', () => {
        const next = THEMES[document.documentElement.dataset.theme || 'auto'];
        if (next === 'auto') {
            delete document.documentElement.dataset.theme;
        } else {
            document.documentElement.dataset.theme = next;
        }
        store('theme', next);
        label();
    });
    label();
}

function askForToken(again) {
    return ask({
        title: 'A token is needed', yes: 'Use it',
        text: (again ? 'The server doesn’t take the last one. ' : '') +
            'It is kept for this tab and forgotten when it is closed.',
        fields: [{name: 'token', label: 'Token', type: 'password', required: true}],
    }).then((given) => (given ? given.token.trim() : null));
}

setTokenAsker(askForToken);
watchAccess(() => {
    document.documentElement.classList.toggle('no-acts', !access.acts);
    updateFrame();
});
byId('find').addEventListener('submit', (event) => {
    event.preventDefault();
    const id = byId('find-id').value.trim();
    if (id) {
        location.hash = place(['event', id]);
    }
});
byId('banner-token').addEventListener('click', async () => {
    if (await wantToken() !== null) {
        hurry();
        learnAccess();
        show(true);
    }
});
document.querySelector('.skip').addEventListener('click', (event) => {
    event.preventDefault(); // its address isn't a place of the page
    byId('main').focus();
});
addEventListener('hashchange', () => show(true));
switches();
show(false);
watch(updateFrame);
learnAccess();
start();
