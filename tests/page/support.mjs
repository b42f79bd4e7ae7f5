/* What the page's tests share: processes that end with the run, a browser, waiting with a deadline.
   SPDX-License-Identifier: MIT */
import {spawn} from 'node:child_process';
import {createRequire} from 'node:module';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import {fileURLToPath} from 'node:url';

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
export const build = path.join(root, 'build/page');
export const DEADLINE_MS = 30000;
const PYTHON = '/usr/bin/python3';
const require = createRequire(path.join(build, 'package.json'));

const running = new Set();
const directories = new Set();

export function fail(text) {
    throw new Error(text);
}

export function assert(condition, text) {
    condition || fail(text);
}

export function pause(ms) {
    return new Promise((resolve) => setTimeout(resolve, ms));
}

/* Waits until `look` answers something true, and gives that back. */
export async function until(what, look, ms) {
    const deadline = Date.now() + (ms || DEADLINE_MS);
    let trouble = null;
    for (;;) {
        try {
            const found = await look();
            if (found) {
                return found;
            }
            trouble = null;
        } catch (error) {
            trouble = error;
        }
        if (Date.now() > deadline) {
            fail(`not in time: ${what}${trouble ? ` (${trouble.message})` : ''}`);
        }
        await pause(50);
    }
}

export function temporary() {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'ef-page-'));
    directories.add(directory);
    return directory;
}

export async function freePorts(count) {
    const servers = await Promise.all(Array.from({length: count}, () =>
        new Promise((resolve) => {
            const server = net.createServer().listen(0, '127.0.0.1', () => resolve(server));
        })));
    const ports = servers.map((server) => server.address().port);
    await Promise.all(servers.map((server) => new Promise((done) => server.close(done))));
    return ports;
}

/* A program that is ended with the run at the latest. What it says goes into `log`. */
export class Program {
    constructor(command, words, {log, env} = {}) {
        const out = log ? fs.openSync(log, 'a') : 'inherit';
        this.name = path.basename(command);
        this.process = spawn(command, words, {
            stdio: ['ignore', log ? out : 'pipe', out], env: {...process.env, ...env},
        });
        if (log) {
            fs.closeSync(out);
        }
        running.add(this);
        this.ended = new Promise((resolve) => {
            this.process.on('exit', (code, signal) => {
                running.delete(this);
                this.status = code ?? signal;
                resolve(this.status);
            });
        });
    }

    line() {
        return new Promise((resolve, reject) => {
            this.process.stdout.once('data', (data) => resolve(String(data).trim()));
            this.ended.then((status) => reject(new Error(`${this.name} ended with ${status}`)));
        });
    }

    async stop(signal) {
        this.process.kill(signal || 'SIGTERM');
        const late = setTimeout(() => this.process.kill('SIGKILL'), 15000);
        await this.ended;
        clearTimeout(late);
    }
}

export async function endAll() {
    await Promise.all([...running].map((program) => program.stop()));
    for (const directory of directories) {
        fs.rmSync(directory, {recursive: true, force: true});
    }
}

export class Mock {
    static async start(...words) {
        const self = new Mock();
        self.program = new Program(PYTHON,
            [path.join(root, 'tests/support/page_mock.py'), ...words]);
        self.port = Number(await self.program.line());
        self.url = `http://127.0.0.1:${self.port}/`;
        return self;
    }

    async trouble(what) {
        return (await fetch(`${this.url}mock/${what}`, {method: 'POST'})).json();
    }

    stop() {
        return this.program.stop('SIGKILL');
    }
}

export async function launch() {
    const {chromium} = require('playwright-core');
    return chromium.launch({
        executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
        args: process.getuid() === 0 ? ['--no-sandbox'] : [],
    });
}

/* A page on which nothing may go wrong unsaid: errors, refusals of the policy, alert(). */
export async function open(browser, url, {scheme, width, expect} = {}) {
    const context = await browser.newContext({
        colorScheme: scheme || 'light', viewport: {width: width || 1280, height: 900},
        timezoneId: 'Europe/Berlin', locale: 'en-GB',
    });
    const page = await context.newPage();
    page.setDefaultTimeout(DEADLINE_MS);
    page.trouble = [];
    page.on('pageerror', (error) => page.trouble.push(`error: ${error.message}`));
    page.on('dialog', (dialog) => {
        page.trouble.push(`dialog: ${dialog.message()}`);
        dialog.dismiss();
    });
    page.on('console', (message) => {
        if (message.type() === 'error' && !(expect && expect.test(message.text()))) {
            page.trouble.push(`console: ${message.text()}`);
        }
    });
    await page.goto(url);
    return page;
}

export async function close(page) {
    await page.context().close();
    assert(page.trouble.length === 0, page.trouble.join('\n'));
}

export async function isLive(page) {
    await page.locator('#link[data-state=live]').waitFor();
}

/* Until what a place asks for is there. */
export async function settle(page) {
    await page.waitForFunction(() => !/Looking|Waiting for the first/.test(
        document.getElementById('main').textContent));
    await pause(400);
}

const PAINT_MOST_MS = 300;

/* Others may use the machine too: what it takes at the least is the page's own part. */
export async function firstPaint(browser, url) {
    const times = [];
    for (let i = 0; i < 9; i++) {
        const page = await open(browser, url);
        await isLive(page);
        times.push(await page.evaluate(() =>
            performance.getEntriesByName('first-contentful-paint')[0].startTime));
        await close(page);
    }
    times.sort((a, b) => a - b);
    assert(times[0] < PAINT_MOST_MS, `first paint after ${times}`);
    return `first paint ${times[0].toFixed(0)} ms at the least, median ${times[4].toFixed(0)} ms`;
}

export function go(page, hash) {
    return page.evaluate((to) => {
        location.hash = to;
    }, hash);
}

const axeSource = () => fs.readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

/* What axe finds, minor things too, as lines. The policy forbids injected scripts: it is put in
   from outside of the page. */
export async function accessibility(page) {
    await page.evaluate(axeSource());
    const found = await page.evaluate(() => globalThis.axe.run(document, {
        runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
    }));
    return found.violations.map(({impact, id, nodes}) =>
        `${impact} ${id}: ${nodes.slice(0, 3).map((node) => node.target.join(' ')).join(' | ')}` +
        ` (${nodes[0].failureSummary?.split('\n')[1]?.trim()})`);
}

/* What sticks out of the page to the side. */
export function overflow(page) {
    return page.evaluate(() => {
        const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
        return wide <= 0 ? [] : [`${wide} px`, ...[...document.querySelectorAll('body *')]
            .filter((element) => element.getBoundingClientRect().right > innerWidth &&
                !element.closest('.scroll')).slice(0, 5)
            .map((element) => `${element.tagName}.${element.className}`)];
    });
}
