// Formats the C++ of this repository in place, or with --check says which files are not formatted.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { die, filesBelow, root, ScriptError, which } from './lib.mjs';

/** Formatting differs between clang-format's versions, so it is one version for all. */
export const clangFormat = 'clang-format-14';

export const nativeSources = () =>
  filesBelow(['native', 'test/native', 'test/fixtures/gpu', 'test/fixtures/hosts', 'bench/native'], (file) =>
    /\.(cpp|cc|h|hpp)$/.test(file),
  );

/** True where every file is formatted (check) or was formatted. */
export function format(check) {
  const files = nativeSources();
  if (files.length === 0) return true;
  const flags = check ? ['--dry-run', '-Werror'] : ['-i'];
  return spawnSync(clangFormat, [...flags, ...files], { cwd: root, stdio: 'inherit' }).status === 0;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (!which(clangFormat))
    die(new ScriptError(`${clangFormat} is not installed: apt-get install ${clangFormat}`));
  process.exitCode = format(process.argv.includes('--check')) ? 0 : 1;
}
