// What the scripts share. Plain Node without dependencies: it runs before `npm ci`.
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { availableParallelism } from 'node:os';
import { delimiter, dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = dirname(dirname(fileURLToPath(import.meta.url)));
export const buildDir = join(root, 'build');
export const jobs = availableParallelism();

/** A failure that was explained already: the scripts end with its text and no stack. */
export class ScriptError extends Error {}

/** Ends the script with an error's text; the stack only where nobody foresaw it. */
export function die(error) {
  console.error(error instanceof ScriptError ? `\n${error.message}` : error);
  process.exit(1);
}

/** The path of a program, or undefined. */
export function which(name) {
  for (const dir of (process.env.PATH ?? '').split(delimiter)) {
    const file = join(dir, name);
    try {
      accessSync(file, constants.X_OK);
      return file;
    } catch {
      // Not in this folder.
    }
  }
  return undefined;
}

/** Runs a program to its end, in the repository, its output passed through. Throws where it fails. */
export function run(command, args, options = {}) {
  const result = spawnSync(command, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'], ...options });
  if (result.error) throw new ScriptError(`${command}: ${result.error.message}`);
  if (result.status !== 0) {
    throw new ScriptError(
      `${[command, ...args].join(' ')}\nfailed (${result.signal ?? `exit code ${result.status}`})`,
    );
  }
}

/** Runs a program and returns what it printed. Throws where it fails. */
export function capture(command, args, options = {}) {
  const result = spawnSync(command, args, { cwd: root, encoding: 'utf8', maxBuffer: 1 << 28, ...options });
  if (result.error) throw new ScriptError(`${command}: ${result.error.message}`);
  if (result.status !== 0)
    throw new ScriptError(`${[command, ...args].join(' ')}\n${result.stdout}${result.stderr}`);
  return result.stdout;
}

/** Runs a program beside others; resolves to its exit code and all it printed. */
export function runAsync(command, args, options = {}) {
  return new Promise((done) => {
    const child = spawn(command, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'], ...options });
    let output = '';
    child.stdout.on('data', (data) => (output += data));
    child.stderr.on('data', (data) => (output += data));
    child.on('error', (error) => done({ code: 127, output: `${command}: ${error.message}\n` }));
    child.on('close', (code, signal) => done({ code: code ?? 1, signal, output }));
  });
}

/** Applies an async function to all items, a few at a time. */
export async function pool(items, size, work) {
  const queue = [...items.entries()];
  const results = new Array(items.length);
  const worker = async () => {
    for (let next = queue.shift(); next; next = queue.shift()) results[next[0]] = await work(next[1]);
  };
  await Promise.all(Array.from({ length: size }, worker));
  return results;
}

/** All files below the given paths (relative to the repository), sorted, that pass the filter. */
export function filesBelow(paths, accept = () => true) {
  const found = [];
  const visit = (path) => {
    let entries;
    try {
      entries = readdirSync(path, { withFileTypes: true });
    } catch (error) {
      if (error.code === 'ENOTDIR' && accept(path)) found.push(path);
      return;
    }
    for (const entry of entries) {
      const child = join(path, entry.name);
      if (entry.isDirectory()) visit(child);
      else if (entry.isFile() && accept(child)) found.push(child);
    }
  };
  for (const path of paths) visit(join(root, path));
  return found.sort();
}

/** One digest over names and contents of files and over any further strings. */
export function digest(files, ...more) {
  const hash = createHash('sha256');
  for (const file of files) {
    hash.update(relative(root, file)).update('\0');
    hash.update(readFileSync(file)).update('\0');
  }
  for (const text of more) hash.update(String(text)).update('\0');
  return hash.digest('hex');
}

const stampFile = (name) => join(buildDir, 'stamps', name);

/** True where `name` was last finished with this digest. */
export function isStamped(name, value) {
  return existsSync(stampFile(name)) && readFileSync(stampFile(name), 'utf8') === value;
}

export function stamp(name, value) {
  mkdirSync(dirname(stampFile(name)), { recursive: true });
  writeFileSync(stampFile(name), value);
}

/** A program of this repository's node_modules, as the arguments to `node`. */
export function localBin(packageName, bin = packageName) {
  const folder = join(root, 'node_modules', packageName);
  const manifest = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  const file = typeof manifest.bin === 'string' ? manifest.bin : manifest.bin[bin];
  return join(folder, file);
}
