// Packages of another Debian release, fetched with apt into a private root below build/ and unpacked there.
// The system stays as it is, and no rights are needed.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildDir, capture, digest, run, ScriptError, which } from './lib.mjs';

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

/**
 * Downloads and unpacks packages of a release; returns the folder that stands for `/`.
 *
 * `components`: `main` and more; `depends`: `all` for everything the packages need to run, C library included;
 * a RegExp for those direct dependencies that it fits; nothing for the packages alone. `only`: a folder, as
 * `./usr/include`, that alone is unpacked.
 */
export function debianRoot({ name, suite, components = ['main'], packages, depends, only }) {
  for (const tool of ['apt-get', 'dpkg']) {
    if (!which(tool))
      throw new ScriptError(`${tool} is needed to fetch Debian's packages: run this on Debian or Ubuntu.`);
  }
  if (!existsSync(keyring))
    throw new ScriptError(`${keyring} is missing: apt-get install debian-archive-keyring`);
  const dir = join(buildDir, name);
  const sysroot = join(dir, 'root');
  const done = join(dir, 'done');
  const key = digest([], suite, ...components, ...packages, String(depends), String(only));
  if (existsSync(done) && readFileSync(done, 'utf8') === key) return sysroot;
  rmSync(dir, { recursive: true, force: true });
  for (const part of ['lists/partial', 'cache/archives/partial', 'debs', 'root'])
    mkdirSync(join(dir, part), { recursive: true });
  writeFileSync(join(dir, 'status'), '');
  writeFileSync(
    join(dir, 'sources.list'),
    `deb [signed-by=${keyring}] ${mirror()} ${suite} ${components.join(' ')}\n`,
  );
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
  let debs = join(dir, 'debs');
  if (depends === 'all') {
    const install = ['install', '--download-only', '--no-install-recommends', '-y', '-qq'];
    capture('apt-get', [...options, '-o', 'Debug::NoLocking=1', ...install, ...packages]);
    debs = join(dir, 'cache', 'archives');
  } else {
    run('apt-get', [...options, 'download', '-qq', ...packages, ...fitting(options, packages, depends)], {
      cwd: debs,
    });
  }
  for (const deb of readdirSync(debs)
    .filter((file) => file.endsWith('.deb'))
    .sort()) {
    console.log(`${name}: ${deb}`);
    unpack(join(debs, deb), sysroot, only);
    rmSync(join(debs, deb));
  }
  writeFileSync(done, key);
  return sysroot;
}

function unpack(deb, sysroot, only) {
  if (only === undefined) {
    run('dpkg', ['-x', deb, sysroot]);
    return;
  }
  const script = 'dpkg --fsys-tarfile "$1" | tar -x -C "$2" "$3"';
  const { status, stderr } = spawnSync(
    'bash',
    ['-o', 'pipefail', '-c', script, 'unpack', deb, sysroot, only],
    {
      encoding: 'utf8',
      env: { ...process.env, LC_ALL: 'C' },
    },
  );
  // A package may have nothing there.
  if (status !== 0 && !stderr.includes(`${only}: Not found in archive`))
    throw new ScriptError(`${deb} could not be unpacked:\n${stderr}`);
}

function fitting(options, packages, pattern) {
  if (pattern === undefined) return [];
  const said = capture('apt-cache', [...options, 'depends', '--important', ...packages]);
  const names = [...said.matchAll(/Depends: (\S+)/g)].map((match) => match[1]);
  return names.filter((name) => pattern.test(name));
}
