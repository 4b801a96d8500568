// `npm run test:sanitized -- address|thread|leak [vitest filters]`: the integration suite over an addon, and
// stand-ins for GPU libraries, that were built with a sanitizer. Node itself is not instrumented, so the
// sanitizer's library is loaded before it; what it finds goes to files, since a test may expect its process to
// write nothing else. `-- memcheck [vitest filters]` runs the tests' rank processes under valgrind instead, over
// the usual build; without filters the short suite.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { ownFindings } from './leak-reports.mjs';
import { buildDir, capture, die, jobs, localBin, root, run, runAsync, ScriptError, which } from './lib.mjs';
import { setup } from './setup.mjs';
import { buildStandins } from './standins.mjs';

const suppressions = (name) => join(root, 'test/sanitizers', name);
const libraryOf = (name) => capture('g++', [`-print-file-name=${name}`]).trim();

/** What memcheck runs: every operation, re-forming, failures, in minutes. */
const shortSuite = ['/votes.', '/messages.', '/collectives.', '/reform.', '/failure.'];

const memcheck = (log) => [
  'valgrind',
  '--quiet',
  '--error-exitcode=99',
  '--leak-check=full',
  '--errors-for-leak-kinds=definite',
  '--show-leak-kinds=definite',
  // Threads take turns on one core: without it the one that waits for another may starve it.
  '--fair-sched=yes',
  '--smc-check=all-non-file',
  `--suppressions=${suppressions('memcheck.supp')}`,
  `--log-file=${log}.%p`,
  process.execPath,
  '--single-threaded-gc',
];

/** Builds are named by what -fsanitize takes; `leak` is a way of running the first. */
const kinds = {
  address: {
    sanitize: 'address,undefined',
    libraries: ['libasan.so', 'libubsan.so'],
    env: (log) => ({
      // Node does not free what it has at its end, and its stacks are not ours.
      ASAN_OPTIONS: `log_path=${log}:detect_leaks=0:detect_stack_use_after_return=1:strict_string_checks=1`,
      UBSAN_OPTIONS: `log_path=${log}:print_stacktrace=1`,
    }),
  },
  leak: {
    sanitize: 'address,undefined',
    libraries: ['libasan.so', 'libubsan.so'],
    env: (log) => ({
      ASAN_OPTIONS: `log_path=${log}:detect_leaks=1`,
      // Node's own leaks are sorted out afterwards (leak-reports.mjs) and must not be how a process ends.
      LSAN_OPTIONS: 'exitcode=0',
      UBSAN_OPTIONS: `log_path=${log}:print_stacktrace=1`,
    }),
  },
  // process.exit() asks no addon to clean up: threads that have ended are not joined then.
  thread: {
    sanitize: 'thread',
    libraries: ['libtsan.so'],
    env: (log) => ({
      TSAN_OPTIONS: `log_path=${log}:suppressions=${suppressions('tsan.supp')}:second_deadlock_stack=1:report_signal_unsafe=0:report_thread_leaks=0`,
    }),
  },
};

/** Over a build of its own; what an environment must say. */
function build({ sanitize, libraries, env }, log) {
  const dir = join(buildDir, `san-${sanitize.split(',')[0]}`);
  const generator = which('ninja') && !existsSync(join(dir, 'CMakeCache.txt')) ? ['-G', 'Ninja'] : [];
  capture('cmake', ['-S', root, '-B', dir, ...generator, `-DNC_SANITIZE=${sanitize}`]);
  run('cmake', ['--build', dir, '--parallel', String(jobs), '--target', 'node_collectives', 'leaky']);
  return {
    ...env(log),
    LD_PRELOAD: libraries.map(libraryOf).join(' '),
    NODE_COLLECTIVES_ADDON: join(dir, 'node_collectives.node'),
    NC_STANDIN_FOLDER: buildStandins(sanitize),
  };
}

/** Whether a leak in a call from JavaScript is found at all: of an addon that leaks on purpose. */
async function tryLeakChecker(env, logs) {
  const leaky = join(dirname(env.NODE_COLLECTIVES_ADDON), 'leaky.node');
  await runAsync(process.execPath, ['-e', `require(${JSON.stringify(leaky)})()`], { env });
  const found = reportsIn(logs, true);
  if (!found.some(({ text }) => text.includes('leaky.cpp')))
    throw new ScriptError('The leak checker does not find what test/fixtures/sanitizers/leaky.cpp loses.');
  emptied(logs);
}

function emptied(folder) {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
}

/** What the processes left; memcheck makes a file for each, also where it has nothing to say. */
function reportsIn(logs, leaks) {
  return readdirSync(logs)
    .map((file) => ({ file, text: readFileSync(join(logs, file), 'utf8') }))
    .map(({ file, text }) => ({ file, text: leaks ? ownFindings(text) : text }))
    .filter(({ text }) => text !== '');
}

try {
  const { positionals } = parseArgs({ allowPositionals: true, strict: false, args: process.argv.slice(2) });
  const [name = 'address', ...given] = positionals;
  const known = [...Object.keys(kinds), 'memcheck'];
  if (!known.includes(name))
    throw new ScriptError(`There is no sanitizer '${name}'; there are ${known.join(', ')}.`);
  const checker = name === 'memcheck';
  await setup({ purposes: ['build', 'test', ...(checker ? ['valgrind'] : [])] });
  const filters = given.length === 0 && checker ? shortSuite : given;

  const logs = join(buildDir, `san-logs-${name}`);
  emptied(logs);
  const log = join(logs, 'report');
  const env = {
    ...process.env,
    ...(checker ? { NC_RANK_WRAPPER: memcheck(log).join(' ') } : build(kinds[name], log)),
    // Tests that compare what a process holds leave out memory: a sanitizer keeps what was freed, and stacks.
    NC_SANITIZED: name,
  };
  if (name === 'leak') await tryLeakChecker(env, logs);
  // ThreadSanitizer of GCC 12 cannot work with the wide address randomisation of newer kernels.
  const wrap = name === 'thread' ? ['setarch', '-R'] : [];
  const vitest = [localBin('vitest'), 'run', '--project', 'integration', '--no-color', ...filters];
  const [command, ...args] = [...wrap, process.execPath, ...vitest];
  const { code, output } = await runAsync(command, args, { env, timeout: 7_200_000 });
  console.log(output.split('\n').slice(-60).join('\n'));
  const reports = reportsIn(logs, name === 'leak');
  for (const { file, text } of reports.slice(0, 10)) console.log(`--- ${file}\n${text.slice(0, 6_000)}`);
  console.log(`${name}: ${reports.length} reports, tests ${code === 0 ? 'passed' : 'FAILED'}`);
  process.exitCode = reports.length === 0 && code === 0 ? 0 : 1;
} catch (error) {
  die(error);
}
