/* Building and changing elements. Whatever comes from outside becomes text, never markup.
   SPDX-License-Identifier: MIT */

const SVG = 'http://www.w3.org/2000/svg';

/* Attributes of `make` that are properties or listeners; all others are set as they are. */
function assign(element, attributes) {
    for (const [name, value] of Object.entries(attributes)) {
        if (value === undefined || value === null || value === false) {
            continue;
        }
        if (name.startsWith('on')) {
            element.addEventListener(name.slice(2), value);
        } else if (name === 'value' || name === 'checked' || name === 'disabled') {
            element[name] = value;
        } else {
            element.setAttribute(name, value === true ? '' : String(value));
        }
    }
}

/* Characters that would hide, or turn around what follows, are shown by their number: a name must
   not look like another. */
const SLY = new RegExp('[\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f\\u200b\\u200e\\u200f' +
    '\\u202a-\\u202e\\u2066-\\u2069\\ufeff]', 'g');
function plain(text) {
    return text.replace(SLY, (character) =>
        `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

function append(element, children) {
    for (const child of children.flat(Infinity)) {
        if (child !== undefined && child !== null && child !== false) {
            element.append(child instanceof Node ? child : plain(String(child)));
        }
    }
    return element;
}

/* make('a', {href: '#/'}, 'text', element, …) */
export function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    assign(element, attributes || {});
    return append(element, children);
}

export function makeSvg(tag, attributes, ...children) {
    const element = document.createElementNS(SVG, tag);
    assign(element, attributes || {});
    return append(element, children);
}

/* Writes only where something changes: a page of numbers is mostly the same as a second ago. */
export function setText(element, text) {
    const value = plain(String(text));
    if (element.textContent !== value) {
        element.textContent = value;
    }
}

export function setAttribute(element, name, value) {
    if (value === null || value === undefined || value === false) {
        if (element.hasAttribute(name)) {
            element.removeAttribute(name);
        }
    } else if (element.getAttribute(name) !== String(value)) {
        element.setAttribute(name, String(value));
    }
}

export function fill(element, ...children) {
    element.replaceChildren();
    return append(element, children);
}

/* The same where somebody may be inside: what then stands where the focus was gets it, and what
   was unfolded stays so. */
export function refill(element, ...children) {
    const inside = 'a, button, input, select, summary, [tabindex]';
    const before = [...element.querySelectorAll(inside)];
    const at = before.indexOf(document.activeElement);
    const unfolded = [...element.querySelectorAll('details')].map((each) => each.open);
    fill(element, ...children);
    element.querySelectorAll('details').forEach((each, i) => {
        each.open = unfolded[i] === true;
    });
    if (at >= 0) {
        const now = [...element.querySelectorAll(inside)];
        const same = now.find((each) => each.textContent === before[at].textContent);
        (same || now[Math.min(at, now.length - 1)])?.focus({preventScroll: true});
    }
}

let lastId = 0;
export function freshId(prefix) {
    lastId += 1;
    return `${prefix}-${lastId}`;
}

/* A place inside the page: #/topics/email?x=y. Every part is escaped: no name leads elsewhere. */
export function place(parts, query) {
    const path = parts.map((part) => '/' + encodeURIComponent(part)).join('') || '/';
    const search = new URLSearchParams();
    for (const [name, value] of Object.entries(query || {})) {
        if (value !== undefined && value !== null && value !== '') {
            search.set(name, value);
        }
    }
    const tail = search.toString();
    return '#' + path + (tail ? '?' + tail : '');
}

/* Pairs of words and values, as a definition list. */
export function facts(pairs, attributes) {
    const list = make('dl', {class: 'facts', ...attributes});
    for (const [word, value] of pairs) {
        if (value !== undefined && value !== null && value !== '' && value !== false) {
            list.append(make('div', null, make('dt', null, word), make('dd', null, value)));
        }
    }
    return list;
}

/* A word in a frame; `kind` is good, warn, bad, busy or nothing. */
export function badge(text, kind) {
    return make('span', {class: 'badge' + (kind ? ' ' + kind : '')}, text);
}

const STATE_KINDS = {
    done: 'good', dead: 'bad', leased: 'busy', retrying: 'warn', parked: 'warn', closed: 'good',
    open: 'bad', half_open: 'warn', paused: 'warn', draining: 'warn', purged: '',
};
export function stateBadge(state) {
    return badge(String(state).replace('_', ' '), STATE_KINDS[state]);
}

/* Says something to those who listen rather than look. */
export function announce(text) {
    const said = document.getElementById('said');
    said.textContent = '';
    said.textContent = text;
}
