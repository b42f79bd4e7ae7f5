/* Every place of the page, light and wide, dark and narrow, with --long all ways: no finding of
   axe, nothing that sticks out; with --shots a picture of each. SPDX-License-Identifier: MIT */
import fs from 'node:fs';
import path from 'node:path';
import {Mock, accessibility, assert, close, go, isLive, open, overflow, pause, settle}
    from './support.mjs';

export const PLACES = {
    overview: '#/', topic: '#/topics/email', workers: '#/workers', dead: '#/dead',
    letter: '#/dead/email/1000', events: '#/events', event: '#/event/waiting?topic=email',
    running: '#/event/running?topic=email', tasks: '#/tasks', alerts: '#/alerts',
};

export async function lookAt(browser, url, places, {scheme, width, name}, shots) {
    const page = await open(browser, url, {scheme, width});
    const found = [];
    await isLive(page);
    for (const [place, hash] of Object.entries(places)) {
        await go(page, hash);
        await settle(page);
        found.push(...(await accessibility(page)).map((line) => `${place}: ${line}`),
            ...(await overflow(page)).map((line) => `${place} is too wide: ${line}`));
        if (shots) {
            await pause(1500); // charts are for people
            fs.mkdirSync(shots, {recursive: true});
            await page.screenshot({path: path.join(shots, `${place}-${name}.png`), fullPage: true});
        }
    }
    await close(page);
    assert(found.length === 0, `${name}:\n${found.join('\n')}`);
}

async function look(browser, options, way) {
    const mock = await Mock.start();
    await lookAt(browser, mock.url, PLACES, way, options.shots);
}

export const test_looks_light = (browser, options) =>
    look(browser, options, {name: 'light', scheme: 'light', width: 1280});
export const long_looks_dark = (browser, options) =>
    look(browser, options, {name: 'dark', scheme: 'dark', width: 1280});
export const long_looks_narrow = (browser, options) =>
    look(browser, options, {name: 'narrow', scheme: 'light', width: 360});
export const test_looks_narrow_dark = (browser, options) =>
    look(browser, options, {name: 'narrow-dark', scheme: 'dark', width: 390});

/* Questions are pages too. */
export async function test_looks_dialogs(browser, options) {
    const mock = await Mock.start();
    for (const scheme of ['light', 'dark']) {
        const page = await open(browser, mock.url, {scheme, width: 800});
        await isLive(page);
        const asked = [['#/topics/email', 'Pause'], ['#/topics/email', 'Purge'],
            ['#/topics/email', 'Workers'], ['#/dead/email/1000', 'Edit and replay'],
            ['#/dead?topic=email', 'Replay all'], ['#/dead?topic=email', 'Discard all']];
        for (const [hash, button] of asked) {
            await go(page, hash);
            await page.getByRole('button', {name: button}).first().click();
            await page.getByRole('dialog').waitFor();
            const found = await accessibility(page);
            if (options.shots) {
                const file = `dialog-${button.replace(/ /g, '-')}-${scheme}.png`;
                await page.screenshot({path: path.join(options.shots, file)});
            }
            assert(found.length === 0, `${button} ${scheme}: ${found}`);
            await page.keyboard.press('Escape');
        }
        await close(page);
    }
}
