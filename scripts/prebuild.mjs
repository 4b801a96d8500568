// `npm run prebuild`: builds the addon the way it is published, prebuilds/<platform>-<arch>/, together with
// the very libgloo it was built with and what that needs. docs/building.md says what is carried, what is not,
// and why.

import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildDir, capture, die, digest, filesBelow, isStamped, root, ScriptError, stamp } from './lib.mjs';
import { addonInputs, setup } from './setup.mjs';

const name = 'node-collectives';
const target = `${process.platform}-${process.arch}`;
const outDir = join(root, 'prebuilds', target);
const licenses = join(outDir, 'licenses');

/**
 * Not carried: glibc's own libraries, which belong to the system's loader, and the C++ runtime, which Node
 * itself needs: it is loaded before any addon is, so a copy of ours would never be looked at.
 */
const fromSystem = /^(ld-linux.*|linux-vdso|lib(c|m|dl|rt|pthread|resolv|util|anl|stdc\+\+|gcc_s))\.so/;

/** Builds the prebuild, or leaves it where nothing changed. Returns the .node file. */
export async function prebuild({ force = false } = {}) {
  await setup({ purposes: ['build', 'prebuild'] });
  const scripts = ['scripts/prebuild.mjs', 'binding.gyp'].map((file) => join(root, file));
  const inputs = digest(scripts, addonInputs(), process.version);
  const upToDate =
    existsSync(outDir) && isStamped('prebuild', `${inputs} ${digest(filesBelow([`prebuilds/${target}`]))}`);
  if (upToDate && !force) {
    console.log(`prebuild: prebuilds/${target} is up to date`);
    return addonFile();
  }
  rmSync(outDir, { recursive: true, force: true });
  await compile();
  const file = addonFile();
  carry(file);
  verify(file);
  stamp('prebuild', `${inputs} ${digest(filesBelow([`prebuilds/${target}`]))}`);
  return file;
}

function addonFile() {
  const files = readdirSync(outDir).filter((file) => file.endsWith('.node'));
  if (files.length !== 1 || !/^node-collectives\.(glibc|musl)\.node$/.test(files[0])) {
    throw new ScriptError(`prebuildify left ${files.join(', ') || 'no .node file'} in ${outDir}`);
  }
  return join(outDir, files[0]);
}

/** Runs prebuildify in a copy: node-gyp begins with deleting build/, where the development build lies. */
async function compile() {
  const stage = join(buildDir, 'stage');
  for (const part of ['native', 'CMakeLists.txt', 'binding.gyp', 'package.json']) {
    rmSync(join(stage, part), { recursive: true, force: true });
    cpSync(join(root, part), join(stage, part), { recursive: true, preserveTimestamps: true });
  }
  mkdirSync(stage, { recursive: true });
  rmSync(join(stage, 'node_modules'), { recursive: true, force: true });
  symlinkSync(join(root, 'node_modules'), join(stage, 'node_modules'));
  // node-gyp asks for Node's headers even where nothing is compiled with them; most installations have them.
  const prefix = dirname(dirname(realpathSync(process.execPath)));
  if (existsSync(join(prefix, 'include/node/node_api.h'))) process.env.npm_config_nodedir = prefix;
  process.env.PYTHONDONTWRITEBYTECODE = '1';
  const prebuildify = createRequire(import.meta.url)('prebuildify');
  await new Promise((done, fail) => {
    const options = { napi: true, strip: true, tagLibc: true, name, cwd: stage, out: root };
    prebuildify({ ...options, targets: [process.version] }, (error) => (error ? fail(error) : done()));
  });
}

/**
 * Copies the libraries beside the addon under names of their own. The names matter: Debian's libgloo keeps
 * its soname when its ABI changes, and NCCL opens libibverbs.so.1 by name; a second copy of either under the
 * usual name would be taken for the system's by whoever comes later in the same process.
 */
function carry(addon) {
  const libraries = closure(addon);
  const renamed = new Map([...libraries.keys()].map((soname) => [soname, soname.replace('.so', '-nc.so')]));
  const replace = (file) => {
    const flags = needed(file).flatMap((soname) =>
      renamed.has(soname) ? ['--replace-needed', soname, renamed.get(soname)] : [],
    );
    if (flags.length > 0) capture('patchelf', [...flags, file]);
  };
  mkdirSync(licenses, { recursive: true });
  const notes = [];
  for (const [soname, source] of libraries) {
    const copy = join(outDir, renamed.get(soname));
    cpSync(source, copy);
    capture('patchelf', ['--set-soname', renamed.get(soname), copy]);
    replace(copy);
    notes.push(license(source, basename(copy)));
  }
  // Part of the addon itself.
  notes.push(license(sodium(), 'libsodium, in the addon'));
  replace(addon);
  writeFileSync(
    join(licenses, 'README.txt'),
    'Libraries that come with this addon, unchanged but for their names, and where their licences and sources are.\n\n' +
      `${notes.join('\n')}\n`,
  );
}

/**
 * Every library the addon needs, directly or not, that the system's own loader does not bring: soname ->
 * file.
 */
function closure(addon) {
  const libraries = new Map();
  for (const line of capture('ldd', [addon]).split('\n')) {
    const [, soname, path] = /^\s*(\S+) => (.*?)(?: \(0x[0-9a-f]+\))?$/.exec(line) ?? [];
    if (!soname || fromSystem.test(soname)) continue;
    if (!existsSync(path)) throw new ScriptError(`${soname}: ${path}`);
    libraries.set(soname, realpathSync(path));
  }
  if (![...libraries.keys()].some((soname) => soname.startsWith('libgloo'))) {
    throw new ScriptError(
      'The addon does not need libgloo: was it linked statically? Then look at this script again.',
    );
  }
  return libraries;
}

/** The archive of libsodium that this build linked. */
function sodium() {
  const cache = filesBelow(['build/stage'], (file) => file.endsWith('/CMakeCache.txt'))[0];
  const [, file] =
    /^NC_SODIUM_LIBRARY:FILEPATH=(.*\.a)$/m.exec(cache ? readFileSync(cache, 'utf8') : '') ?? [];
  if (!file) throw new ScriptError('libsodium was not linked as an archive; look at this script again.');
  return file;
}

/** Copies the licence of a library's Debian package; returns a line that names both. */
function license(source, copy) {
  const owner = owningPackage(source);
  if (!owner) {
    throw new ScriptError(`${source} belongs to no Debian package: whose licence should go with it?`);
  }
  const fields = ['binary:Package', 'Version', 'source:Package', 'source:Version'];
  const query = fields.map((field) => `\${${field}}`).join(' ');
  const [, version, sourcePackage, sourceVersion] = capture('dpkg-query', ['-W', `-f=${query}`, owner]).split(
    ' ',
  );
  const described = `${owner} ${version}, source package ${sourcePackage} ${sourceVersion}`;
  cpSync(realpathSync(`/usr/share/doc/${owner}/copyright`), join(licenses, `${owner}.txt`));
  return `${copy}\n  from ${described}\n  licence: ${owner}.txt; source: https://snapshot.debian.org/\n`;
}

/** dpkg may know a file by the older of its names: /lib became a link to /usr/lib. */
function owningPackage(file) {
  for (const name of [file, file.replace(/^\/usr/, '')]) {
    const { status, stdout } = spawnSync('dpkg', ['-S', name], { encoding: 'utf8' });
    if (status === 0) return stdout.split(':')[0];
  }
  return undefined;
}

const dynamic = (file) => capture('readelf', ['-dW', file]);
const needed = (file) => [...dynamic(file).matchAll(/\(NEEDED\).*\[(.*)\]/g)].map((match) => match[1]);

/** Everything that must hold for a published file, asked of the file itself. */
function verify(addon) {
  const files = readdirSync(outDir).filter((file) => /\.(node|so)/.test(file));
  const problems = [];
  for (const file of files) {
    const path = join(outDir, file);
    for (const soname of needed(path)) {
      if (!files.includes(soname) && !fromSystem.test(soname))
        problems.push(`${file} needs ${soname}, which is not carried`);
    }
    const paths = [...dynamic(path).matchAll(/\((RPATH|RUNPATH)\).*\[(.*)\]/g)].map(
      (match) => `${match[1]} ${match[2]}`,
    );
    const allowed = path === addon ? ['RPATH $ORIGIN'] : [];
    if (paths.join() !== allowed.join()) problems.push(`${file} has ${paths.join(', ') || 'no search path'}`);
    if (readFileSync(path).includes(root)) problems.push(`${file} names a folder of this machine (${root})`);
  }
  const undefinedSymbols = loadIn(addon);
  if (undefinedSymbols) problems.push(undefinedSymbols);
  if (problems.length > 0)
    throw new ScriptError(`The prebuild is not fit to be published:\n  ${problems.join('\n  ')}`);
  console.log(`prebuild: prebuilds/${target}: ${files.join(', ')}`);
  for (const family of ['GLIBC', 'GLIBCXX', 'CXXABI']) {
    const floors = files.map((file) => ({ file, version: floor(join(outDir, file), family) }));
    const highest = floors.sort((a, b) => compare(a.version, b.version)).at(-1);
    console.log(`prebuild: needs ${family}_${highest.version} (${highest.file})`);
  }
}

/**
 * Loads the addon in a process of its own with every symbol bound at once, and looks where its libraries came
 * from.
 */
function loadIn(addon) {
  const program = `
    require(${JSON.stringify(addon)});
    const maps = require('node:fs').readFileSync('/proc/self/maps', 'utf8');
    const files = new Set([...maps.matchAll(/\\S+lib(gloo|hiredis|ibverbs|nl-)\\S*/g)].map((m) => m[0]));
    console.log([...files].join('\\n'));`;
  const loaded = capture(process.execPath, ['-e', program], { env: { ...process.env, LD_BIND_NOW: '1' } });
  const strangers = loaded.split('\n').filter((file) => file && dirname(file) !== outDir);
  return strangers.length > 0
    ? `Loaded from the system instead of from the prebuild: ${strangers.join(', ')}`
    : undefined;
}

/** The highest version of a symbol family that a file asks for: what the user's system must have. */
function floor(file, family) {
  const versions = [...capture('objdump', ['-T', file]).matchAll(new RegExp(`\\b${family}_([\\d.]+)`, 'g'))];
  return (
    versions
      .map((match) => match[1])
      .sort(compare)
      .at(-1) ?? '0'
  );
}

function compare(a, b) {
  return a.localeCompare(b, 'en', { numeric: true });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await prebuild({ force: process.argv.includes('--force') }).catch(die);
}
