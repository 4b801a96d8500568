// Makes a fresh checkout ready, and does only what is missing: system packages, npm packages, the addon, the
// compiled TypeScript. `npm start` and `npm test` both begin here; a second run finds nothing to do.
import { existsSync, mkdirSync, readFileSync, realpathSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  buildDir,
  die,
  digest,
  filesBelow,
  isStamped,
  localBin,
  root,
  run,
  ScriptError,
  stamp,
  which,
} from './lib.mjs';
import { buildStandins, buildTestPrograms } from './standins.mjs';
import { ensureSystem, glooConfig } from './system.mjs';

/** Step by step; `purposes` names the groups of system packages (see system.mjs). */
export async function setup({ purposes = ['build'] } = {}) {
  checkNode();
  const release = await lock();
  try {
    ensureSystem(purposes);
    // Addon, prebuild and native tests are separate builds of the same files.
    if (which('ccache')) process.env.CMAKE_CXX_COMPILER_LAUNCHER ??= 'ccache';
    npmPackages();
    addon();
    typescript();
    if (purposes.includes('test')) {
      standins();
      testPrograms();
    }
  } finally {
    release();
  }
}

function checkNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major < 20 || (major === 20 && minor < 19)) {
    throw new ScriptError(`node-collectives needs Node 20.19 or newer; this is ${process.version}.`);
  }
}

/** Two set-ups at once in one checkout would build into the same folders. */
async function lock() {
  const folder = join(buildDir, 'setup.lock');
  const owner = join(folder, 'pid');
  mkdirSync(buildDir, { recursive: true });
  for (let said = false; ; ) {
    try {
      mkdirSync(folder);
      writeFileSync(owner, String(process.pid));
      return () => rmSync(folder, { recursive: true, force: true });
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    }
    if (!ownerLives(owner)) {
      rmSync(folder, { recursive: true, force: true });
      continue;
    }
    if (!said) console.log('setup: another set-up is running in this checkout, waiting for it');
    said = true;
    await new Promise((done) => setTimeout(done, 200));
  }
}

function ownerLives(file) {
  try {
    // A folder without the file was made this instant, or its maker was killed in between.
    if (!existsSync(file)) return Date.now() - statSync(join(file, '..')).mtimeMs < 2000;
    process.kill(Number(readFileSync(file, 'utf8')), 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

function npmPackages() {
  if (installedAsLocked()) return;
  console.log('setup: npm ci');
  run('npm', ['ci', '--include=dev', '--no-audit', '--no-fund'], { stdio: ['ignore', 'inherit', 'inherit'] });
}

/**
 * npm writes down what it installed; where that is what the lock file asks for, `npm ci` would change
 * nothing.
 */
function installedAsLocked() {
  const read = (file) => JSON.parse(readFileSync(join(root, file), 'utf8')).packages;
  let have;
  try {
    have = read('node_modules/.package-lock.json');
  } catch {
    return false;
  }
  const want = read('package-lock.json');
  for (const [path, { version }] of Object.entries(have)) if (want[path]?.version !== version) return false;
  return Object.entries(want).every(([path, entry]) => path === '' || path in have || entry.optional);
}

/** A digest of everything the addon is made from. */
export function addonInputs() {
  const versionOf = (name) =>
    JSON.parse(readFileSync(join(root, 'node_modules', name, 'package.json'))).version;
  return digest(
    [...filesBelow(['native']), join(root, 'CMakeLists.txt')],
    versionOf('node-addon-api'),
    versionOf('node-api-headers'),
    process.env.CXX ?? '',
    glooIdentity(),
  );
}

function addon() {
  const output = join(buildDir, 'cmake/Release/node_collectives.node');
  const inputs = addonInputs();
  if (existsSync(output) && isStamped('addon', inputs)) return;
  console.log('setup: building the addon');
  const cmakeJs = localBin('cmake-js');
  for (const command of ['configure', 'build']) {
    run(process.execPath, [cmakeJs, command, '--out', 'build/cmake', '--log-level', 'warn']);
  }
  stamp('addon', inputs);
}

/** Gloo's soname stays when its ABI changes: what tells two apart is the file. */
function glooIdentity() {
  const config = glooConfig();
  if (!config) return 'none';
  const libraries = ['/usr/lib/x86_64-linux-gnu', '/usr/lib/aarch64-linux-gnu', '/usr/lib', '/usr/local/lib']
    .map((dir) => join(dir, 'libgloo.so'))
    .filter((file) => existsSync(file));
  return [config, ...libraries]
    .map((file) => {
      const { size, mtimeMs } = statSync(file);
      return `${realpathSync(file)}:${size}:${mtimeMs}`;
    })
    .join('\n');
}

/** Only tests need them. */
function standins() {
  const inputs = digest(
    [...filesBelow(['test/fixtures/gpu']), join(root, 'CMakeLists.txt')],
    process.env.CXX ?? '',
  );
  if (existsSync(join(buildDir, 'standins/libcuda.so.1')) && isStamped('standins', inputs)) return;
  console.log('setup: building the stand-ins for GPU libraries');
  buildStandins();
  stamp('standins', inputs);
}

/** The same, of those that are programs and addons of a file each. */
function testPrograms() {
  const inputs = digest(
    [...filesBelow(['test/fixtures/hosts']), join(root, 'CMakeLists.txt')],
    process.env.CXX ?? '',
  );
  if (existsSync(join(buildDir, 'tests/calls.node')) && isStamped('test-programs', inputs)) return;
  console.log('setup: building programs of the tests');
  buildTestPrograms();
  stamp('test-programs', inputs);
}

function typescript() {
  const isSource = (file) => /\.(ts|json)$/.test(file);
  const configs = ['tsconfig.json', 'tsconfig.build.json', 'tsconfig.run.json'].map((name) =>
    join(root, name),
  );
  const tsc = localBin('typescript', 'tsc');
  const library = digest([...filesBelow(['src'], isSource), ...configs]);
  if (!existsSync(join(root, 'dist/index.js')) || !isStamped('dist', library)) {
    console.log('setup: compiling src/ to dist/');
    run(process.execPath, [tsc, '-p', 'tsconfig.build.json']);
    prune('dist', 'src');
    stamp('dist', library);
  }
  const programs = digest(
    filesBelow(['bench', 'examples', 'scripts', 'test/fixtures', 'test/campaigns'], isSource),
    library,
  );
  if (!existsSync(join(buildDir, 'ts/src/index.js')) || !isStamped('ts', programs)) {
    console.log('setup: compiling examples, bench and fixtures to build/ts/');
    run(process.execPath, [tsc, '-p', 'tsconfig.run.json']);
    prune('build/ts', '.');
    stamp('ts', programs);
  }
}

/**
 * Removes compiled files whose source is gone. The folder is not emptied before compiling: programs that were
 * started from it may still be running, in another terminal.
 */
function prune(output, source) {
  for (const file of filesBelow([output])) {
    const stem = relative(join(root, output), file).replace(/(\.d\.ts|\.js|\.js\.map)$/, '');
    if (!existsSync(join(root, source, `${stem}.ts`))) rmSync(file);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const purposes = process.argv.slice(2).filter((name) => !name.startsWith('-'));
  await setup({ purposes: purposes.length > 0 ? purposes : ['build'] }).catch(die);
  console.log('setup: done');
}
