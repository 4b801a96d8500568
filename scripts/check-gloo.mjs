// `npm run check:gloo13`: compiles the native library against the Gloo of another Debian release (trixie,
// Debian 13). Its packages are fetched with apt into a private root below build/ and unpacked there; the
// system stays as it is. Only the static library is made: linking the addon would need that release's glibc
// as well.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { buildDir, capture, die, filesBelow, jobs, root, run, ScriptError, which } from './lib.mjs';
import { ensureSystem } from './system.mjs';

const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** The mirror this machine uses, so that what reaches apt otherwise reaches it here. */
function mirror() {
  const files = ['/etc/apt/sources.list.d/debian.sources', '/etc/apt/sources.list'].filter((file) =>
    existsSync(file),
  );
  const text = files.map((file) => readFileSync(file, 'utf8')).join('\n');
  const found = /^(?:URIs:|deb(?:\s+\[.*?\])?)\s+(\S+\/debian\/?)(?:\s|$)/m.exec(text)?.[1];
  if (found === undefined) throw new ScriptError('No Debian mirror in /etc/apt; this check needs one.');
  return found;
}

/** Downloads and unpacks Gloo of a release; returns the folder that stands for `/`. */
function fetchGloo(suite) {
  const dir = join(buildDir, `gloo-${suite}`);
  const sysroot = join(dir, 'root');
  if (existsSync(join(dir, 'done'))) return sysroot;
  rmSync(dir, { recursive: true, force: true });
  for (const part of ['lists/partial', 'cache/archives/partial', 'debs', 'root'])
    mkdirSync(join(dir, part), { recursive: true });
  writeFileSync(join(dir, 'status'), '');
  writeFileSync(join(dir, 'sources.list'), `deb [signed-by=${keyring}] ${mirror()} ${suite} main\n`);
  const settings = {
    'Dir::Etc::sourcelist': join(dir, 'sources.list'),
    'Dir::Etc::sourceparts': '/dev/null',
    'Dir::Etc::preferencesparts': '/dev/null',
    'Dir::State::lists': join(dir, 'lists'),
    'Dir::State::status': join(dir, 'status'),
    'Dir::Cache': join(dir, 'cache'),
    // apt's own user may not read a checkout in somebody's home.
    'APT::Sandbox::User': '',
    'Acquire::Languages': 'none',
  };
  const options = Object.entries(settings).flatMap(([key, value]) => ['-o', `${key}=${value}`]);
  run('apt-get', [...options, 'update', '-qq']);
  const depends = capture('apt-cache', [...options, 'depends', '--important', 'libgloo-dev']);
  const packages = [
    'libgloo-dev',
    ...[...depends.matchAll(/Depends: (libgloo\S*)/g)].map((match) => match[1]),
  ];
  run('apt-get', [...options, 'download', ...packages], { cwd: join(dir, 'debs') });
  for (const deb of readdirSync(join(dir, 'debs'))) {
    console.log(`check-gloo: ${deb}`);
    run('dpkg', ['-x', join(dir, 'debs', deb), sysroot]);
  }
  writeFileSync(join(dir, 'done'), '');
  return sysroot;
}

try {
  const { values } = parseArgs({ options: { suite: { type: 'string', default: 'trixie' } } });
  for (const tool of ['apt-get', 'dpkg']) {
    if (!which(tool))
      throw new ScriptError(`${tool} is needed to fetch Debian's packages: run this on Debian or Ubuntu.`);
  }
  if (!existsSync(keyring))
    throw new ScriptError(`${keyring} is missing: apt-get install debian-archive-keyring`);
  ensureSystem(['build']);
  const sysroot = fetchGloo(values.suite);
  const config = filesBelow([join('build', `gloo-${values.suite}`, 'root')], (file) =>
    file.endsWith('/GlooConfig.cmake'),
  )[0];
  if (!config) throw new ScriptError(`There is no GlooConfig.cmake below ${sysroot}.`);
  const dir = join(buildDir, `check-${values.suite}`);
  const flags = [`-DGloo_DIR=${join(config, '..')}`, '-DNC_BUILD_ADDON=OFF', '-DNC_BUILD_TESTS=OFF'];
  capture('cmake', ['-S', root, '-B', dir, ...flags]);
  // Gloo's headers must come from there: the system's would prove nothing.
  const commands = readFileSync(join(dir, 'compile_commands.json'), 'utf8');
  if (!commands.includes(join(sysroot, 'usr/include'))) {
    throw new ScriptError(`The compile commands do not name ${sysroot}/usr/include.`);
  }
  run('cmake', ['--build', dir, '--parallel', String(jobs), '--target', 'nc']);
  console.log(`check-gloo: the native library compiles against Gloo of ${values.suite}`);
} catch (error) {
  die(error);
}
