// System packages: what is missing for a purpose, and how to get it.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, openSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { buildDir, ScriptError, which } from './lib.mjs';

const header = (name) => ['/usr/include', '/usr/local/include'].some((dir) => existsSync(join(dir, name)));

/** The folder with GlooConfig.cmake that CMake will find, or undefined. */
export function glooConfig() {
  const env = [process.env.Gloo_DIR, ...(process.env.CMAKE_PREFIX_PATH ?? '').split(/[:;]/)].filter(Boolean);
  const libs = ['/usr/lib', '/usr/local/lib'].flatMap((dir) =>
    existsSync(dir) ? [dir, ...readdirSync(dir).map((name) => join(dir, name))] : [],
  );
  const folders = [
    ...env.flatMap((dir) => [dir, join(dir, 'share/cmake/Gloo'), join(dir, 'lib/cmake/Gloo')]),
    '/usr/share/cmake/Gloo',
    '/usr/local/share/cmake/Gloo',
    ...libs.map((dir) => join(dir, 'cmake/Gloo')),
  ];
  return folders.find((dir) => existsSync(join(dir, 'GlooConfig.cmake')));
}

/** What is needed for what, how to see that it is there, and which Debian package brings it. */
const needs = {
  build: [
    { what: 'a C++20 compiler', there: () => which(process.env.CXX ?? 'c++'), apt: ['g++'] },
    { what: 'CMake', there: () => which('cmake'), apt: ['cmake'] },
    { what: 'Ninja or Make', there: () => which('ninja') ?? which('make'), apt: ['ninja-build'] },
    { what: 'Gloo', there: glooConfig, apt: ['libgloo-dev'] },
    { what: 'libsodium', there: () => header('sodium.h'), apt: ['libsodium-dev'] },
  ],
  test: [
    { what: 'doctest', there: () => header('doctest/doctest.h'), apt: ['doctest-dev'] },
    {
      what: 'clang-format 14',
      there: () => which('clang-format-14'),
      apt: ['clang-format-14'],
      optional: true,
    },
    { what: 'clang-tidy 14', there: () => which('clang-tidy-14'), apt: ['clang-tidy-14'], optional: true },
    { what: 'ccache', there: () => which('ccache'), apt: ['ccache'], optional: true },
    // Without them the tests of several hosts, and of what is looked up, skip themselves and say so.
    { what: 'ip (network namespaces)', there: () => which('ip'), apt: ['iproute2'], optional: true },
    { what: 'strace', there: () => which('strace'), apt: ['strace'], optional: true },
  ],
  prebuild: [
    { what: 'Python 3 (for node-gyp)', there: () => which('python3'), apt: ['python3'] },
    { what: 'readelf, objdump, strip', there: () => which('objdump') && which('strip'), apt: ['binutils'] },
    { what: 'Make (for node-gyp)', there: () => which('make'), apt: ['make'] },
    { what: 'patchelf', there: () => which('patchelf'), apt: ['patchelf'] },
  ],
  valgrind: [{ what: 'valgrind', there: () => which('valgrind'), apt: ['valgrind'] }],
  fuzz: [
    { what: 'clang++ 14', there: () => which('clang++-14'), apt: ['clang-14'] },
    {
      what: "clang's sanitizer runtimes",
      there: () => existsSync('/usr/lib/llvm-14/lib/clang/14.0.6/lib/linux'),
      apt: ['libclang-rt-14-dev'],
    },
  ],
};

// A minute of fuzzing is part of the tests where clang is to be had.
needs.test.push(...needs.fuzz.map((need) => ({ ...need, optional: true })));

/** What is not there of what the purposes need. */
export function missing(purposes) {
  return purposes.flatMap((purpose) => needs[purpose]).filter((need) => !need.there());
}

/**
 * Sees to it that everything for the purposes (keys of `needs`) is there; installs it with apt where that can
 * be done without asking. Returns whether anything was installed.
 */
export function ensureSystem(purposes) {
  const lacking = missing(purposes);
  if (lacking.length === 0) return false;
  const required = lacking.filter((need) => !need.optional);
  if (!which('apt-get')) {
    if (required.length === 0) return false;
    throw new ScriptError(
      `Missing: ${required.map((need) => need.what).join(', ')}.\n` +
        "Install them with this system's package manager (on Debian and Ubuntu they are " +
        `${required.flatMap((need) => need.apt).join(', ')}), then run this again.`,
    );
  }
  const isRoot = process.getuid() === 0;
  const apt = (args) => ['apt-get', '-o', 'DPkg::Lock::Timeout=300', ...args];
  const install = (packages) => apt(['install', '-y', '--no-install-recommends', ...packages]);
  // Package lists first: without them apt does not know which optional packages exist.
  const packages = [...new Set(lacking.flatMap((need) => need.apt))];
  const command = `apt-get update && ${isRoot ? '' : 'sudo '}apt-get install -y --no-install-recommends ${packages.join(' ')}`;
  const say = `Missing: ${lacking.map((need) => need.what).join(', ')}.`;
  if (!isRoot && !canSudo()) {
    if (required.length === 0) return false;
    throw new ScriptError(`${say} Run this, then again what you ran:\n\n  sudo ${command}\n`);
  }
  console.log(`setup: ${say}\nsetup: ${isRoot ? '' : 'sudo '}${command}`);
  // apt's hundreds of lines go to a file; what goes wrong comes on stderr.
  mkdirSync(buildDir, { recursive: true });
  const log = openSync(join(buildDir, 'apt.log'), 'a');
  const prefix = isRoot ? [] : ['sudo'];
  const execute = (args) => {
    const [program, ...rest] = [...prefix, ...args];
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
    return spawnSync(program, rest, { stdio: ['inherit', log, 'inherit'], env }).status === 0;
  };
  // A failed update (one unreachable source of many) need not matter; the install says whether it did.
  execute(apt(['update', '-qq']));
  const available = (need) => need.apt.every((name) => spawnSync('apt-cache', ['show', name]).status === 0);
  const wanted = lacking.filter((need) => !need.optional || available(need)).flatMap((need) => need.apt);
  if (wanted.length > 0 && !execute(install([...new Set(wanted)]))) {
    throw new ScriptError(
      `The packages could not be installed. The command was:\n\n  ${isRoot ? '' : 'sudo '}${command}\n`,
    );
  }
  const still = required.filter((need) => !need.there());
  if (still.length > 0) throw new ScriptError(`Still missing: ${still.map((need) => need.what).join(', ')}.`);
  return true;
}

/** Without a terminal sudo must not need a password; with one it may ask. */
function canSudo() {
  if (!which('sudo')) return false;
  return process.stdin.isTTY === true || spawnSync('sudo', ['-n', 'true'], { stdio: 'ignore' }).status === 0;
}
