// Runs the fuzzers for a while: `npm run fuzz -- --seconds 600` all of them, so long each; with names only those,
// e.g. `npm run fuzz -- frame_reader`. Seeds come from test/native/corpus/NAME, what a fuzzer finds worth keeping
// goes to build/fuzz/corpus/NAME.
import { existsSync, mkdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import {
  buildDir,
  capture,
  die,
  filesBelow,
  jobs,
  pool,
  root,
  run,
  runAsync,
  ScriptError,
  which,
} from './lib.mjs';
import { ensureSystem } from './system.mjs';

export const fuzzers = filesBelow(['test/native'], (file) => file.endsWith('_fuzz.cpp')).map((file) =>
  basename(file, '_fuzz.cpp'),
);
const dir = join(buildDir, 'fuzz');

/** Builds them; afterwards fuzz() runs one. */
export function buildFuzzers(names) {
  const compiler = ['-DCMAKE_CXX_COMPILER=clang++-14', ...(which('ninja') ? ['-G', 'Ninja'] : [])];
  const flags = ['-DNC_BUILD_ADDON=OFF', '-DNC_BUILD_FUZZERS=ON', '-DNC_SANITIZE=address,undefined'];
  const fresh = existsSync(join(dir, 'CMakeCache.txt')) ? [] : compiler;
  capture('cmake', ['-S', root, '-B', dir, ...fresh, ...flags]);
  const targets = names.map((name) => `${name}_fuzz`);
  run('cmake', ['--build', dir, '--parallel', String(jobs), '--target', ...targets]);
}

/** As many at once as there are processors. Throws where one finds something. */
export async function fuzzAll(names, seconds) {
  await pool(names, jobs, (name) => fuzz(name, seconds));
}

/** Throws where it finds something; the input that shows it is then in build/fuzz/crashes. */
async function fuzz(name, seconds) {
  const corpus = join(dir, 'corpus', name);
  const seeds = join(root, 'test/native/corpus', name);
  const crashes = join(dir, 'crashes');
  mkdirSync(corpus, { recursive: true });
  mkdirSync(crashes, { recursive: true });
  console.log(`fuzz: ${name} for ${seconds} s`);
  const { code, output } = await runAsync(join(dir, `${name}_fuzz`), [
    corpus,
    ...(existsSync(seeds) ? [seeds] : []),
    `-max_total_time=${seconds}`,
    `-artifact_prefix=${crashes}/${name}-`,
    '-timeout=10',
    '-print_final_stats=1',
    '-verbosity=0',
  ]);
  const runs = /stat::number_of_executed_units: (\d+)/.exec(output)?.[1];
  if (code !== 0) throw new ScriptError(`${output}\nfuzz: ${name} found something (exit code ${code})`);
  console.log(`fuzz: ${name}: ${runs} runs, nothing found`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    const { values, positionals } = parseArgs({
      options: { seconds: { type: 'string', default: '60' } },
      allowPositionals: true,
    });
    const wanted = positionals.length === 0 || positionals[0] === 'all' ? fuzzers : positionals;
    const unknown = wanted.filter((name) => !fuzzers.includes(name));
    if (unknown.length > 0) {
      throw new ScriptError(
        `No such fuzzer: ${unknown.join(', ')}. Usage: npm run fuzz -- [NAME…] --seconds N\nFuzzers: ${fuzzers.join(', ')}`,
      );
    }
    if (!/^[1-9]\d*$/.test(values.seconds)) throw new ScriptError('--seconds takes a whole number above 0.');
    ensureSystem(['build', 'fuzz']);
    buildFuzzers(wanted);
    await fuzzAll(wanted, Number(values.seconds));
  } catch (error) {
    die(error);
  }
}
