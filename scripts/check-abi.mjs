// `npm run check:abi -- --nccl DIR --rccl DIR --cuda DIR --hip DIR`: compares what native/nccl/*_abi.h declares,
// every function, constant, structure and field, with the libraries' real headers, at compile time. Each DIR is
// where a header is, or a folder with `include/` in it; each option may be given several times. What is not
// given is looked for on this system and said to be skipped where it is not there; `--fetch` takes Debian's
// packages of the headers (NVIDIA's weigh a gigabyte).
//
// The stand-ins of the tests are compared as well. `--self-test` makes each declaration wrong in turn and
// expects the comparison to fail.
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { applies, compareVersions, declarations, spoiled } from './abi-declarations.mjs';
import { compareUnit } from './abi-unit.mjs';
import { checkStandinsAbi } from './check-standins-abi.mjs';
import { debianRoot } from './debian-root.mjs';
import { buildDir, die, filesBelow, jobs, pool, root, runAsync, ScriptError } from './lib.mjs';
import { ensureSystem } from './system.mjs';

const dir = join(buildDir, 'check-abi');
const stream = (name) =>
  `typedef struct ${name === 'cuda' ? 'CUstream_st' : 'ihipStream_t'}* ${name}Stream_t;\n`;
/** NCCL's header includes a whole toolkit for the sake of one type; a maintainer need not have it. */
const shims = {
  nccl: {
    'cuda_runtime.h': `#pragma once\n#define __CUDA_BF16_TYPES_EXIST__ 1\n${stream('cuda')}`,
    'cuda_fp16.h': '',
    'cuda_bf16.h': '',
    'cuda_fp8.h': '',
  },
  rccl: { 'hip/hip_runtime.h': `#pragma once\n${stream('hip')}`, 'hip/hip_fp16.h': '', 'hip/hip_bf16.h': '' },
  cuda: {},
  hip: {},
};

const define = (text, name) => new RegExp(`#\\s*define ${name}\\s+(\\d+)`).exec(text)?.[1];
const ncclVersion = (file) => {
  const text = readFileSync(file, 'utf8');
  return ['NCCL_MAJOR', 'NCCL_MINOR', 'NCCL_PATCH'].map((name) => define(text, name)).join('.');
};

const libraries = {
  nccl: { headers: ['nccl.h'], version: ncclVersion, ours: 'nccl', flags: [] },
  rccl: { headers: ['rccl/rccl.h', 'rccl.h'], version: ncclVersion, ours: 'nccl', flags: [] },
  cuda: {
    headers: ['cuda.h'],
    version: (file) => {
      const code = Number(define(readFileSync(file, 'utf8'), 'CUDA_VERSION'));
      return `${Math.floor(code / 1000)}.${(code % 1000) / 10}`;
    },
    ours: 'cuda',
    flags: [],
  },
  hip: {
    headers: ['hip/hip_runtime_api.h'],
    version: (file) => {
      const text = readFileSync(join(dirname(file), 'hip_version.h'), 'utf8');
      return ['HIP_VERSION_MAJOR', 'HIP_VERSION_MINOR'].map((name) => define(text, name)).join('.');
    },
    ours: 'hip',
    flags: ['-D__HIP_PLATFORM_AMD__', '-D__HIP_DISABLE_CPP_FUNCTIONS__'],
  },
};

const config = '(nc::nccl::makeConfig(NCCL_VERSION_CODE, false))';
const headers = {
  nccl: {
    file: 'native/nccl/nccl_abi.h',
    space: 'nc::nccl::abi',
    includes: ['nccl/nccl_abi.h', 'nccl/nccl_config.h'],
    sizes: { Config: 'nc::nccl::configBytes(NCCL_VERSION_CODE)' },
    // What we hand to the library is what its own initializer makes, but for `blocking`.
    more: (_target, compared) => {
      const fields = compared.filter((entry) => entry.kind === 'field' && entry.struct.name === 'Config');
      if (fields.length === 0) return '';
      const lines = fields
        .filter(({ name }) => name !== 'blocking')
        .map(
          ({ name }) => `static_assert(${config}.${name} == kTheirs.${name}, "${name} starts otherwise");`,
        );
      return ['constexpr ncclConfig_t kTheirs = NCCL_CONFIG_INITIALIZER;', ...lines].join('\n');
    },
  },
  cuda: { file: 'native/nccl/cuda_abi.h', space: 'nc::nccl::cuda', includes: ['nccl/cuda_abi.h'] },
  hip: { file: 'native/nccl/hip_abi.h', space: 'nc::nccl::hip', includes: ['nccl/hip_abi.h'] },
};
for (const header of Object.values(headers)) {
  header.text = readFileSync(join(root, header.file), 'utf8');
  header.declarations = declarations(header.text, header.file);
}

/** The header that a folder means, and the folder to include it from. */
function find(kind, folder) {
  for (const base of [folder, join(folder, 'include'), join(folder, 'usr/include')]) {
    for (const header of libraries[kind].headers) {
      if (existsSync(join(base, header))) return { kind, base, header, file: join(base, header) };
    }
  }
  return undefined;
}

function given(values) {
  const out = [];
  for (const kind of Object.keys(libraries)) {
    const places = ['/usr', '/usr/local', '/usr/local/cuda', '/opt/rocm'];
    const found = (values[kind] ?? []).map((folder) => {
      const target = find(kind, resolve(folder));
      if (!target) throw new ScriptError(`--${kind} ${folder}: no ${libraries[kind].headers[0]} there`);
      return target;
    });
    if (found.length === 0) {
      const here = places.map((place) => find(kind, place)).find((target) => target !== undefined);
      if (here) found.push(here);
      else
        console.log(
          `${kind}: skipped, no ${libraries[kind].headers[0]} on this system (--${kind} DIR, --fetch)`,
        );
    }
    out.push(...found);
  }
  return out.map((target) => {
    const version = libraries[target.kind].version(target.file);
    if (!/^\d+(\.\d+)+$/.test(version)) throw new ScriptError(`${target.file}: its version cannot be read`);
    return { ...target, version, includes: [target.header] };
  });
}

/** Adds Debian's headers to what was given. */
function fetch(values) {
  const add = (kinds, name, suite, packages, components) => {
    const sysroot = debianRoot({ name: `abi-${name}`, suite, components, packages, only: './usr/include' });
    for (const kind of kinds) values[kind] = [...(values[kind] ?? []), sysroot];
  };
  add(['nccl'], 'nccl-trixie', 'trixie', ['libnccl-dev'], ['contrib']);
  add(['nccl'], 'nccl-sid', 'sid', ['libnccl-dev'], ['contrib']);
  add(['rccl', 'hip'], 'rocm', 'trixie', ['librccl-dev', 'libamdhip64-dev'], ['main']);
  add(['cuda'], 'cuda', 'trixie', ['nvidia-cuda-dev', 'libnvidia-ml-dev'], ['non-free']);
}

/** Compiles the comparison; resolves to the compiler's words, or nothing where all is the same. */
async function compare(target, header, name) {
  const { text, compared } = compareUnit(target, { ...headers[libraries[target.kind].ours], ...header });
  const folder = join(dir, name);
  mkdirSync(join(folder, 'nccl'), { recursive: true });
  for (const [file, content] of Object.entries(shims[target.kind])) {
    mkdirSync(dirname(join(folder, 'shims', file)), { recursive: true });
    writeFileSync(join(folder, 'shims', file), content);
  }
  if (header.text) writeFileSync(join(folder, header.file.replace('native/', '')), header.text);
  writeFileSync(join(folder, 'unit.cpp'), text);
  const { code, output } = await runAsync(process.env.CXX ?? 'c++', [
    '-std=c++20',
    '-fsyntax-only',
    '-w', // the libraries' headers have warnings of their own
    `-I${folder}`,
    `-I${join(root, 'native')}`,
    `-I${join(folder, 'shims')}`,
    `-I${target.base}`,
    ...libraries[target.kind].flags,
    join(folder, 'unit.cpp'),
  ]);
  return { compared, output: code === 0 ? undefined : output };
}

/** Every function is loaded by its own name, and none is declared that nobody loads. */
function checkLoading() {
  const sources = filesBelow(['native/nccl'], (file) => file.endsWith('.cpp')).map((file) =>
    readFileSync(file, 'utf8'),
  );
  const loaded = [...sources.join('\n').matchAll(/Symbol<fn::(\w+)> \w+\{[^,}]+, "(\w+)"\}/g)];
  for (const [text, type, name] of loaded) {
    if (type !== name) throw new ScriptError(`${text}: the type and the name are of two functions`);
  }
  const names = new Set(loaded.map(([, type]) => type));
  const all = Object.values(headers).flatMap((header) => header.declarations);
  const unused = all.filter(({ kind, name }) => kind === 'function' && !names.has(name));
  if (unused.length > 0)
    throw new ScriptError(`declared and never loaded: ${unused.map(({ name }) => name).join(', ')}`);
  return names.size;
}

/** Each declaration that a target's header has, made wrong: how many, and which went unnoticed. */
async function selfTest(targets) {
  const cases = targets.flatMap((target) => {
    const ours = headers[libraries[target.kind].ours];
    return ours.declarations
      .filter((entry) => applies(entry, target.version))
      .map((entry) => ({ target, ours, entry }));
  });
  const unnoticed = [];
  await pool(cases, jobs, async ({ target, ours, entry }) => {
    const name = `self-test/${target.kind}-${target.version}-${entry.kind}-${entry.name}`;
    // The unit is about the declarations as they were; only the header that it includes is spoiled.
    const { output } = await compare(target, { file: ours.file, text: spoiled(ours.text, entry) }, name);
    if (output === undefined) unnoticed.push(`${target.kind} ${target.version}: ${entry.kind} ${entry.name}`);
  });
  if (unnoticed.length > 0)
    throw new ScriptError(`made wrong and not noticed:\n  ${unnoticed.sort().join('\n  ')}`);
  return cases.length;
}

try {
  const list = { type: 'string', multiple: true };
  const { values } = parseArgs({
    options: {
      nccl: list,
      rccl: list,
      cuda: list,
      hip: list,
      fetch: { type: 'boolean' },
      'self-test': { type: 'boolean' },
    },
  });
  ensureSystem(['build']);
  rmSync(dir, { recursive: true, force: true });
  console.log(`check-abi: ${checkLoading()} functions are loaded by the name they are declared with`);
  if (values.fetch) fetch(values);
  const targets = given(values);
  const seen = new Set();
  for (const target of targets) {
    const { compared, output } = await compare(target, {}, `${target.kind}-${target.version}`);
    if (output !== undefined)
      throw new ScriptError(`${target.file} differs from what we declare:\n${output}`);
    for (const entry of compared) seen.add(entry);
    console.log(`${target.kind} ${target.version}: ${compared.length} declarations agree (${target.file})`);
  }
  for (const kind of new Set(targets.map((target) => libraries[target.kind].ours))) {
    const rest = headers[kind].declarations.filter((entry) => !seen.has(entry));
    if (rest.length > 0)
      console.log(
        `${headers[kind].file}: in none of these headers: ${rest.map(({ name }) => name).join(', ')}`,
      );
  }
  if (values['self-test']) {
    console.log(`self-test: ${await selfTest(targets)} declarations made wrong, every one noticed`);
  }
  // The stand-ins have nothing older than NCCL 2.13.
  const recent = targets.filter(
    ({ kind, version }) => kind !== 'nccl' || compareVersions(version, '2.13') >= 0,
  );
  const bases = (kind) => recent.filter((target) => target.kind === kind).map(({ base }) => base);
  const cuda = bases('cuda').find((base) => existsSync(join(base, 'nvml.h')));
  const rocm = bases('hip').find((base) => existsSync(join(base, 'rccl/rccl.h')));
  const nccl = bases('nccl');
  const lines = cuda || rocm || nccl.length > 0 ? await checkStandinsAbi({ cuda, nccl, rocm }) : [];
  for (const line of lines) console.log(line);
} catch (error) {
  die(error);
}
