// `npm test`: set-up, then every check and every test, counted. The last line says `N passed, N failed` (and
// how many were skipped); a check that runs no test cases of its own counts as one. `--only lint,unit` picks
// some.
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import { clangFormat, format } from './clang-format.mjs';
import { clangTidy, tidy } from './clang-tidy.mjs';
import { buildFuzzers, fuzzAll, fuzzers } from './fuzz.mjs';
import { buildDir, localBin, root, run, ScriptError, which } from './lib.mjs';
import { nativeTests } from './native-tests.mjs';
import { setup } from './setup.mjs';
import { missing } from './system.mjs';

const passed = { passed: 1, failed: 0, skipped: 0 };
const failed = { passed: 0, failed: 1, skipped: 0 };
const skipped = { passed: 0, failed: 0, skipped: 1 };

const node = (...args) => run(process.execPath, args);
const check = (work) => async () => {
  await work();
  return passed;
};

/** Seconds for each fuzzer; it finds more with more: docs/reliability.md has longer runs. */
const fuzzSeconds = 30;

/** In the order in which they run: what fails fastest comes first. */
const steps = {
  biome: check(() => node(localBin('@biomejs/biome', 'biome'), 'check', '--error-on-warnings')),
  types: check(() => node(localBin('typescript', 'tsc'), '-p', 'tsconfig.json')),
  'clang-format': () => {
    if (!which(clangFormat)) return skip(`${clangFormat} is not installed`);
    return format(true) ? passed : failed;
  },
  docs: () => {
    const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
    if (!scripts['docs:check']) return { passed: 0, failed: 0, skipped: 0 };
    run('npm', ['run', '--silent', 'docs:check']);
    return passed;
  },
  native: () => nativeTests(),
  unit: () => vitest('unit'),
  integration: () => vitest('integration'),
  hosts: () => vitest('hosts*'),
  nccl: () => vitest('nccl'),
  rccl: () => vitest('rccl'),
  // That they work; `npm run test:gpu` alone runs them on the GPUs of a machine.
  'gpu-standins': () => vitest('gpu', { NC_TEST_GPU_STANDINS: 'nccl', NC_TEST_GPU_DEVICES: '3' }),
  // The short forms of campaigns that have commands of their own; each prints its seed.
  faults: check(() =>
    node('scripts/run-ts.mjs', 'test/campaigns/faults.ts', '--kills', '300', '--lanes', '2'),
  ),
  soak: check(() => node('scripts/run-ts.mjs', 'test/campaigns/soak.ts', '--minutes', '0.5')),
  package: () => vitest('package'),
  fuzz: async () => {
    const lacking = missing(['fuzz']);
    if (lacking.length > 0) return skip(`${lacking.map((need) => need.what).join(', ')} not installed`);
    buildFuzzers(fuzzers);
    await fuzzAll(fuzzers, fuzzSeconds);
    return { passed: fuzzers.length, failed: 0, skipped: 0 };
  },
  'clang-tidy': async () => {
    if (!which(clangTidy)) return skip(`${clangTidy} is not installed`);
    const { total, checked, failures } = await tidy();
    for (const { output } of failures) console.log(output);
    console.log(
      `  ${total} files, ${checked} of them changed since they passed, ${failures.length} with findings`,
    );
    return failures.length === 0 ? passed : failed;
  },
};

const groups = {
  lint: ['biome', 'types', 'clang-format', 'clang-tidy'],
  vitest: ['unit', 'integration', 'hosts', 'nccl', 'rccl', 'gpu-standins'],
};

function skip(why) {
  console.log(`  skipped: ${why}`);
  return skipped;
}

/** One project of vitest.config.ts, or several that begin alike; people read its own report, this reads the JSON one. */
function vitest(project, env = {}) {
  const report = join(buildDir, 'reports', `${project.replace('*', '')}.json`);
  mkdirSync(join(buildDir, 'reports'), { recursive: true });
  rmSync(report, { force: true });
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`];
  let error;
  try {
    const args = ['run', '--project', project, '--passWithNoTests', ...reporters, ...patterns];
    run(process.execPath, [localBin('vitest'), ...args], { env: { ...process.env, ...env } });
  } catch (caught) {
    error = caught;
  }
  let result;
  try {
    result = JSON.parse(readFileSync(report, 'utf8'));
  } catch {
    // Without a report either no file matched or vitest itself broke; its exit code tells which.
    if (error) console.log(error.message);
    return error ? failed : { passed: 0, failed: 0, skipped: 0 };
  }
  // A file that cannot even be imported has no tests in the counts.
  const broken = result.testResults.filter(
    (file) => file.status === 'failed' && file.assertionResults.length === 0,
  );
  const tests = result.testResults.flatMap((file) =>
    file.assertionResults.map((test) => ({ ...test, at: `${relative(root, file.name)}: ${test.fullName}` })),
  );
  const counts = {
    passed: result.numPassedTests,
    failed: result.numFailedTests + broken.length,
    skipped: result.numPendingTests + result.numTodoTests,
    failures: [
      ...tests
        .filter((test) => test.status === 'failed')
        .map((test) => `${test.at}: ${firstLine(test.failureMessages[0])}`),
      ...broken.map((file) => `${relative(root, file.name)}: ${firstLine(file.message)}`),
    ],
  };
  // Unhandled errors fail the run without failing a test.
  if (error && counts.failed === 0) counts.failed = 1;
  return counts;
}

let patterns = [];

async function main() {
  const { values, positionals } = parseArgs({
    options: { only: { type: 'string' }, skip: { type: 'string' } },
    allowPositionals: true,
  });
  patterns = positionals;
  const named = (list) =>
    (list ?? '')
      .split(',')
      .filter(Boolean)
      .flatMap((name) => groups[name] ?? [name]);
  const only = named(values.only);
  const without = named(values.skip);
  const unknown = [...only, ...without].filter((name) => !(name in steps));
  if (unknown.length > 0) {
    throw new ScriptError(
      `No such step: ${unknown.join(', ')}. Steps: ${[...Object.keys(steps), ...Object.keys(groups)].join(', ')}`,
    );
  }
  const chosen = Object.keys(steps).filter(
    (name) => (only.length === 0 || only.includes(name)) && !without.includes(name),
  );
  const started = Date.now();
  await setup({ purposes: ['build', 'test', ...(chosen.includes('package') ? ['prebuild'] : [])] });

  const sum = { passed: 0, failed: 0, skipped: 0 };
  const failures = [];
  const summary = [`set-up: ${seconds(started)}`];
  for (const name of chosen) {
    console.log(`\n== ${name}`);
    const start = Date.now();
    let counts;
    try {
      counts = await steps[name]();
    } catch (error) {
      console.log(error instanceof ScriptError ? error.message : error);
      counts = { ...failed, failures: [firstLine(error.message)] };
    }
    for (const key of Object.keys(sum)) sum[key] += counts[key];
    for (const failure of counts.failures ?? []) failures.push(`${name}: ${failure}`);
    summary.push(`${counts.failed > 0 ? 'FAILED ' : ''}${name}: ${line(counts)} (${seconds(start)})`);
  }
  // Once more by name: what each printed may be thousands of lines above.
  for (const failure of failures) console.log(`\nFAILED ${failure}`);
  console.log(
    `\n${summary.join('\n')}\nin ${seconds(started)}, reports in ${relative(root, join(buildDir, 'reports'))}/\n`,
  );
  console.log(line(sum));
  process.exitCode = sum.failed > 0 || sum.passed === 0 ? 1 : 0;
}

const firstLine = (text) => (text ?? '').trim().split('\n', 1)[0];

const seconds = (since) => `${((Date.now() - since) / 1000).toFixed(1)} s`;

function line({ passed, failed, skipped }) {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`;
}

await main().catch((error) => {
  // Whoever reads only the last line must see that nothing was tested.
  console.error(error instanceof ScriptError ? `\n${error.message}` : error);
  console.log('0 passed, 1 failed');
  process.exitCode = 1;
});
