/** Where settings come from, and which comes before which: defaults, file, environment, command line. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { extname } from 'node:path';
import { checkOptions, refuse } from '../arguments.ts';
import { checkEnvironment } from '../environment.ts';
import { InvalidArgumentError } from '../errors.ts';
import { nearest } from '../nearest.ts';
import { optionNames } from '../option-names.ts';
import { parallelOptions, readArguments, setting } from './arguments.ts';
import { toSnake } from './names.ts';
import type { ParallelConfigInput } from './parallel-fields.ts';
import { isPlainObject } from './python.ts';

type Env = Readonly<Record<string, string | undefined>>;

export interface ParseOptions {
  /** Environment variables; `process.env` otherwise. */
  env?: Env;
}

/** Settings, and where each comes from. */
export interface ParallelArguments {
  readonly settings: ParallelConfigInput;
  /**
   * By field, also `eplbConfig.windowSize`: `command line --tensor-parallel-size`, `file deploy.yaml`,
   * `environment VLLM_DP_RANK`.
   */
  readonly sources: ReadonlyMap<string, string>;
  /** Arguments that are no parallel settings. */
  readonly rest: readonly string[];
}

/**
 * Settings from command-line arguments as vLLM takes them (`--tensor-parallel-size 2`, `-tp 2`,
 * `--enable_eplb`, `--eplb-config.window_size 10`) and from the JSON or YAML file of `--config`; for
 * `new ParallelConfig()`.
 *
 * @throws InvalidArgumentError for an unknown option, naming the one that was probably meant, or a wrong
 *   value.
 */
export function parseParallelArgs(argv: readonly string[], options: ParseOptions = {}): ParallelConfigInput {
  checkArguments('parseParallelArgs', argv, options);
  return gather(argv, options, false).settings;
}

/** parseParallelArgs() for an engine with options of its own: passes on what it does not know. */
export function parseKnownParallelArgs(
  argv: readonly string[],
  options: ParseOptions = {},
): ParallelArguments {
  checkArguments('parseKnownParallelArgs', argv, options);
  return gather(argv, options, true);
}

const names = optionNames<ParseOptions>({ env: true });

function checkArguments(op: string, argv: readonly string[], options: ParseOptions): void {
  if (!Array.isArray(argv)) throw refuse(op, 'argv', 'an array of texts', argv);
  const wrong = argv.findIndex((each) => typeof each !== 'string');
  if (wrong >= 0) throw refuse(op, `argv[${wrong}]`, 'a text', argv[wrong]);
  checkOptions(op, options, names);
  if (options.env !== undefined) checkEnvironment(op, options.env);
}

/** With sources, but without unknown arguments. @internal */
export function gather(
  argv: readonly string[],
  options: ParseOptions,
  allowUnknown: boolean,
): ParallelArguments {
  const { given, file, rest } = readArguments(argv, allowUnknown);
  const settings = new Map<string, unknown>();
  const sources = new Map<string, string>();
  const put = (field: string, value: unknown, source: string) => {
    const before = settings.get(field);
    const nested = field === 'eplbConfig' && isPlainObject(value);
    settings.set(field, nested && isPlainObject(before) ? { ...before, ...value } : value);
    sources.set(field, source);
    if (nested) for (const name of Object.keys(value)) sources.set(`${field}.${name}`, source);
  };
  if (file !== undefined) {
    const content = readConfigFile(file, allowUnknown);
    for (const [field, value] of content) put(field, value, `file ${file}`);
    const remove = (field: string) => {
      settings.delete(field);
      sources.delete(field);
    };
    environmentOverFile(
      new Set(content.keys()),
      new Set(given.keys()),
      options.env ?? process.env,
      put,
      remove,
    );
  }
  for (const [field, { value, option }] of given) put(field, value, `command line ${option}`);
  return { settings: Object.fromEntries(settings) as ParallelConfigInput, sources, rest };
}

/** The variables that resolution reads where data parallelism is not asked for by argument. */
const variables: Readonly<Record<string, string>> = {
  dataParallelSize: 'VLLM_DP_SIZE',
  dataParallelRank: 'VLLM_DP_RANK',
  dataParallelRankLocal: 'VLLM_DP_RANK_LOCAL',
  dataParallelMasterIp: 'VLLM_DP_MASTER_IP',
};

/**
 * Resolution reads the environment only where arguments leave it to. A file is an argument to it, but comes
 * before the environment in order; so what a set variable says replaces what the file says.
 */
function environmentOverFile(
  inFile: ReadonlySet<string>,
  commandLine: ReadonlySet<string>,
  env: Env,
  put: (field: string, value: unknown, source: string) => void,
  remove: (field: string) => void,
): void {
  if (commandLine.has('dataParallelSize')) return;
  if (env['VLLM_DP_SIZE'] !== undefined) {
    // Then the environment tells the whole of it.
    for (const field of [...Object.keys(variables), 'dataParallelMasterPort']) remove(field);
    return;
  }
  if (!inFile.has('dataParallelSize')) return;
  for (const [field, name] of Object.entries(variables)) {
    if (env[name] !== undefined) put(field, env[name], `environment ${name}`);
  }
}

/**
 * Fields of a JSON or YAML file: the origin's names, with underscores or dashes, or ours. Other settings of
 * an engine are left out where that is allowed, but not what is probably a slip.
 */
function readConfigFile(file: string, allowUnknown: boolean): Map<string, unknown> {
  const content = parseFile(file);
  if (!isPlainObject(content))
    throw wrong(`${file} holds no settings: expected an object of names and values`);
  const out = new Map<string, unknown>();
  for (const [key, value] of Object.entries(content)) {
    const option = optionFor(key);
    if (option === undefined) {
      const close = nearest(key, known());
      if (close === undefined && allowUnknown) continue;
      const like = key.includes('_') ? close?.replaceAll('-', '_') : close;
      throw wrong(`unknown setting ${key} in ${file}${like === undefined ? '' : `. Did you mean ${like}?`}`);
    }
    out.set(option.field, option.kind === 'eplb' ? nestedSettings(file, key, value) : value);
  }
  return out;
}

function optionFor(key: string) {
  const dashed = toSnake(key).replace(/^_+/, '').replaceAll('_', '-');
  return parallelOptions().get(`--${dashed}`);
}

function nestedSettings(file: string, key: string, value: unknown): unknown {
  if (!isPlainObject(value)) return value;
  return Object.assign(
    {},
    ...Object.entries(value).map(([name, item]) => setting(`${key} in ${file}`, name, item)),
  );
}

function known(): string[] {
  return [...parallelOptions().keys()].filter((name) => name.startsWith('--')).map((name) => name.slice(2));
}

function parseFile(file: string): unknown {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw wrong(`--config: ${file} cannot be read: ${(error as Error).message}`, error);
  }
  try {
    if (extname(file).toLowerCase() === '.json') return JSON.parse(text) as unknown;
    // YAML takes JSON as well. Loaded here: most programs never read a file.
    return (createRequire(import.meta.url)('yaml') as { parse(text: string): unknown }).parse(text);
  } catch (error) {
    throw wrong(`--config: ${file} cannot be understood: ${(error as Error).message}`, error);
  }
}

function wrong(text: string, cause?: unknown): InvalidArgumentError {
  return new InvalidArgumentError(text, { op: 'parseParallelArgs' }, cause === undefined ? {} : { cause });
}
