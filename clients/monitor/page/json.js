/* JSON that loses nothing: a number whose text doesn't come back from a double is kept as text
   (integers past 2^53, -0, 1.0, 1e400). Payloads are shown and edited through this.
   SPDX-License-Identifier: MIT */

const DEPTH_MAX = 512;

class Exact {
    constructor(text) {
        this.text = text;
    }
    toString() {
        return this.text;
    }
}

const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const STRING = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
const SPACE = /[ \t\r\n]*/y;
const WORDS = [['true', true], ['false', false], ['null', null]];

class Reader {
    constructor(text) {
        this.text = text;
        this.at = 0;
    }

    fail(wanted) {
        const before = this.text.slice(0, this.at).split('\n');
        throw new SyntaxError(`line ${before.length}, column ` +
            `${before[before.length - 1].length + 1}: ${wanted} expected`);
    }

    match(pattern) {
        pattern.lastIndex = this.at;
        const found = pattern.exec(this.text);
        if (found) {
            this.at = pattern.lastIndex;
        }
        return found ? found[0] : null;
    }

    next() {
        this.match(SPACE);
        return this.text[this.at];
    }

    take(character) {
        if (this.next() !== character) {
            return false;
        }
        this.at += 1;
        return true;
    }

    string(what) {
        const token = this.match(STRING);
        return token === null ? this.fail(what) : JSON.parse(token);
    }

    number() {
        const token = this.match(NUMBER);
        if (!token) {
            this.fail('a value');
        }
        return String(Number(token)) === token ? Number(token) : new Exact(token);
    }

    list(depth) {
        const items = [];
        if (!this.take(']')) {
            do {
                items.push(this.value(depth + 1));
            } while (this.take(','));
            this.take(']') || this.fail('“,” or “]”');
        }
        return items;
    }

    /* Without a prototype: a key may be called __proto__. */
    map(depth) {
        const items = Object.create(null);
        if (!this.take('}')) {
            do {
                this.next();
                const key = this.string('a name in quotes');
                this.take(':') || this.fail('“:”');
                items[key] = this.value(depth + 1);
            } while (this.take(','));
            this.take('}') || this.fail('“,” or “}”');
        }
        return items;
    }

    value(depth) {
        if (depth > DEPTH_MAX) {
            this.fail('less depth');
        }
        const character = this.next();
        if (character === '{' || character === '[') {
            this.at += 1;
            return character === '{' ? this.map(depth) : this.list(depth);
        }
        if (character === '"') {
            return this.string('a string that ends');
        }
        for (const [word, value] of WORDS) {
            if (this.text.startsWith(word, this.at)) {
                this.at += word.length;
                return value;
            }
        }
        return this.number();
    }
}

export function parse(text) {
    const reader = new Reader(text);
    const value = reader.value(0);
    if (reader.next() !== undefined) {
        reader.fail('the end');
    }
    return value;
}

/* Spread over lines where it is long; `indent` null: all in one line. */
export function print(value, indent = '') {
    if (value instanceof Exact) {
        return value.text;
    }
    if (typeof value !== 'object' || value === null) {
        return JSON.stringify(value) ?? 'null';
    }
    const isList = Array.isArray(value);
    const inner = indent === null ? null : indent + '    ';
    const items = isList
        ? value.map((item) => print(item, inner))
        : Object.keys(value).map((key) => JSON.stringify(key) + ': ' + print(value[key], inner));
    const [open, close] = isList ? '[]' : '{}';
    const short = items.join(', ');
    if (indent === null || (short.length < 60 && !short.includes('\n'))) {
        return open + short + close;
    }
    return `${open}\n${items.map((item) => inner + item).join(',\n')}\n${indent}${close}`;
}
