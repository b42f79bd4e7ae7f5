/* Questions before acts, and short words after them. SPDX-License-Identifier: MIT */
import {announce, freshId, make} from './dom.js';

const TOAST_MS = 6000;

/* A field of a question: {name, label, type, value, help, required, pattern, min, options} */
function field(spec, values) {
    const id = freshId('field');
    const common = {id, name: spec.name, required: spec.required};
    let input;
    if (spec.type === 'select') {
        input = make('select', common, spec.options.map(([value, text]) =>
            make('option', {value, selected: value === spec.value}, text)));
    } else if (spec.type === 'text area') {
        input = make('textarea', {...common, rows: spec.rows || 12, spellcheck: 'false'});
        input.value = spec.value ?? '';
    } else {
        input = make('input', {
            ...common, type: spec.type || 'text', value: spec.value ?? '', min: spec.min,
            max: spec.max, step: spec.step, autocomplete: 'off', spellcheck: 'false',
        });
    }
    const help = spec.help && make('p', {class: 'help', id: id + '-help'}, spec.help);
    if (help) {
        input.setAttribute('aria-describedby', help.id);
    }
    values.push(() => [spec.name, input.value]);
    if (spec.must !== undefined) { // a word to be typed, so that nobody does this by a slip
        input.addEventListener('input', () => input.setCustomValidity(
            input.value === spec.must ? '' : `Type ${spec.must}`));
        input.setCustomValidity(`Type ${spec.must}`);
    }
    return make('div', {class: 'field'}, make('label', {for: id}, spec.label), input, help);
}

/* Asks; null where it was cancelled, else the fields' values by name. `run`, where given, is
   awaited with them before the dialog goes; what it throws is shown and the dialog stays. */
export function ask({title, text, details, fields, yes, no, danger, wide, run}) {
    const values = [];
    const titleId = freshId('title');
    const trouble = make('p', {class: 'trouble', role: 'alert'});
    const confirm = make('button', {class: danger ? 'danger' : 'primary'}, yes || 'OK');
    const form = make('form', {method: 'dialog'},
        make('h2', {id: titleId}, title),
        text && make('p', null, text), details,
        (fields || []).map((spec) => field(spec, values)),
        trouble,
        make('div', {class: 'buttons'},
            make('button', {type: 'button', onclick: () => dialog.close()}, no || 'Cancel'),
            confirm));
    const dialog = make('dialog', {'aria-labelledby': titleId, class: wide ? 'wide' : ''}, form);
    const before = document.activeElement;
    return new Promise((resolve) => {
        let result = null;
        form.addEventListener('submit', async (event) => {
            event.preventDefault();
            const given = Object.fromEntries(values.map((value) => value()));
            confirm.disabled = true;
            trouble.textContent = '';
            try {
                const came = run ? await run(given) : undefined;
                result = came === undefined ? given : came;
                dialog.close();
            } catch (error) {
                trouble.textContent = error.message;
            }
            confirm.disabled = false;
        });
        dialog.addEventListener('close', () => {
            dialog.remove();
            if (before && before.isConnected) {
                before.focus();
            }
            resolve(result);
        });
        document.body.append(dialog);
        dialog.showModal();
        const first = form.querySelector('input, textarea, select');
        (first || (danger ? form.querySelector('.buttons button') : confirm)).focus();
    });
}

/* What an act came to; `link` is [text, href]. */
export function toast(text, {bad, link} = {}) {
    const box = make('div', {class: 'toast' + (bad ? ' bad' : '')}, make('span', null, text),
        link && make('a', {href: link[1]}, link[0]),
        make('button', {
            type: 'button', class: 'quiet', 'aria-label': 'Close', onclick: () => box.remove(),
        }, '×'));
    document.getElementById('toasts').append(box);
    announce(text);
    if (!bad) {
        setTimeout(() => box.remove(), TOAST_MS);
    }
}
