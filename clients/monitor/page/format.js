/* Numbers, sizes, durations and times as people read them. SPDX-License-Identifier: MIT */

const NONE = '–';
const whole = new Intl.NumberFormat('en', {maximumFractionDigits: 0});
const compact = new Intl.NumberFormat('en', {notation: 'compact', maximumSignificantDigits: 3});
const isNumber = (value) => typeof value === 'number' && Number.isFinite(value);

export function count(value) {
    if (!isNumber(value)) {
        return NONE;
    }
    return Math.abs(value) < 1e6 ? whole.format(value) : compact.format(value);
}

/* Exactly, whatever its length: for questions before an act. */
export function exactly(value) {
    return isNumber(value) ? whole.format(value) : NONE;
}

export function plural(value, one, many) {
    return `${exactly(value)} ${value === 1 ? one : many || one + 's'}`;
}

export function rate(value) {
    if (!isNumber(value)) {
        return NONE;
    }
    return value > 0 && value < 9.95 ? value.toFixed(1) : count(Math.round(value));
}

export function bytes(value) {
    if (!isNumber(value)) {
        return NONE;
    }
    const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
    let unit = 0;
    while (Math.abs(value) >= 1024 && unit < units.length - 1) {
        value /= 1024;
        unit += 1;
    }
    return `${unit > 0 && value < 99.95 ? value.toFixed(1) : whole.format(value)} ${units[unit]}`;
}

export function duration(ms) {
    if (!isNumber(ms)) {
        return NONE;
    }
    const sign = ms < 0 ? '−' : '';
    ms = Math.abs(ms);
    if (ms < 1000) {
        return sign + (ms > 0 && ms < 10 ? Number(ms.toFixed(1)) : Math.round(ms)) + ' ms';
    }
    if (ms < 59950) {
        return sign + (ms < 9950 ? (ms / 1000).toFixed(1) : Math.round(ms / 1000)) + ' s';
    }
    const seconds = Math.round(ms / 1000);
    const parts = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']];
    const first = parts.findIndex(([size]) => seconds >= size);
    const [size, unit] = parts[first];
    const next = parts[first + 1];
    const rest = next ? Math.floor((seconds % size) / next[0]) : 0;
    return sign + `${Math.floor(seconds / size)} ${unit}` + (rest ? ` ${rest} ${next[1]}` : '');
}

/* Of a time as it is sent, RFC 3339 or milliseconds since 1970; undefined where there is none. */
export function toMs(time) {
    if (isNumber(time)) {
        return time > 0 ? time : undefined;
    }
    const ms = typeof time === 'string' ? Date.parse(time) : NaN;
    return Number.isNaN(ms) ? undefined : ms;
}

let utc = false;
export function setUtc(value) {
    utc = value;
}
export function isUtc() {
    return utc;
}

function pad(value, width) {
    return String(value).padStart(width || 2, '0');
}

function parts(ms) {
    const date = new Date(utc ? ms : ms - new Date(ms).getTimezoneOffset() * 60000);
    return {
        day: `${date.getUTCFullYear()}-${pad(date.getUTCMonth() + 1)}-${pad(date.getUTCDate())}`,
        minute: `${pad(date.getUTCHours())}:${pad(date.getUTCMinutes())}`,
        second: `:${pad(date.getUTCSeconds())}`,
        fraction: `.${pad(date.getUTCMilliseconds(), 3)}`,
    };
}

/* The day is left out where it is today; `precise` adds milliseconds. */
export function time(value, precise) {
    const ms = toMs(value);
    if (ms === undefined) {
        return NONE;
    }
    const at = parts(ms);
    const day = at.day === parts(Date.now()).day ? '' : at.day + ' ';
    return day + at.minute + at.second + (precise ? at.fraction : '') + (utc ? ' UTC' : '');
}

/* For an axis that spans `span` milliseconds. */
export function axisTime(ms, span) {
    const at = parts(ms);
    if (span > 2 * 86400e3) {
        return at.day.slice(5);
    }
    return span > 300e3 ? at.minute : at.minute + at.second;
}

/* For <input type=datetime-local>, and back. */
export function toInput(ms) {
    const at = parts(ms);
    return `${at.day}T${at.minute}${at.second}`;
}
export function fromInput(text) {
    const ms = Date.parse(text + (utc ? 'Z' : ''));
    return Number.isNaN(ms) ? undefined : ms;
}

/* The last of an event's errors, in one line. */
export function errorLine(error) {
    if (error === null || error === undefined || error === '') {
        return '';
    }
    if (Array.isArray(error)) {
        return errorLine(error[error.length - 1]);
    }
    return [error.status_code, error.message]
        .filter((part) => part !== undefined && part !== null && part !== '').join(' ');
}
