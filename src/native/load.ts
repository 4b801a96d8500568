/**
 * Finds and loads the native addon, and explains itself where it cannot.
 *
 * No dependency does this for us: the places are few and fixed, and what users need from a loader is the
 * reason of the failure (glibc too old, a library missing, files copied from another platform), not "not
 * found".
 */
import { closeSync, existsSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { AddonLoadError } from '../errors.ts';

const packageName = 'node-collectives';
const require = createRequire(import.meta.url);

/** What the loader asks of the process and the disk; tests replace it. */
export interface Host {
  /** The package's folder, the one with `package.json`. */
  root: string;
  /** Value of `NODE_COLLECTIVES_ADDON`: a file that is loaded instead of all others. */
  explicit: string | undefined;
  platform: string;
  arch: string;
  /** glibc's version, e.g. `2.36`; undefined where the C library is another one (musl). */
  glibc: () => string | undefined;
  /** Loads a `.node` file or throws what the dynamic linker said. */
  open: (file: string) => unknown;
}

/** One file that was tried. `hint` says what to do, where the failure is understood. */
interface Attempt {
  file: string;
  said: string;
  hint?: string;
}

/**
 * Loads the addon: the file in `NODE_COLLECTIVES_ADDON` and nothing else where that is set; otherwise the
 * build in this checkout, then the prebuild for this platform.
 *
 * @throws AddonLoadError listing every attempt, what it said and what to do.
 */
export function loadAddon(overrides: Partial<Host> = {}): unknown {
  const host: Host = { ...currentHost(), ...overrides };
  const attempts: Attempt[] = [];
  let cause: unknown;
  for (const file of candidates(host)) {
    if (!existsSync(file)) {
      attempts.push({ file, said: 'no such file' });
      continue;
    }
    try {
      return host.open(file);
    } catch (error) {
      cause ??= error;
      const said = error instanceof Error ? error.message : String(error);
      attempts.push({ file, said, ...hinted(explain(said, codeOf(error), file, host)) });
    }
  }
  throw new AddonLoadError(describe(attempts, host), {}, cause === undefined ? {} : { cause });
}

function currentHost(): Host {
  return {
    root: packageRoot(dirname(fileURLToPath(import.meta.url))),
    explicit: process.env['NODE_COLLECTIVES_ADDON'] || undefined,
    platform: process.platform,
    arch: process.arch,
    glibc: glibcVersion,
    open: (file) => require(file) as unknown,
  };
}

/**
 * This file lies in `src/native`, `dist/native` or `build/ts/src/native`: the package's folder is somewhere
 * above.
 */
function packageRoot(start: string): string {
  for (let dir = start; ; dir = dirname(dir)) {
    try {
      const manifest = JSON.parse(readFileSync(join(dir, 'package.json'), 'utf8')) as { name?: string };
      if (manifest.name === packageName) return dir;
    } catch {
      // No package.json here, or none that can be read: look one folder up.
    }
    if (dir === dirname(dir)) return start;
  }
}

/** The version of glibc that this process runs on; undefined on another C library. */
export function glibcVersion(): string | undefined {
  // The report would look up the host names of all open connections, which can take seconds.
  const report = process.report as typeof process.report & { excludeNetwork?: boolean };
  const before = report.excludeNetwork;
  report.excludeNetwork = true;
  try {
    const { header } = report.getReport() as { header: { glibcVersionRuntime?: string } };
    return header.glibcVersionRuntime;
  } finally {
    report.excludeNetwork = before ?? false;
  }
}

function candidates(host: Host): string[] {
  if (host.explicit) return [resolve(host.explicit)];
  return [
    join(host.root, 'build', 'cmake', 'Release', 'node_collectives.node'),
    join(host.root, 'prebuilds', platformTag(host), `${packageName}.${libcTag(host)}.node`),
  ];
}

function platformTag(host: Host): string {
  return `${host.platform}-${host.arch}`;
}

function libcTag(host: Host): 'glibc' | 'musl' {
  return host.glibc() === undefined ? 'musl' : 'glibc';
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
}

function hinted(hint: string | undefined): { hint?: string } {
  return hint === undefined ? {} : { hint };
}

/** Turns what the dynamic linker said into what the user can do. */
function explain(said: string, code: string | undefined, file: string, host: Host): string | undefined {
  if (code === 'ERR_DLOPEN_DISABLED') {
    return 'Node was started with --no-addons (or with the permission model): allow addons, --allow-addons.';
  }
  const machine = elfMachine(file);
  if (machine === undefined)
    return 'This is no ELF shared library; the file may be cut short. Install again.';
  if (machine !== host.arch) {
    return `It was built for ${machine}, this Node is ${host.arch}: was node_modules copied from another machine?`;
  }

  const versions = [...said.matchAll(/version [`'"](GLIBC|GLIBCXX|CXXABI)_([\d.]+)'? not found/g)];
  const glibc = versions.filter((match) => match[1] === 'GLIBC').map((match) => match[2] as string);
  if (glibc.length > 0) {
    const found = host.glibc() ?? 'none';
    return (
      `It needs glibc ${glibc.sort(compareVersions).at(-1)}, this system has ${found}. ` +
      'Use a newer distribution, or build on this one: see "From source" below.'
    );
  }
  if (versions.length > 0) {
    const needed = versions.map((match) => `${match[1]}_${match[2]}`).join(', ');
    return (
      `The C++ runtime (libstdc++.so.6) of this system is too old: ${needed} is missing. ` +
      'Update libstdc++6, or build on this system: see "From source" below.'
    );
  }

  if (/musl/.test(said) || (libcTag(host) === 'musl' && /ld-linux|Error relocating/.test(said))) {
    const built = libcTag(host) === 'musl' ? 'glibc' : 'musl';
    return `It was built for ${built}, this system uses ${libcTag(host)}: was node_modules copied from another image?`;
  }
  const missing =
    /(?:Error loading shared library )?([\w.+-]+\.so[\w.]*):? (?:cannot open shared object|No such file)/.exec(
      said,
    )?.[1];
  if (missing?.startsWith('libgloo')) {
    return (
      `Gloo's library ${missing} is not installed. Debian and Ubuntu: apt-get install libgloo-dev; ` +
      'or use the prebuild of the published package, which carries its own.'
    );
  }
  if (missing) return `The library ${missing} is not installed on this system, or not where ld.so looks.`;
  if (/undefined symbol|symbol lookup error/.test(said)) {
    return 'It does not fit the Gloo library that was found; build again: npm run build:native.';
  }
  return undefined;
}

/** Processor an ELF file is for, in Node's names; undefined where it is no ELF file. */
function elfMachine(file: string): string | undefined {
  const header = Buffer.alloc(20);
  try {
    const fd = openSync(file, 'r');
    try {
      if (readSync(fd, header, 0, 20, 0) < 20) return undefined;
    } finally {
      closeSync(fd);
    }
  } catch {
    return undefined;
  }
  if (header.readUInt32BE(0) !== 0x7f454c46) return undefined;
  // Byte 5 is the byte order: 1 is little-endian.
  const machine = header[5] === 1 ? header.readUInt16LE(18) : header.readUInt16BE(18);
  const names: Record<number, string> = {
    3: 'ia32',
    21: 'ppc64',
    22: 's390x',
    40: 'arm',
    62: 'x64',
    183: 'arm64',
  };
  return names[machine] ?? `ELF machine ${machine}`;
}

function compareVersions(a: string, b: string): number {
  const [x, y] = [a.split('.').map(Number), b.split('.').map(Number)];
  for (let i = 0; i < Math.max(x.length, y.length); i++) {
    const difference = (x[i] ?? 0) - (y[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

function presentPrebuilds(root: string): string[] {
  const names = (dir: string): string[] => {
    try {
      return readdirSync(dir);
    } catch {
      return [];
    }
  };
  const folder = join(root, 'prebuilds');
  return names(folder).flatMap((platform) =>
    names(join(folder, platform))
      .filter((name) => name.endsWith('.node'))
      .map((name) => `${platform}/${name}`),
  );
}

function describe(attempts: Attempt[], host: Host): string {
  const glibc = host.glibc();
  const system = `${platformTag(host)}, ${glibc === undefined ? 'musl' : `glibc ${glibc}`}, Node ${process.version}`;
  const lines = [`The native addon of ${packageName} could not be loaded (${system}).`, 'Tried:'];
  for (const { file, said, hint } of attempts) {
    lines.push(`  ${file}`, `    ${said.trim().replaceAll('\n', '\n    ')}`);
    if (hint) lines.push(`    -> ${hint}`);
  }
  if (host.explicit) {
    lines.push(
      "NODE_COLLECTIVES_ADDON is set, so nothing else was tried. Unset it to use the package's own addon.",
    );
    return lines.join('\n');
  }
  const prebuilds = presentPrebuilds(host.root);
  const wanted = `${platformTag(host)}/${packageName}.${libcTag(host)}.node`;
  if (!prebuilds.includes(wanted)) {
    lines.push(
      prebuilds.length === 0
        ? `There is no prebuild in this installation; ${wanted} would be the one for this system.`
        : `There is no prebuild for this system (${wanted}); present: ${prebuilds.join(', ')}.`,
    );
  }
  lines.push(
    `From source: get the repository, apt-get install libgloo-dev g++ cmake, then npm ci && npm run build:native; ` +
      'point NODE_COLLECTIVES_ADDON at build/cmake/Release/node_collectives.node.',
  );
  return lines.join('\n');
}
