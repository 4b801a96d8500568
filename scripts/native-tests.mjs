// Builds and runs the native unit tests: `--sanitize address,undefined` or `--sanitize thread` in a folder of
// its own, `--valgrind` under memcheck; `--only NAME,NAME` some programs. Other arguments go to every test program
// (doctest's, e.g. `-tc='*reader*'`).
import { existsSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { die, filesBelow, jobs, root, run, runAsync, which } from './lib.mjs';
import { configureTests } from './standins.mjs';
import { ensureSystem } from './system.mjs';

/** No native test takes longer; one that does hangs. */
const limitMs = 300_000;
const valgrindLimitMs = 1_800_000;

/**
 * Errors of memcheck, and memory that is lost for good, end the program with this code. What is still reachable is
 * the C++ library's own.
 */
const memcheck = [
  'valgrind',
  '--quiet',
  '--error-exitcode=99',
  '--leak-check=full',
  '--errors-for-leak-kinds=definite',
  '--show-leak-kinds=definite',
  // Threads take turns on one core: without it the one that waits for another may starve it.
  '--fair-sched=yes',
];

/** Valgrind 3.19 has no pidfd_open(2), and slows the ranks of a test down by unlike factors. */
const notUnderMemcheck = ['-tce=*a dead process is a lost rank*,*a rank that falls silent is lost by name*'];

/** Builds into build/tests (build/asan, build/tsan) and runs all programs; returns counts of test cases. */
export async function nativeTests({ sanitize = '', valgrind = false, only = '', args = [] } = {}) {
  ensureSystem(['build', 'test', ...(valgrind ? ['valgrind'] : [])]);
  const dir = configureTests(sanitize);
  run('cmake', ['--build', dir, '--parallel', String(jobs)]);

  const counts = { passed: 0, failed: 0, skipped: 0, failures: [] };
  for (const source of filesBelow(['test/native'], (file) => file.endsWith('_test.cpp'))) {
    const name = basename(source, '.cpp');
    if (only !== '' && !only.split(',').includes(name)) continue;
    const result = await runOne(join(dir, name), { sanitize, valgrind, args });
    counts.passed += result.passed;
    counts.failed += result.failed;
    counts.skipped += result.skipped;
    const verdict = result.failed > 0 ? 'FAILED' : 'ok';
    console.log(`  ${name}: ${verdict}, ${result.passed} passed, ${result.failed} failed`);
    if (result.failed === 0) continue;
    console.log(result.output);
    counts.failures.push(`${name}: ${whatFailed(result.output)}`);
  }
  return counts;
}

/** Doctest's own marks: the test cases and the checks in them that failed; without any, how the program ended. */
function whatFailed(output) {
  const marks = /^TEST CASE: .*|: (?:FATAL )?ERROR: .*|^ {2}(?:values|logged): .*/gm;
  const found = [...output.matchAll(marks)].map(([mark]) => mark.replace(/^: /, '').trim());
  return found.length > 0 ? found.slice(0, 12).join('; ') : output.trim().split('\n').at(-1);
}

async function runOne(program, { sanitize, valgrind, args }) {
  const suppressions = join(root, 'test/native/tsan.supp');
  const env = {
    ...process.env,
    ASAN_OPTIONS: 'detect_stack_use_after_return=1:strict_string_checks=1',
    UBSAN_OPTIONS: 'print_stacktrace=1',
    TSAN_OPTIONS: `halt_on_error=1:second_deadlock_stack=1${existsSync(suppressions) ? `:suppressions=${suppressions}` : ''}`,
  };
  // ThreadSanitizer of GCC 12 cannot work with the wide address randomisation of newer kernels.
  const alone = sanitize === 'thread' && which('setarch') ? ['setarch', '-R'] : [];
  const wrap = valgrind ? memcheck : alone;
  const without = valgrind ? notUnderMemcheck : [];
  const [command, ...rest] = [...wrap, program, '--no-colors=true', ...without, ...args];
  const { code, signal, output } = await runAsync(command, rest, {
    env,
    timeout: valgrind ? valgrindLimitMs : limitMs,
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
      options: {
        sanitize: { type: 'string', default: '' },
        valgrind: { type: 'boolean', default: false },
        only: { type: 'string', default: '' },
      },
      allowPositionals: true,
      strict: false,
      args: process.argv.slice(2),
    });
    const { passed, failed, skipped } = await nativeTests({ ...values, args: positionals });
    console.log(`${passed} passed, ${failed} failed${skipped ? `, ${skipped} skipped` : ''}`);
    process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
  } catch (error) {
    die(error);
  }
}
