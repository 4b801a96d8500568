// Runs a TypeScript program of this repository: `node scripts/run-ts.mjs bench/main.ts ARGS`. Node 20 cannot
// run TypeScript itself, so the set-up compiles all programs to build/ts (tsconfig.run.json) and this starts
// them there.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildDir, die, root, ScriptError } from './lib.mjs';
import { setup } from './setup.mjs';

/** Where the compiled form of a TypeScript file lies. */
export function compiled(file) {
  return join(buildDir, 'ts', relative(root, resolve(root, file)).replace(/\.ts$/, '.js'));
}

/** Runs the compiled form of a file with these arguments; ends this process the way that one ends. */
export async function runTypeScript(file, args) {
  const program = compiled(file);
  if (!existsSync(program))
    throw new ScriptError(`There is no ${file} (looked for ${relative(root, program)}).`);
  const child = spawn(process.execPath, ['--enable-source-maps', program, ...args], { stdio: 'inherit' });
  // A terminal sends its signals to the whole process group: the child decides, this one waits for it.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.on(signal, () => signal !== 'SIGINT' && child.kill(signal));
  }
  await new Promise((done, fail) => {
    child.on('error', fail);
    child.on('exit', (code, signal) => {
      process.exitCode = signal ? 1 : code;
      done();
    });
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [file, ...args] = process.argv.slice(2);
  try {
    if (!file) throw new ScriptError('Usage: node scripts/run-ts.mjs FILE.ts [ARGS]');
    await setup();
    await runTypeScript(file, args);
  } catch (error) {
    die(error);
  }
}
