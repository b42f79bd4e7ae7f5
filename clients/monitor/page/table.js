/* A table that is sorted, paged and changed in place each second.
   Rows keep their element by id; a cell is written only where its text changes. The order holds
   still while somebody points at a row or has the focus in one, so that nothing slips away under a
   click. SPDX-License-Identifier: MIT */
import {freshId, make, setAttribute, setText} from './dom.js';
import {count} from './format.js';

const PAGE = 100; // rows at a time: a thousand of them would cost a frame each second

function compare(a, b) {
    if (a === b) {
        return 0;
    }
    if (a === undefined || a === null || Number.isNaN(a)) {
        return -1;
    }
    if (b === undefined || b === null || Number.isNaN(b)) {
        return 1;
    }
    return typeof a === 'string' ? a.localeCompare(String(b), 'en', {numeric: true}) : a - b;
}

/* A column: {key, label, value (row) to sort by, text (row), build (cell) -> update (row) for
   more than text, number, wide (left out on narrow screens), head (names the row; the first does
   where it isn't `plain`), help} */
export class Table {
    constructor({caption, columns, id, empty, sort, store, page}) {
        this.columns = columns;
        this.id = id;
        this.empty = empty || 'Nothing here.';
        this.store = store && 'eventflow.sort.' + store;
        this.sort = this.recall() || sort || {key: columns[0].key, descending: false};
        this.size = page || PAGE;
        this.first = 0;
        this.rows = [];
        this.lines = new Map();
        this.order = [];
        this.build(caption);
    }

    recall() {
        try {
            const sort = JSON.parse(localStorage.getItem(this.store));
            return this.columns.some((column) => column.key === sort.key) ? sort : null;
        } catch {
            return null;
        }
    }

    build(caption) {
        this.heads = this.columns.map((column) => {
            const sortable = column.value !== undefined;
            const head = make('th', {
                scope: 'col', class: this.classes(column), title: column.help,
            }, sortable
                ? make('button', {type: 'button', onclick: () => this.sortBy(column)}, column.label)
                : column.label || make('span', {class: 'hidden'}, column.hiddenLabel || 'Acts'));
            return head;
        });
        this.body = make('tbody');
        this.note = make('p', {class: 'muted empty', hidden: true}, this.empty);
        const captionId = freshId('caption');
        this.table = make('table', {'aria-labelledby': captionId, hidden: true},
            make('thead', null, make('tr', null, this.heads)), this.body);
        this.back = make('button', {type: 'button', onclick: () => this.turn(-1)}, 'Previous');
        this.on = make('button', {type: 'button', onclick: () => this.turn(1)}, 'Next');
        this.where = make('span');
        this.pager = make('nav', {
            class: 'pager', 'aria-label': `Pages of ${caption}`, hidden: true,
        }, this.back, this.where, this.on);
        this.element = make('div', {class: 'table'},
            make('div', {class: 'hidden', id: captionId}, caption),
            make('div', {
                class: 'scroll', role: 'region', tabindex: '0', 'aria-label': caption,
            }, this.table), this.note, this.pager);
        this.mark();
    }

    classes(column) {
        return [column.number && 'number', column.wide && 'wide-only', column.class]
            .filter(Boolean).join(' ') || null;
    }

    sortBy(column) {
        const same = this.sort.key === column.key;
        this.sort = {
            key: column.key,
            descending: same ? !this.sort.descending : column.number === true,
        };
        try {
            localStorage.setItem(this.store, JSON.stringify(this.sort));
        } catch {
            // Sorted all the same.
        }
        this.first = 0;
        this.mark();
        this.render(true);
    }

    mark() {
        this.columns.forEach((column, i) => setAttribute(this.heads[i], 'aria-sort',
            column.value === undefined ? null
                : column.key !== this.sort.key ? 'none'
                    : this.sort.descending ? 'descending' : 'ascending'));
    }

    turn(by) {
        this.first += by * this.size;
        this.render(true);
        this.element.querySelector('.scroll').scrollIntoView({block: 'nearest'});
    }

    update(rows) {
        this.rows = rows;
        this.render(false);
    }

    isHeld() {
        return this.body.contains(document.activeElement) || this.body.matches(':hover');
    }

    /* The ids to show, in order. */
    arrange(anew) {
        const byId = new Map(this.rows.map((row) => [this.id(row), row]));
        const isSame = byId.size === this.order.length && this.order.every((id) => byId.has(id));
        if (!anew && isSame && this.isHeld()) {
            return byId;
        }
        const column = this.columns.find((each) => each.key === this.sort.key);
        const keyed = [...byId].map(([id, row]) => [id, column.value(row)]);
        const sign = this.sort.descending ? -1 : 1;
        keyed.sort((a, b) => sign * compare(a[1], b[1]) || compare(a[0], b[0]));
        this.order = keyed.map(([id]) => id);
        return byId;
    }

    render(anew) {
        const byId = this.arrange(anew);
        const most = this.order.length;
        if (this.first >= most) {
            this.first = Math.max(0, Math.floor((most - 1) / this.size) * this.size);
        }
        const shown = this.order.slice(this.first, this.first + this.size);
        const wanted = new Set(shown);
        for (const [id, line] of this.lines) {
            if (!wanted.has(id)) {
                line.element.remove();
                this.lines.delete(id);
            }
        }
        let at = this.body.firstChild;
        for (const id of shown) {
            const line = this.lines.get(id) || this.line(id);
            if (line.element === at) {
                at = at.nextSibling;
            } else {
                this.body.insertBefore(line.element, at);
            }
            line.updates.forEach((update) => update(byId.get(id)));
        }
        setAttribute(this.note, 'hidden', most > 0 ? '' : null);
        setAttribute(this.table, 'hidden', most > 0 ? null : '');
        setAttribute(this.pager, 'hidden', most > this.size ? null : '');
        this.back.disabled = this.first === 0;
        this.on.disabled = this.first + this.size >= most;
        setText(this.where, `${count(this.first + 1)} to ` +
            `${count(Math.min(this.first + this.size, most))} of ${count(most)}`);
    }

    line(id) {
        const updates = [];
        const cells = this.columns.map((column, i) => {
            const attributes = {class: this.classes(column)};
            const cell = column.head ?? (i === 0 && !column.plain)
                ? make('th', {scope: 'row', ...attributes}) : make('td', attributes);
            updates.push(column.build ? column.build(cell)
                : (row) => setText(cell, column.text(row)));
            return cell;
        });
        const line = {element: make('tr', null, cells), updates};
        this.lines.set(id, line);
        return line;
    }
}
