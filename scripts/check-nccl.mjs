// `npm run check:nccl`: loads the real libraries of Debian, NCCL 2.22 (trixie), the newest NCCL (sid) and RCCL
// (trixie), as far as they go on this machine: version, unique id, and a communicator of one rank, which
// without a device must fail as one typed error. Once through our native code, once through Node with the
// addon.
//
// The packages lie below build/ with the C library they need; programs of this machine run over it by that
// library's own loader, which takes no rights and no container. `--only NAME` takes some of them, `--library
// nccl=FILE` (or `rccl=`) any other file, over this machine's C library.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { debianRoot } from './debian-root.mjs';
import { buildDir, capture, die, jobs, root, run, ScriptError, which } from './lib.mjs';
import { ensureSystem } from './system.mjs';

const addon = join(buildDir, 'cmake', 'Release', 'node_collectives.node');
/** What takes longer hangs. */
const limitMs = 120_000;

const known = [
  { name: 'nccl-trixie', suite: 'trixie', flavour: 'nccl', package: 'libnccl2', file: 'libnccl.so.2' },
  { name: 'nccl-sid', suite: 'sid', flavour: 'nccl', package: 'libnccl2', file: 'libnccl.so.2' },
  { name: 'rccl-trixie', suite: 'trixie', flavour: 'rccl', package: 'librccl1', file: 'librccl.so.1' },
];

function buildProgram() {
  const dir = join(buildDir, 'tests');
  const generator = which('ninja') && !existsSync(join(dir, 'CMakeCache.txt')) ? ['-G', 'Ninja'] : [];
  const flags = ['-DNC_BUILD_ADDON=OFF', '-DNC_BUILD_TESTS=ON', '-DNC_SANITIZE='];
  capture('cmake', ['-S', root, '-B', dir, ...generator, ...flags]);
  run('cmake', ['--build', dir, '--parallel', String(jobs), '--target', 'nccl_here']);
  return join(dir, 'nccl_here');
}

/** A library of Debian's, and the loader that runs programs over the C library beside it. */
function fromDebian(entry) {
  const sysroot = debianRoot({
    name: entry.name,
    suite: entry.suite,
    components: ['main', 'contrib', 'non-free'],
    packages: [entry.package, 'libstdc++6'],
    depends: 'all',
  });
  const triple = { x64: 'x86_64-linux-gnu', arm64: 'aarch64-linux-gnu' }[process.arch];
  const folder = join(sysroot, 'usr/lib', triple);
  const loader = readdirSync(folder).find((file) => file.startsWith('ld-linux'));
  if (!loader) throw new ScriptError(`There is no loader in ${folder}.`);
  return { ...entry, path: join(folder, entry.file), loader: join(folder, loader), folder };
}

/** The folders of this machine that a program's libraries come from (Gloo's above all). */
function foldersOf(program) {
  const lines = capture('ldd', [program]).matchAll(/=> (\/\S+)/g);
  return [...new Set([...lines].map((match) => dirname(match[1])))];
}

function execute(library, program, args) {
  const over = library.loader
    ? [library.loader, '--library-path', [library.folder, ...foldersOf(program)].join(':')]
    : [];
  const [command, ...rest] = [...over, program, ...args];
  const { status, signal, stdout, stderr } = spawnSync(command, rest, {
    encoding: 'utf8',
    timeout: limitMs,
    killSignal: 'SIGKILL',
  });
  if (status !== 0)
    throw new ScriptError(`${library.name}: ended by ${signal ?? `exit code ${status}`}\n${stdout}${stderr}`);
  return stdout;
}

function check(library, program) {
  console.log(`\n${library.name}: ${library.path}`);
  const said = execute(library, program, [library.flavour, library.path]);
  console.log(said.replace(/^/gm, '  ').trimEnd());
  const expect = (what, holds) => {
    if (!holds) throw new ScriptError(`${library.name}: ${what}`);
  };
  const title = library.flavour.toUpperCase();
  const version = new RegExp(`^library: ${title} (\\d+\\.\\d+\\.\\d+) ${library.path}$`, 'm').exec(said)?.[1];
  expect('it does not tell its version', version !== undefined);
  expect('it makes no unique ids', /^unique ids: ok$/m.test(said));
  const devices = Number(/^devices: (\d+)$/m.exec(said)?.[1] ?? 0);
  if (devices > 0) {
    expect('no communicator on a machine with devices', /^communicator: ok$/m.test(said));
  } else {
    // One error, of our type, with the library's own name for it.
    const error = new RegExp(
      `^communicator: DEVICE ${title} ${version}: ncclCommInitRank\\w*: nccl\\w+ `,
      'm',
    );
    expect('a communicator without a device did not fail as expected', error.test(said));
  }
  expect('the program did not end as it should', /^end: reached$/m.test(said));

  const script = `const { probeDevices } = require(${JSON.stringify(addon)});
    console.log(JSON.stringify(probeDevices({ ${library.flavour}Path: process.argv[1] })));`;
  const probe = JSON.parse(execute(library, process.execPath, ['-e', script, library.path]))[library.flavour];
  expect(`in Node: ${JSON.stringify(probe)}`, probe.loaded && probe.version === version && !probe.error);
  console.log(`  in Node: ${title} ${probe.version} loaded`);
  return `${title} ${version}`;
}

try {
  const { values } = parseArgs({
    options: { only: { type: 'string', multiple: true }, library: { type: 'string', multiple: true } },
  });
  ensureSystem(['build', 'test']);
  if (!existsSync(addon)) throw new ScriptError(`${addon} is missing: npm run setup`);
  const given = (values.library ?? []).map((text) => {
    const [, flavour, file] = /^(nccl|rccl)=(.+)$/.exec(text) ?? [];
    if (!file) throw new ScriptError(`--library ${text}: expected nccl=FILE or rccl=FILE`);
    return { name: text, flavour, path: resolve(file) };
  });
  const wanted = known.filter(({ name }) => (values.only ? values.only.includes(name) : given.length === 0));
  const unknown = (values.only ?? []).filter((name) => !known.some((entry) => entry.name === name));
  if (unknown.length > 0)
    throw new ScriptError(`--only ${unknown[0]}: there is ${known.map((entry) => entry.name).join(', ')}`);
  const program = buildProgram();
  const done = [...wanted.map(fromDebian), ...given].map((library) => check(library, program));
  console.log(`\ncheck-nccl: ${done.join(', ')}: loaded and answered as they should`);
} catch (error) {
  die(error);
}
