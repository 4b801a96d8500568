// Runs one fuzzer for a while: `npm run fuzz -- frame_reader --seconds 60`; without a name it lists them,
// `all` runs each. Seeds come from test/native/corpus/NAME, what the fuzzer finds worth keeping goes to
// build/fuzz/corpus/NAME.
import { existsSync, mkdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { parseArgs } from 'node:util';
import { buildDir, capture, die, filesBelow, jobs, root, run, ScriptError, which } from './lib.mjs';
import { ensureSystem } from './system.mjs';

const fuzzers = filesBelow(['test/native'], (file) => file.endsWith('_fuzz.cpp')).map((file) =>
  basename(file, '_fuzz.cpp'),
);

function fuzz(name, dir, seconds) {
  const corpus = join(dir, 'corpus', name);
  const seeds = join(root, 'test/native/corpus', name);
  const crashes = join(dir, 'crashes');
  mkdirSync(corpus, { recursive: true });
  mkdirSync(crashes, { recursive: true });
  console.log(`fuzz: ${name} for ${seconds} s`);
  run(join(dir, `${name}_fuzz`), [
    corpus,
    ...(existsSync(seeds) ? [seeds] : []),
    `-max_total_time=${seconds}`,
    `-artifact_prefix=${crashes}/${name}-`,
    '-timeout=10',
    '-print_final_stats=1',
    '-verbosity=0',
  ]);
}

try {
  const { values, positionals } = parseArgs({
    options: { seconds: { type: 'string', default: '60' } },
    allowPositionals: true,
  });
  const wanted = positionals[0] === 'all' ? fuzzers : positionals;
  const unknown = wanted.filter((name) => !fuzzers.includes(name));
  if (wanted.length === 0 || unknown.length > 0) {
    throw new ScriptError(
      `${unknown.length > 0 ? `No such fuzzer: ${unknown.join(', ')}. ` : ''}Usage: npm run fuzz -- NAME|all --seconds N\n` +
        `Fuzzers: ${fuzzers.join(', ') || 'none yet'}`,
    );
  }
  if (!/^\d+$/.test(values.seconds)) throw new ScriptError('--seconds takes a whole number.');
  ensureSystem(['build', 'fuzz']);
  const dir = join(buildDir, 'fuzz');
  const compiler = ['-DCMAKE_CXX_COMPILER=clang++-14', ...(which('ninja') ? ['-G', 'Ninja'] : [])];
  const flags = ['-DNC_BUILD_ADDON=OFF', '-DNC_BUILD_FUZZERS=ON', '-DNC_SANITIZE=address,undefined'];
  capture('cmake', [
    '-S',
    root,
    '-B',
    dir,
    ...(existsSync(join(dir, 'CMakeCache.txt')) ? [] : compiler),
    ...flags,
  ]);
  run('cmake', [
    '--build',
    dir,
    '--parallel',
    String(jobs),
    '--target',
    ...wanted.map((name) => `${name}_fuzz`),
  ]);
  for (const name of wanted) fuzz(name, dir, values.seconds);
} catch (error) {
  die(error);
}
