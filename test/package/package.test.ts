/**
 * The package as users get it: built, packed, installed into an empty folder, and run where nothing but Node
 * is.
 */
import { type SpawnSyncOptions, spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeCleanRoot, runInRoot, strangersIn, whyNoRoot } from './clean-root.ts';

const repository = resolve(import.meta.dirname, '../..');
const target = `${process.platform}-${process.arch}`;

let work: string;
let tarball: string;
let packed: string[];
let app: string;

/** Runs a program that must succeed; returns its output. */
function must(command: string, args: string[], options: SpawnSyncOptions = {}): string {
  const result = spawnSync(command, args, { cwd: repository, ...options, encoding: 'utf8' });
  if (result.status !== 0) {
    throw new Error(
      `${[command, ...args].join(' ')} failed:\n${result.stdout}${result.stderr}${result.error ?? ''}`,
    );
  }
  return result.stdout;
}

beforeAll(() => {
  work = mkdtempSync(join(tmpdir(), 'node-collectives-package-'));
  must(process.execPath, ['scripts/prebuild.mjs']);
  const [report] = JSON.parse(must('npm', ['pack', '--json', '--pack-destination', work])) as [
    { filename: string; files: { path: string }[] },
  ];
  tarball = join(work, report.filename);
  packed = report.files.map((file) => file.path).sort();

  // An install script would be blocked by npm and pnpm, or compile on the user's machine: there must be none.
  app = join(work, 'app');
  mkdirSync(app);
  writeFileSync(join(app, 'package.json'), '{ "private": true, "type": "module" }');
  must('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', '--omit=dev', tarball], {
    cwd: app,
  });
});

afterAll(() => {
  if (work) rmSync(work, { recursive: true, force: true });
});

function filesBelow(folder: string, prefix = ''): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = prefix + entry.name;
    return entry.isDirectory() ? filesBelow(join(folder, entry.name), `${path}/`) : [path];
  });
}

describe('the tarball', () => {
  it('holds the compiled library, one output for each source, and no sources', () => {
    const expected = filesBelow(join(repository, 'src'))
      .filter((file) => file.endsWith('.ts'))
      .flatMap((file) => [`dist/${file.replace(/\.ts$/, '.js')}`, `dist/${file.replace(/\.ts$/, '.d.ts')}`]);
    expect(packed.filter((file) => file.startsWith('dist/'))).toEqual(expected.sort());
  });

  it('holds the prebuild with its libraries and their licences', () => {
    const prebuilds = packed.filter((file) => file.startsWith('prebuilds/'));
    const folder = `prebuilds/${target}`;
    expect(prebuilds).toContain(`${folder}/node-collectives.glibc.node`);
    expect(prebuilds.filter((file) => /libgloo-nc\.so\.\d+$/.test(file))).toHaveLength(1);
    expect(prebuilds).toContain(`${folder}/licenses/README.txt`);
    const libraries = prebuilds.filter((file) => file.includes('.so'));
    const notes = readFileSync(join(repository, folder, 'licenses/README.txt'), 'utf8');
    for (const library of libraries) expect(notes).toContain(library.split('/').at(-1));
    for (const [, licence] of notes.matchAll(/licence: (\S+);/g)) {
      expect(prebuilds).toContain(`${folder}/licenses/${licence}`);
    }
  });

  it('holds nothing else', () => {
    const others = packed.filter((file) => !/^(dist|prebuilds)\//.test(file));
    const allowed = ['CHANGELOG.md', 'LICENSE', 'README.md', 'package.json'];
    expect(others).toEqual(allowed.filter((file) => existsSync(join(repository, file))));
    expect(others).toContain('LICENSE');
  });

  it('passes publint', () => {
    const cli = join(repository, 'node_modules/publint/src/cli.js');
    must(process.execPath, [cli, 'run', tarball, '--strict']);
  });
});

describe('an installation', () => {
  it('compiled nothing and ran no script', () => {
    const installed = join(app, 'node_modules/node-collectives');
    expect(existsSync(join(installed, 'build'))).toBe(false);
    const manifest = JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8'));
    expect(manifest.gypfile).toBe(false);
    for (const script of ['preinstall', 'install', 'postinstall'])
      expect(manifest.scripts).not.toHaveProperty(script);
  });

  it('gives a strict NodeNext project its types', () => {
    cpSync(join(import.meta.dirname, 'consumer.txt'), join(app, 'consumer.ts'));
    const options = {
      compilerOptions: {
        target: 'ES2023',
        lib: ['ES2023', 'ESNext.Disposable'],
        module: 'NodeNext',
        strict: true,
        exactOptionalPropertyTypes: true,
        noEmit: true,
        // The point of the exercise: the package's own declarations are checked as well.
        skipLibCheck: false,
        types: ['node'],
        typeRoots: [join(repository, 'node_modules/@types')],
      },
      files: ['consumer.ts'],
    };
    writeFileSync(join(app, 'tsconfig.json'), JSON.stringify(options));
    must(process.execPath, [join(repository, 'node_modules/typescript/bin/tsc'), '-p', app]);
  });
});

if (whyNoRoot) console.log(`skipped: the package in a clean root: ${whyNoRoot}`);

describe.skipIf(whyNoRoot !== undefined)('in a root without compiler and libgloo', () => {
  let root: string;

  beforeAll(() => {
    root = join(work, 'root');
    makeCleanRoot(root);
    cpSync(app, join(root, 'app'), { recursive: true });
    cpSync(join(import.meta.dirname, 'form-group.mjs'), join(root, 'app/form-group.mjs'));
  });

  it('has nothing there that would help', () => {
    expect(strangersIn(root)).toEqual([]);
  });

  it('loads and forms a group', () => {
    const { status, output } = runInRoot(root, '/app/form-group.mjs');
    expect(output).toContain('rank 0 of 2: true');
    expect(output).toContain('rank 1 of 2: true');
    expect(status).toBe(0);
  });

  it('says what to do where the prebuild is taken away', () => {
    const bare = join(work, 'bare');
    makeCleanRoot(bare);
    cpSync(app, join(bare, 'app'), { recursive: true });
    rmSync(join(bare, 'app/node_modules/node-collectives/prebuilds'), { recursive: true });
    cpSync(join(import.meta.dirname, 'form-group.mjs'), join(bare, 'app/form-group.mjs'));
    const { status, output } = runInRoot(bare, '/app/form-group.mjs');
    expect(output).toContain('ADDON_NOT_LOADED');
    expect(output).toContain('There is no prebuild in this installation');
    expect(status).not.toBe(0);
  });
});
