// clang-tidy over native/, two or more files at a time. A file that passed is not looked at again until it, a
// header it includes, the checks or the compile flags change: a clean tree takes minutes, an edit seconds.
import { existsSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  buildDir,
  capture,
  die,
  digest,
  filesBelow,
  isStamped,
  jobs,
  pool,
  root,
  runAsync,
  ScriptError,
  stamp,
  which,
} from './lib.mjs';

export const clangTidy = 'clang-tidy-14';

/** Returns how many files were checked and the output of those that failed. */
export async function tidy({ all = false } = {}) {
  const dir = join(buildDir, 'tidy');
  // Configuring is enough: clang-tidy wants the compile commands, not the objects.
  const flags = [
    `-DNC_BUILD_ADDON=${existsSync(join(root, 'native/addon.cpp')) ? 'ON' : 'OFF'}`,
    '-DNC_BUILD_TESTS=OFF',
    '-DCMAKE_BUILD_TYPE=Debug',
  ];
  capture('cmake', ['-S', root, '-B', dir, ...flags]);
  const commands = JSON.parse(readFileSync(join(dir, 'compile_commands.json'), 'utf8'));
  const sources = filesBelow(['native'], (file) => file.endsWith('.cpp'));
  const known = new Map(commands.map((entry) => [entry.file, entry.command]));
  const todo = sources
    .filter((file) => known.has(file))
    .map((file) => ({
      file,
      key: digest([...includes(file), join(root, '.clang-tidy')], known.get(file)),
      name: `tidy/${relative(root, file).replaceAll('/', '+')}`,
    }))
    .filter(({ key, name }) => all || !isStamped(name, key));
  const results = await pool(todo, jobs, async ({ file, key, name }) => {
    const { code, output } = await runAsync(clangTidy, [
      '--quiet',
      '--extra-arg=-Wno-error',
      '-p',
      dir,
      file,
    ]);
    if (code === 0) stamp(name, key);
    return { file, code, output };
  });
  return {
    total: sources.length,
    checked: todo.length,
    failures: results.filter((result) => result.code !== 0),
  };
}

/** A source and all of the project's headers it reaches. */
function includes(file, seen = new Set()) {
  if (seen.has(file)) return [];
  seen.add(file);
  for (const [, name] of readFileSync(file, 'utf8').matchAll(/^\s*#\s*include\s+"([^"]+)"/gm)) {
    for (const candidate of [join(root, 'native', name), join(file, '..', name)]) {
      if (existsSync(candidate)) includes(candidate, seen);
    }
  }
  return [...seen].sort();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    if (!which(clangTidy))
      throw new ScriptError(`${clangTidy} is not installed: apt-get install ${clangTidy}`);
    const { total, checked, failures } = await tidy({ all: process.argv.includes('--all') });
    for (const { output } of failures) console.log(output);
    console.log(`clang-tidy: ${total} files, ${checked} of them changed, ${failures.length} with findings`);
    process.exitCode = failures.length > 0 ? 1 : 0;
  } catch (error) {
    die(error);
  }
}
