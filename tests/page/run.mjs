/* Runs the page's tests in a real browser: run.mjs [--shots DIR] [--bin DIR] [--long] [--again]
   [NAME…]
   Without --bin those alone that need the mock. --long: those too that look at every place in every
   way, and those that say how fast the page is, which a machine at other work makes fail. --again:
   what fails is told and runs once more. 77: what they need can't be installed.
   SPDX-License-Identifier: MIT */
import {execFileSync} from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import {build, endAll, launch, root} from './support.mjs';

const here = path.join(root, 'tests/page');
const options = {shots: '', bin: '', long: false, again: false};
const names = [];
for (let i = 2; i < process.argv.length; i++) {
    const word = process.argv[i];
    if (word === '--long' || word === '--again') {
        options[word.slice(2)] = true;
    } else if (word === '--shots' || word === '--bin') {
        options[word.slice(2)] = path.resolve(process.argv[i += 1] ?? '');
    } else {
        names.push(word);
    }
}

/* As the lock file says, once. */
function install() {
    const lock = 'package-lock.json';
    const wanted = fs.readFileSync(path.join(here, lock));
    const stamp = path.join(build, 'installed');
    if (fs.existsSync(stamp) && fs.readFileSync(stamp).equals(wanted)) {
        return;
    }
    fs.mkdirSync(build, {recursive: true});
    for (const file of ['package.json', lock]) {
        fs.copyFileSync(path.join(here, file), path.join(build, file));
    }
    execFileSync('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'],
        {cwd: build, stdio: ['ignore', 'ignore', 'inherit']});
    fs.writeFileSync(stamp, wanted);
}

/* True where it holds. */
async function runOne(browser, name, run) {
    const began = Date.now();
    try {
        const note = await run(browser, options);
        console.log(`ok   ${name} ${((Date.now() - began) / 1000).toFixed(1)} s` +
            (note ? `: ${note}` : ''));
        return true;
    } catch (error) {
        console.log(`FAIL ${name}: ${error.stack}`);
        return false;
    } finally {
        for (const context of browser.contexts()) {
            await context.close();
        }
        await endAll();
    }
}

async function main() {
    try {
        install();
    } catch (error) {
        console.error(error.message);
        return 77;
    }
    const modules = ['mock.mjs', 'looks.mjs', ...(options.bin ? ['real.mjs'] : [])];
    const tests = [];
    for (const file of modules) {
        const found = await import(path.join(here, file));
        for (const [name, run] of Object.entries(found)) {
            const is = name.startsWith('test_') || (name.startsWith('long_') &&
                (options.long || names.includes(name)));
            if (is && (!names.length || names.includes(name))) {
                tests.push([name, run]);
            }
        }
    }
    const browser = await launch();
    let failed = tests.length ? 0 : 1;
    let again = 0;
    for (const [name, run] of tests) {
        let holds = await runOne(browser, name, run);
        if (!holds && options.again) {
            console.log(`once more: ${name}`);
            again += 1;
            holds = await runOne(browser, name, run);
        }
        failed += !holds;
    }
    await browser.close();
    console.log(`${tests.length - failed} passed, ${failed} failed` +
        (again ? `, ${again} ran twice` : ''));
    return failed === 0 ? 0 : 1;
}

for (const signal of ['SIGINT', 'SIGTERM']) {
    process.on(signal, () => endAll().then(() => process.exit(130)));
}
try {
    process.exitCode = await main();
} catch (error) {
    console.error(error);
    process.exitCode = 1;
} finally {
    await endAll();
}
