/* Line charts and sparklines as SVG: they take the theme's colours by themselves, are sharp on
   every screen and cost nothing while nothing changes. A chart is read with the pointer or, once
   it has the focus, with the arrow keys: it is a slider along the time.
   SPDX-License-Identifier: MIT */
import {make, makeSvg, setAttribute, setText} from './dom.js';
import {axisTime, time} from './format.js';

const LEFT = 52;
const RIGHT = 10;
const TOP = 8;
const BOTTOM = 22;
const HEIGHT = 170;

/* 1, 2 or 5 times a power of ten, so that `steps` of them hold `most`. */
function niceStep(most, steps) {
    const rough = most / steps;
    const power = 10 ** Math.floor(Math.log10(rough));
    return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= rough * 0.999);
}

const TIME_STEPS = [1, 5, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200,
    86400, 172800, 604800].map((seconds) => seconds * 1000);

const isValue = (value) => typeof value === 'number' && Number.isFinite(value);

/* "M x,y L …" with gaps where there is no value, unless it is `joined`. */
function pathOf(values, x, y, joined) {
    let path = '';
    let pen = 'M';
    for (let i = 0; i < values.length; i++) {
        if (isValue(values[i])) {
            path += `${pen}${x(i).toFixed(1)},${y(values[i]).toFixed(1)}`;
            pen = 'L';
            if (!joined && !isValue(values[i - 1]) && !isValue(values[i + 1])) {
                path += 'h0.1';
            }
        } else if (!joined) {
            pen = 'M';
        }
    }
    return path;
}

export class Chart {
    /* series: [{key, label}]; format: a value as text; whole: there are no halves of it */
    constructor({title, series, format, whole}) {
        this.whole = whole;
        this.title = title;
        this.series = series;
        this.format = format;
        this.data = null;
        this.cursor = null;
        this.width = 0;
        this.lines = series.map((_, i) => makeSvg('path', {class: `line s${i + 1}`}));
        this.grid = makeSvg('g', {class: 'grid'});
        this.rule = makeSvg('line', {class: 'rule', visibility: 'hidden'});
        this.svg = makeSvg('svg', {
            height: HEIGHT, tabindex: '0', role: 'slider', 'aria-label': title,
            'aria-valuemin': '0', 'aria-valuemax': '0', 'aria-valuenow': '0',
        }, this.grid, this.lines, this.rule);
        this.values = series.map(() => make('b'));
        this.when = make('span', {class: 'when'});
        this.legend = make('ul', {class: 'legend'}, series.map((each, i) =>
            make('li', {class: `s${i + 1}`}, this.key(i), each.label + ' ', this.values[i])));
        this.none = make('p', {class: 'muted nothing', hidden: true}, 'No history yet.');
        this.element = make('figure', {class: 'chart'},
            make('figcaption', null, make('span', {class: 'title'}, title), this.when),
            this.svg, this.none, this.legend);
        this.listen();
    }

    key(i) {
        return makeSvg('svg', {width: 18, height: 8, 'aria-hidden': 'true'},
            makeSvg('line', {x1: 0, x2: 18, y1: 4, y2: 4, class: `line s${i + 1}`}));
    }

    listen() {
        this.resize = new ResizeObserver(([entry]) => {
            const width = Math.floor(entry.contentRect.width);
            if (width !== this.width) {
                this.width = width;
                this.draw();
            }
        });
        this.resize.observe(this.element);
        this.svg.addEventListener('pointermove', (event) => {
            const box = this.svg.getBoundingClientRect();
            this.point(this.indexAt(event.clientX - box.left));
        });
        this.svg.addEventListener('pointerleave', () => this.point(null));
        this.svg.addEventListener('blur', () => this.point(null));
        this.svg.addEventListener('keydown', (event) => {
            const last = this.length() - 1;
            const at = this.cursor ?? last;
            const to = {
                ArrowLeft: at - 1, ArrowRight: at + 1, ArrowDown: at - 1, ArrowUp: at + 1,
                PageDown: at - 10, PageUp: at + 10, Home: 0, End: last,
            }[event.key];
            if (to !== undefined) {
                event.preventDefault();
                this.point(Math.max(0, Math.min(last, to)));
            }
        });
    }

    destroy() {
        this.resize.disconnect();
    }

    length() {
        return this.data ? Math.max(0, ...this.series.map(
            ({key}) => (this.data.values[key] || []).length)) : 0;
    }

    /* from and step in ms; values: {key: [number or null, …]} */
    update(data) {
        this.data = data;
        this.draw();
    }

    indexAt(x) {
        const length = this.length();
        if (length === 0) {
            return null;
        }
        const share = (x - LEFT) / Math.max(1, this.width - LEFT - RIGHT);
        return Math.max(0, Math.min(length - 1, Math.round(share * (length - 1))));
    }

    draw() {
        const length = this.length();
        const has = this.series.some(({key}) => (this.data?.values[key] || []).some(isValue));
        setAttribute(this.none, 'hidden', has ? '' : null);
        setAttribute(this.svg, 'hidden', has ? null : '');
        if (!has || this.width < 80) {
            return;
        }
        let most = 0;
        for (const {key} of this.series) {
            for (const value of this.data.values[key] || []) {
                most = isValue(value) && value > most ? value : most;
            }
        }
        const step = Math.max(this.whole ? 1 : 0, niceStep(most || 1, 3));
        const top = Math.max(step, Math.ceil((most || 1) / step - 0.001) * step);
        const inner = this.width - LEFT - RIGHT;
        const tall = HEIGHT - TOP - BOTTOM;
        this.x = (i) => LEFT + (length > 1 ? (i / (length - 1)) * inner : inner);
        this.y = (value) => TOP + tall - (value / top) * tall;
        setAttribute(this.svg, 'viewBox', `0 0 ${this.width} ${HEIGHT}`);
        setAttribute(this.svg, 'width', this.width);
        this.drawGrid(top, step, length);
        this.series.forEach(({key}, i) => setAttribute(this.lines[i], 'd',
            pathOf(this.data.values[key] || [], this.x, this.y)));
        this.point(this.cursor);
    }

    drawGrid(top, step, length) {
        const parts = [];
        for (let value = 0; value <= top * 1.001; value += step) {
            const y = this.y(value);
            parts.push(makeSvg('line', {x1: LEFT, x2: this.width - RIGHT, y1: y, y2: y}),
                makeSvg('text', {x: LEFT - 6, y: y + 4, 'text-anchor': 'end'}, this.format(value)));
        }
        const {from, step: stepMs} = this.data;
        const span = stepMs * (length - 1);
        const every = TIME_STEPS.find((each) => span / each <= this.width / 95) ||
            TIME_STEPS[TIME_STEPS.length - 1];
        const zone = new Date(from).getTimezoneOffset() * 60000;
        for (let at = Math.ceil((from - zone) / every) * every + zone; at <= from + span;
            at += every) {
            const x = this.x((at - from) / stepMs);
            if (x > LEFT + 16 && x < this.width - RIGHT - 12) {
                parts.push(makeSvg('text', {x, y: HEIGHT - 6, 'text-anchor': 'middle'},
                    axisTime(at, span)));
            }
        }
        this.grid.replaceChildren(...parts);
    }

    /* Shows the values at one time; null: the newest. */
    point(index) {
        const length = this.length();
        if (!length || !this.x) {
            return;
        }
        this.cursor = index === null || index >= length ? null : index;
        const at = this.cursor ?? length - 1;
        const when = this.data.from + at * this.data.step;
        const words = this.series.map(({key, label}, i) => {
            const value = (this.data.values[key] || [])[at];
            const text = isValue(value) ? this.format(value) : '–';
            setText(this.values[i], text);
            return `${label} ${text}`;
        });
        setText(this.when, this.cursor === null ? '' : time(when));
        setAttribute(this.rule, 'visibility', this.cursor === null ? 'hidden' : 'visible');
        const x = this.x(at);
        for (const [name, value] of [['x1', x], ['x2', x], ['y1', TOP], ['y2', HEIGHT - BOTTOM]]) {
            setAttribute(this.rule, name, value);
        }
        setAttribute(this.svg, 'aria-valuemax', length - 1);
        setAttribute(this.svg, 'aria-valuenow', at);
        setAttribute(this.svg, 'aria-valuetext', `${time(when)}: ${words.join(', ')}`);
    }
}

/* A line without axes; the words beside it say the number. */
export function sparkline(width, height, most) {
    const path = makeSvg('path', {class: 'line'});
    const svg = makeSvg('svg', {
        class: 'spark', width, height, viewBox: `0 0 ${width} ${height}`, 'aria-hidden': 'true',
        preserveAspectRatio: 'none',
    }, path);
    return {
        element: svg,
        update(values) {
            let top = 0;
            for (const value of values) {
                top = isValue(value) && value > top ? value : top;
            }
            const x = (i) => width - ((values.length - 1 - i) / (most - 1)) * width;
            const y = (value) => height - 1.5 - (top > 0 ? value / top : 0) * (height - 3);
            setAttribute(path, 'd', pathOf(values, x, y, true));
        },
    };
}
