// `npm run test:sanitized -- address|thread|leak [vitest filters]`: the integration suite over an addon, and
// stand-ins for GPU libraries, that were built with a sanitizer. Node itself is not instrumented, so the
// sanitizer's library is loaded before it; what it finds goes to files, since a test may expect its process to
// write nothing else.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { buildDir, capture, die, jobs, localBin, root, run, runAsync, ScriptError, which } from './lib.mjs';
import { setup } from './setup.mjs';
import { buildStandins } from './standins.mjs';

const suppressions = (name) => join(root, 'test/sanitizers', name);
const libraryOf = (name) => capture('g++', [`-print-file-name=${name}`]).trim();

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
      LSAN_OPTIONS: `suppressions=${suppressions('lsan.supp')}:print_suppressions=0`,
      UBSAN_OPTIONS: `log_path=${log}:print_stacktrace=1`,
    }),
  },
  thread: {
    sanitize: 'thread',
    libraries: ['libtsan.so'],
    env: (log) => ({
      TSAN_OPTIONS: `log_path=${log}:suppressions=${suppressions('tsan.supp')}:second_deadlock_stack=1:report_signal_unsafe=0`,
    }),
  },
};

try {
  const { positionals } = parseArgs({ allowPositionals: true, strict: false, args: process.argv.slice(2) });
  const [name = 'address', ...filters] = positionals;
  const kind = kinds[name];
  if (!kind)
    throw new ScriptError(`There is no sanitizer '${name}'; there are ${Object.keys(kinds).join(', ')}.`);
  await setup({ purposes: ['build', 'test'] });
  const dir = join(buildDir, `san-${kind.sanitize.split(',')[0]}`);
  const generator = which('ninja') && !existsSync(join(dir, 'CMakeCache.txt')) ? ['-G', 'Ninja'] : [];
  capture('cmake', ['-S', root, '-B', dir, ...generator, `-DNC_SANITIZE=${kind.sanitize}`]);
  run('cmake', ['--build', dir, '--parallel', String(jobs), '--target', 'node_collectives']);

  const standins = buildStandins(kind.sanitize);

  const logs = join(buildDir, `san-logs-${name}`);
  rmSync(logs, { recursive: true, force: true });
  mkdirSync(logs, { recursive: true });
  const env = {
    ...process.env,
    ...kind.env(join(logs, 'report')),
    LD_PRELOAD: kind.libraries.map(libraryOf).join(' '),
    NODE_COLLECTIVES_ADDON: join(dir, 'node_collectives.node'),
    NC_STANDIN_FOLDER: standins,
    // Slower by a factor: tests scale their limits by it.
    NC_SLOW: '10',
  };
  // ThreadSanitizer of GCC 12 cannot work with the wide address randomisation of newer kernels.
  const wrap = name === 'thread' ? ['setarch', '-R'] : [];
  const vitest = [localBin('vitest'), 'run', '--project', 'integration', '--no-color', ...filters];
  const [command, ...args] = [...wrap, process.execPath, ...vitest];
  const { code, output } = await runAsync(command, args, { env, timeout: 3_600_000 });
  console.log(output.split('\n').slice(-60).join('\n'));
  const reports = readdirSync(logs);
  for (const file of reports.slice(0, 10)) {
    console.log(`--- ${file}\n${readFileSync(join(logs, file), 'utf8').slice(0, 6_000)}`);
  }
  console.log(`${name}: ${reports.length} reports, tests ${code === 0 ? 'passed' : 'FAILED'}`);
  process.exitCode = reports.length === 0 && code === 0 ? 0 : 1;
} catch (error) {
  die(error);
}
