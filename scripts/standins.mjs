// `npm run standins`: builds the tests' stand-ins for GPU libraries into build/standins/ (see
// docs/gpu-standins.md); `--sanitize address,undefined` or `--sanitize thread` into build/asan/standins/ or
// build/tsan/standins/, for programs that are built that way.
import { existsSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { buildDir, capture, die, jobs, root, run, which } from './lib.mjs';

/** Configures the folder that native tests and stand-ins are built in, and returns it. */
export function configureTests(sanitize = '') {
  const folder = { '': 'tests', thread: 'tsan' }[sanitize] ?? 'asan';
  const dir = join(buildDir, folder);
  const generator = which('ninja') ? ['-G', 'Ninja'] : [];
  capture('cmake', [
    '-S',
    root,
    '-B',
    dir,
    ...(existsSync(join(dir, 'CMakeCache.txt')) ? [] : generator),
    '-DNC_BUILD_ADDON=OFF',
    '-DNC_BUILD_TESTS=ON',
    '-DNC_BUILD_STANDINS=ON',
    `-DNC_STANDIN_OUTPUT=${standinsFolder(sanitize)}`,
    `-DNC_SANITIZE=${sanitize}`,
    // As the addon is compiled, whose objects ccache then has. cmake-js adds the definition.
    ...(sanitize === '' ? ['-DCMAKE_BUILD_TYPE=Release', '-DCMAKE_CXX_FLAGS=-DBUILDING_NODE_EXTENSION'] : []),
  ]);
  return dir;
}

/** Where the stand-ins are, once they are built. */
export function standinsFolder(sanitize = '') {
  const folder = { '': '', thread: 'tsan' }[sanitize] ?? 'asan';
  return join(buildDir, folder, 'standins');
}

/** Builds them where something changed. */
export function buildStandins(sanitize = '') {
  build(sanitize, 'standins');
  return standinsFolder(sanitize);
}

/** Builds what tests in TypeScript run or load beside them: test/fixtures/hosts/. */
export function buildTestPrograms() {
  build('', 'test_programs');
}

function build(sanitize, target) {
  run('cmake', ['--build', configureTests(sanitize), '--parallel', String(jobs), '--target', target], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    const { values } = parseArgs({ options: { sanitize: { type: 'string', default: '' } } });
    console.log(`stand-ins: ${relative(root, buildStandins(values.sanitize))}`);
  } catch (error) {
    die(error);
  }
}
