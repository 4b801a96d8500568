// Builds and runs the native unit tests: `--sanitize address,undefined` or `--sanitize thread` in a folder of
// its own, other arguments go to every test program (doctest's, e.g. `-tc='*reader*'`).
import { existsSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { die, filesBelow, jobs, root, run, runAsync, which } from './lib.mjs';
import { configureTests } from './standins.mjs';
import { ensureSystem } from './system.mjs';

/** No native test takes longer; one that does hangs. */
const limitMs = 300_000;

/** Builds into build/tests (build/asan, build/tsan) and runs all programs; returns counts of test cases. */
export async function nativeTests({ sanitize = '', args = [] } = {}) {
  ensureSystem(['build', 'test']);
  const dir = configureTests(sanitize);
  run('cmake', ['--build', dir, '--parallel', String(jobs)]);

  const counts = { passed: 0, failed: 0, skipped: 0 };
  for (const source of filesBelow(['test/native'], (file) => file.endsWith('_test.cpp'))) {
    const name = basename(source, '.cpp');
    const result = await runOne(join(dir, name), sanitize, args);
    counts.passed += result.passed;
    counts.failed += result.failed;
    counts.skipped += result.skipped;
    const verdict = result.failed > 0 ? 'FAILED' : 'ok';
    console.log(`  ${name}: ${verdict}, ${result.passed} passed, ${result.failed} failed`);
    if (result.failed > 0) console.log(result.output);
  }
  return counts;
}

async function runOne(program, sanitize, args) {
  const suppressions = join(root, 'test/native/tsan.supp');
  const env = {
    ...process.env,
    ASAN_OPTIONS: 'detect_stack_use_after_return=1:strict_string_checks=1',
    UBSAN_OPTIONS: 'print_stacktrace=1',
    TSAN_OPTIONS: `halt_on_error=1:second_deadlock_stack=1${existsSync(suppressions) ? `:suppressions=${suppressions}` : ''}`,
  };
  // ThreadSanitizer of GCC 12 cannot work with the wide address randomisation of newer kernels.
  const wrap = sanitize === 'thread' && which('setarch') ? ['setarch', '-R'] : [];
  const [command, ...rest] = [...wrap, program, '--no-colors=true', ...args];
  const { code, signal, output } = await runAsync(command, rest, {
    env,
    timeout: limitMs,
    killSignal: 'SIGABRT',
  });
  const line = /test cases:\s*(\d+) \|\s*(\d+) passed \|\s*(\d+) failed(?: \|\s*(\d+) skipped)?/.exec(output);
  if (!line) {
    return {
      passed: 0,
      failed: 1,
      skipped: 0,
      output: `${output}\n${basename(program)} ended early (${signal ?? code})`,
    };
  }
  const [passed, failed, skipped] = [line[2], line[3], line[4] ?? 0].map(Number);
  // A sanitizer may speak after the last test case, a leak for one.
  const late = failed === 0 && code !== 0 ? 1 : 0;
  return { passed, failed: failed + late, skipped, output };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    const { values, positionals } = parseArgs({
      options: { sanitize: { type: 'string', default: '' } },
      allowPositionals: true,
      strict: false,
      args: process.argv.slice(2),
    });
    const { passed, failed, skipped } = await nativeTests({ sanitize: values.sanitize, args: positionals });
    console.log(`${passed} passed, ${failed} failed${skipped ? `, ${skipped} skipped` : ''}`);
    process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
  } catch (error) {
    die(error);
  }
}
