import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AddonLoadError } from '../../src/errors.ts';
import { type Host, loadAddon } from '../../src/native/load.ts';

const x64 = 62;
const arm64 = 183;
const development = 'build/cmake/Release/node_collectives.node';
const glibcPrebuild = 'prebuilds/linux-x64/node-collectives.glibc.node';
const muslPrebuild = 'prebuilds/linux-x64/node-collectives.musl.node';

let root: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'node-collectives-load-'));
});

afterEach(() => {
  rmSync(root, { recursive: true });
});

/** A file that looks like a shared library for a processor, as far as its first 20 bytes go. */
function fakeAddon(name: string, machine = x64): string {
  const header = Buffer.alloc(64);
  header.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  header.writeUInt16LE(machine, 18);
  return place(name, header);
}

function place(name: string, content: Buffer | string): string {
  const file = join(root, name);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, content);
  return file;
}

function load(host: Partial<Host> = {}): unknown {
  const defaults: Host = {
    root,
    explicit: undefined,
    platform: 'linux',
    arch: 'x64',
    glibc: () => '2.31',
    open: (file) => file,
  };
  return loadAddon({ ...defaults, ...host });
}

/** The error of a load in which the dynamic linker says this about every file. */
function failure(said: string, host: Partial<Host> = {}): AddonLoadError {
  const open = () => {
    throw Object.assign(new Error(said), { code: 'ERR_DLOPEN_FAILED' });
  };
  try {
    load({ open, ...host });
  } catch (error) {
    expect(error).toBeInstanceOf(AddonLoadError);
    return error as AddonLoadError;
  }
  throw new Error('loaded');
}

describe('the order', () => {
  it('takes the build in the checkout before the prebuild', () => {
    const file = fakeAddon(development);
    fakeAddon(glibcPrebuild);
    expect(load()).toBe(file);
  });

  it('takes the prebuild for the C library of the process', () => {
    const glibc = fakeAddon(glibcPrebuild);
    const musl = fakeAddon(muslPrebuild);
    expect(load()).toBe(glibc);
    expect(load({ glibc: () => undefined })).toBe(musl);
  });

  it('goes on to the prebuild where the build in the checkout cannot be loaded', () => {
    const broken = fakeAddon(development);
    const file = fakeAddon(glibcPrebuild);
    const open = (path: string) => {
      if (path === broken) throw new Error('undefined symbol: _ZN4gloo7Context');
      return path;
    };
    expect(load({ open })).toBe(file);
  });

  it('takes NODE_COLLECTIVES_ADDON and nothing else where that is set', () => {
    const file = fakeAddon('mine.node');
    fakeAddon(development);
    expect(load({ explicit: file })).toBe(file);
    const { message } = failure('', { explicit: join(root, 'missing.node') });
    expect(message).toContain(`${join(root, 'missing.node')}\n    no such file`);
    expect(message).toContain('NODE_COLLECTIVES_ADDON is set, so nothing else was tried');
    expect(message).not.toContain(development);
  });
});

describe('the explanation', () => {
  it('lists every place it looked at, and what each attempt said', () => {
    fakeAddon(glibcPrebuild);
    const error = failure('some words of the linker');
    expect(error.code).toBe('ADDON_NOT_LOADED');
    expect(error.message).toContain(`${join(root, development)}\n    no such file`);
    expect(error.message).toContain(`${join(root, glibcPrebuild)}\n    some words of the linker`);
    expect(error.message).toContain('linux-x64, glibc 2.31, Node v');
    expect((error.cause as Error).message).toBe('some words of the linker');
  });

  it('compares the glibc that is needed with the one that is there', () => {
    const file = fakeAddon(glibcPrebuild);
    const said =
      `/lib/x86_64-linux-gnu/libc.so.6: version \`GLIBC_2.34' not found (required by ${file})\n` +
      `/lib/x86_64-linux-gnu/libc.so.6: version \`GLIBC_2.4' not found (required by ${file})`;
    expect(failure(said).message).toContain('It needs glibc 2.34, this system has 2.31.');
  });

  it('names the C++ runtime that is too old', () => {
    fakeAddon(glibcPrebuild);
    const said = "/lib/libstdc++.so.6: version `GLIBCXX_3.4.30' not found (required by libgloo-nc.so.0)";
    expect(failure(said).message).toContain(
      'libstdc++.so.6) of this system is too old: GLIBCXX_3.4.30 is missing',
    );
  });

  it('says how to get libgloo', () => {
    fakeAddon(development);
    const said = 'libgloo.so.0: cannot open shared object file: No such file or directory';
    expect(failure(said).message).toContain(
      "Gloo's library libgloo.so.0 is not installed. Debian and Ubuntu: apt-get install libgloo-dev",
    );
  });

  it('names any other library that is missing', () => {
    fakeAddon(development);
    const said = 'libhiredis.so.0.14: cannot open shared object file: No such file or directory';
    expect(failure(said).message).toContain('The library libhiredis.so.0.14 is not installed');
  });

  it('sees that a file was built for another processor', () => {
    fakeAddon(glibcPrebuild, arm64);
    expect(failure('cannot open shared object file').message).toContain(
      'It was built for arm64, this Node is x64',
    );
  });

  it('sees that a file is no library at all', () => {
    place(glibcPrebuild, 'version https://git-lfs.github.com/spec/v1');
    expect(failure('invalid ELF header').message).toContain('no ELF shared library');
    place(glibcPrebuild, '');
    expect(failure('file too short').message).toContain('no ELF shared library');
  });

  it('sees a musl build on glibc, and the reverse', () => {
    fakeAddon(glibcPrebuild);
    const onGlibc = failure(
      'libc.musl-x86_64.so.1: cannot open shared object file: No such file or directory',
    );
    expect(onGlibc.message).toContain('It was built for musl, this system uses glibc');

    fakeAddon(muslPrebuild);
    const said =
      'Error loading shared library ld-linux-x86-64.so.2: No such file or directory (needed by x.node)';
    expect(failure(said, { glibc: () => undefined }).message).toContain(
      'It was built for glibc, this system uses musl',
    );
  });

  it('sees a Gloo of another ABI', () => {
    fakeAddon(development);
    expect(failure('x.node: undefined symbol: _ZN4gloo7ContextC2Eiii').message).toContain(
      'does not fit the Gloo library that was found; build again',
    );
  });

  it('sees that Node was told to load no addons', () => {
    fakeAddon(development);
    const open = () => {
      throw Object.assign(new Error('Cannot load native addon'), { code: 'ERR_DLOPEN_DISABLED' });
    };
    expect(failure('', { open }).message).toContain('--no-addons');
  });

  it('lists the prebuilds that are there for other systems', () => {
    fakeAddon('prebuilds/linux-arm64/node-collectives.glibc.node', arm64);
    fakeAddon(muslPrebuild);
    place('prebuilds/linux-x64/licenses/README.txt', '');
    const { message } = failure('');
    expect(message).toContain(
      'no prebuild for this system (linux-x64/node-collectives.glibc.node); present: ',
    );
    expect(message).toContain('linux-arm64/node-collectives.glibc.node');
    expect(message).toContain('linux-x64/node-collectives.musl.node');
    expect(message).not.toContain('README');
  });

  it('says that there is none where an installation came without', () => {
    expect(failure('', { platform: 'darwin' }).message).toContain(
      'There is no prebuild in this installation; darwin-x64/node-collectives.',
    );
  });
});
