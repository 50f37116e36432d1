/**
 * Runs the test files under tap, prints a line a file and every failure in full, and ends with `N passed, N failed`.
 * A test is a subtest directly in a file. With CI=true a skipped test is a failure: what CI needs must be there.
 *
 *     npm test                          everything
 *     npm test -- test/unit test/api    some folders or files
 */
import { spawn } from 'node:child_process';
import { globSync, readFileSync, rmSync } from 'node:fs';
import { cpus } from 'node:os';
import { resolve } from 'node:path';
import { inspect } from 'node:util';
import { Parser, type Result } from 'tap-parser';

interface Outcome {
  readonly name: string;
  readonly result: Result;
}

const wanted = process.argv.slice(2);
const files = (wanted.length > 0 ? wanted : ['test'])
  .flatMap((path) => (path.endsWith('.ts') ? [path] : globSync(`${path}/**/*.test.ts`)))
  .sort();
if (files.length === 0) {
  console.error(`no test files in ${wanted.join(' ')}`);
  process.exit(2);
}

const ci = process.env.CI === 'true';
// Node parses the certificates that this variable names at every start, which costs each test process time.
const { NODE_EXTRA_CA_CERTS: _certificates, ...inherited } = process.env;
// Each test file and each command of ucloud is a process of its own. Without the cache, each compiles the same modules again.
const compiled = resolve('.ucloud/cache/compiled');
// Bundles in temporary directories leave entries that no later run needs.
if (wanted.length === 0) rmSync(compiled, { recursive: true, force: true, maxRetries: 3 });
const environment = { NODE_COMPILE_CACHE: compiled, ...inherited };
let passed = 0;
const failed: string[] = [];
const skipped: string[] = [];

const describe = (file: string, { result }: Outcome) => {
  // An error may contain itself.
  const detail = result.diag ? inspect(result.diag, { depth: 5, breakLength: 120 }) : '';
  return `${file} > ${result.fullname || result.name}\n${detail}`;
};

const reasonOf = (result: Result) => (result.skip === true ? 'no reason given' : result.skip);

function watchFile(file: Parser): void {
  const outcomes: Outcome[] = [];
  const failures: Outcome[] = [];
  file.on('assert', (result) => outcomes.push({ name: result.name, result }));
  const collect = (parser: Parser) => {
    parser.on('assert', (result) => {
      if (!result.ok && !result.todo) failures.push({ name: result.fullname, result });
      if (result.skip) skipped.push(`${file.name} > ${result.fullname}: ${reasonOf(result)}`);
    });
    parser.on('child', collect);
  };
  file.on('child', collect);
  file.on('complete', (results) => {
    const mine = { passed: 0, failed: 0, skipped: 0 };
    for (const { name, result } of outcomes) {
      if (result.skip) {
        mine.skipped++;
        skipped.push(`${file.name} > ${name}: ${reasonOf(result)}`);
      } else if (result.ok) mine.passed++;
      else mine.failed++;
    }
    // A file that dies before its first test has no failures either.
    if (mine.failed === 0 && (!results.ok || outcomes.length === 0)) mine.failed = 1;
    passed += mine.passed;
    const seconds = ((results.time ?? 0) / 1000).toFixed(1);
    const skips = mine.skipped > 0 ? `, ${mine.skipped} skipped` : '';
    console.log(`${mine.failed === 0 ? 'ok  ' : 'FAIL'} ${file.name} (${mine.passed} passed${skips}, ${seconds} s)`);
    if (mine.failed === 0) return;
    const reasons = failures.length > 0 ? failures : outcomes.filter(({ result }) => !result.ok);
    for (const reason of reasons) console.log(describe(file.name, reason));
    if (reasons.length === 0) {
      const said = results.bailout || results.failures.map((failure: unknown) => JSON.stringify(failure)).join('\n');
      console.log(`${file.name}: ${said || 'no test was run'}`);
    }
    for (let i = 0; i < mine.failed; i++) failed.push(file.name);
  });
}

/** Runs files under tap; resolves with its exit code. */
function runTap(paths: readonly string[], jobs: number): Promise<number> {
  if (paths.length === 0) return Promise.resolve(0);
  const tap = spawn('tap', ['run', '--reporter=tap', `--jobs=${jobs}`, ...paths], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...environment, TAP_BAIL: '0', NODE_NO_WARNINGS: '1' },
  });
  const root = new Parser();
  root.on('child', watchFile);
  tap.stdout.on('data', (chunk: Buffer) => root.write(chunk));
  return new Promise((resolve, reject) => {
    tap.on('error', reject);
    tap.on('close', (code) => {
      root.end();
      resolve(code ?? 1);
    });
  });
}

/** Files with this remark boot guests. Without hardware virtualisation, each guest takes a core for minutes. */
const guests = files.filter((file) => readFileSync(file, 'utf8').includes('// Boots guests: '));
const others = files.filter((file) => !guests.includes(file));

// Most tests wait for a time, such as the end of a lease. Guests need a core each.
const codes = [await runTap(others, Math.min(2 * cpus().length, 4)), await runTap(guests, Math.min(cpus().length, 2))];
for (const skip of skipped) console.log(`SKIPPED ${skip}`);
let failures = failed.length;
if (ci && skipped.length > 0) {
  console.log(`CI=true: ${skipped.length} skipped tests count as failed.`);
  failures += skipped.length;
}
if (passed + failures === 0) failures = 1;
if (failures === 0 && codes.some((code) => code !== 0)) {
  console.log(`tap ended with code ${codes.find((code) => code !== 0)}.`);
  failures = 1;
}
console.log(`${passed} passed, ${failures} failed`);
process.exitCode = failures === 0 ? 0 : 1;
