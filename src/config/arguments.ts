/** Command-line arguments in the origin's spellings. */
import { InvalidArgumentError } from '../errors.ts';
import { nearest } from '../nearest.ts';
import { parallelJsonSchema } from './describe.ts';
import { eplbNames } from './eplb-schema.ts';
import { toSnake } from './names.ts';
import { isPlainObject, pythonInt, pythonRepr } from './python.ts';
import { once } from './zod.ts';

type Kind = 'int' | 'bool' | 'text' | 'json' | 'ints' | 'eplb';

interface Option {
  readonly field: string;
  readonly kind: Kind;
  readonly nullable: boolean;
  /** All spellings, for messages. */
  readonly spellings: readonly string[];
}

/** Spellings beyond a field's own name. */
const aliases: Readonly<Record<string, readonly string[]>> = {
  pipelineParallelSize: ['-pp'],
  tensorParallelSize: ['-tp'],
  prefillContextParallelSize: ['-pcp'],
  decodeContextParallelSize: ['-dcp'],
  dataParallelSize: ['-dp'],
  dataParallelSizeLocal: ['-dpl'],
  dataParallelRank: ['-dpn', '--data-parallel-start-rank', '-dpr'],
  dataParallelMasterIp: ['--data-parallel-address', '-dpa'],
  dataParallelRpcPort: ['-dpp'],
  dataParallelBackend: ['-dpb'],
  dataParallelHybridLb: ['-dph'],
  dataParallelExternalLb: ['-dpe'],
  enableExpertParallel: ['-ep'],
  nnodes: ['-n'],
  nodeRank: ['-r'],
};

/** `dataParallelSize` -> `--data-parallel-size` */
export function flagOf(field: string): string {
  return `--${toSnake(field).replace(/^_/, '').replaceAll('_', '-')}`;
}

/** All options by each of their spellings. */
export const parallelOptions = once((): ReadonlyMap<string, Option> => {
  const out = new Map<string, Option>();
  for (const [field, json] of Object.entries(parallelJsonSchema().properties)) {
    const spellings = [flagOf(field), ...(aliases[field] ?? [])];
    const types = typesOf(json);
    const option: Option = { field, kind: kindOf(field, types), nullable: types.includes('null'), spellings };
    for (const spelling of spellings) out.set(spelling, option);
  }
  return out;
});

function typesOf(json: Record<string, unknown>): unknown[] {
  if (Array.isArray(json['anyOf'])) return json['anyOf'].map((variant: { type?: unknown }) => variant.type);
  return [json['type']].flat();
}

function kindOf(field: string, types: readonly unknown[]): Kind {
  if (field === 'eplbConfig') return 'eplb';
  if (types.includes('array')) return 'ints';
  if (types.includes('integer')) return 'int';
  if (types.includes('boolean')) return 'bool';
  return types.includes('string') ? 'text' : 'json';
}

/** What argv said, by field: the value, and the option as it was written. */
export interface ReadArguments {
  readonly given: ReadonlyMap<string, { value: unknown; option: string }>;
  /** The file of `--config`. */
  readonly file: string | undefined;
  /** What is none of ours; empty unless it was allowed. */
  readonly rest: readonly string[];
}

function wrong(text: string): InvalidArgumentError {
  return new InvalidArgumentError(text, { op: 'parseParallelArgs' });
}

const looksNegative = /^-\d+$|^-\d*\.\d+$/;

export function readArguments(argv: readonly string[], allowUnknown: boolean): ReadArguments {
  if (!Array.isArray(argv) || argv.some((word) => typeof word !== 'string')) {
    throw wrong('argv must be an array of texts, one for each argument, as process.argv.slice(2)');
  }
  const given = new Map<string, { value: unknown; option: string }>();
  const rest: string[] = [];
  let file: string | undefined;
  for (let i = 0; i < argv.length; i += 1) {
    const word = argv[i] as string;
    const { name, path, attached } = split(word);
    const value = () => {
      if (attached !== undefined) return attached;
      const next = argv[i + 1];
      if (next === undefined || (next.startsWith('-') && next !== '-' && !looksNegative.test(next))) {
        throw wrong(`argument ${name}: expected one argument`);
      }
      i += 1;
      return next;
    };
    if (name === '--config') {
      file = value();
      continue;
    }
    const negated = name.startsWith('--no-') ? parallelOptions().get(`--${name.slice(5)}`) : undefined;
    const option = parallelOptions().get(name) ?? (negated?.kind === 'bool' ? negated : undefined);
    if (option === undefined || (path !== undefined && option.kind !== 'eplb')) {
      if (!allowUnknown)
        throw wrong(`unknown ${word.startsWith('-') ? 'option' : 'argument'} ${word}${meant(name)}`);
      if (word === '--') {
        rest.push(...argv.slice(i));
        break;
      }
      rest.push(word);
      continue;
    }
    if (option.kind === 'bool') {
      if (attached !== undefined)
        throw wrong(`argument ${name}: ignored explicit argument ${pythonRepr(attached)}`);
      given.set(option.field, { value: option !== negated, option: name });
    } else if (option.kind === 'eplb') {
      const before = given.get(option.field)?.value as Record<string, unknown> | undefined;
      const settings = path === undefined ? eplbSettings(name, value()) : nested(name, path, value());
      const merged = path === undefined ? settings : { ...before, ...settings };
      given.set(option.field, { value: merged, option: name });
    } else {
      given.set(option.field, { value: converted(option, name, value()), option: name });
    }
  }
  return { given, file, rest };
}

/** `--eplb_config.window_size=10` -> name `--eplb-config`, path `window_size`, attached `10` */
function split(word: string): { name: string; path: string | undefined; attached: string | undefined } {
  if (!word.startsWith('-') || word === '-' || word === '--')
    return { name: word, path: undefined, attached: undefined };
  const equals = word.indexOf('=');
  let head = equals < 0 ? word : word.slice(0, equals);
  let attached = equals < 0 ? undefined : word.slice(equals + 1);
  if (!word.startsWith('--')) {
    // argparse lets a value follow an option of one letter at once.
    const letter = parallelOptions().get(word.slice(0, 2));
    if (attached === undefined && letter !== undefined && /^-[a-z]\d+$/.test(word)) {
      attached = word.slice(2);
      head = word.slice(0, 2);
    }
    return { name: head, path: undefined, attached };
  }
  const dot = head.indexOf('.');
  const name = (dot < 0 ? head : head.slice(0, dot)).replaceAll('_', '-');
  return { name, path: dot < 0 ? undefined : head.slice(dot + 1), attached };
}

function meant(name: string): string {
  const known = [...parallelOptions()].flatMap(([spelling, option]) =>
    option.kind === 'bool' && spelling.startsWith('--')
      ? [spelling, `--no-${spelling.slice(2)}`]
      : [spelling],
  );
  if (!name.startsWith('--')) return '';
  const long = known.filter((spelling) => spelling.startsWith('--'));
  const close = nearest(name, [...long, '--config']);
  return close === undefined ? '' : `. Did you mean ${close}?`;
}

function converted(option: Option, name: string, text: string): unknown {
  if (option.nullable && (text === 'None' || text === '')) return null;
  switch (option.kind) {
    case 'int':
      return int(option.spellings.join('/'), text);
    case 'ints': {
      const list = text.replace(/^\[|\]$/g, '');
      return list.trim() === '' ? [] : list.split(',').map((item) => int(name, item));
    }
    case 'json':
      return json(text);
    default:
      return text;
  }
}

function int(name: string, text: string): number {
  const value = pythonInt(text);
  if (Number.isNaN(value)) throw wrong(`argument ${name}: invalid int value: ${pythonRepr(text)}`);
  return value;
}

/** JSON where it is JSON, the text itself otherwise: as the origin reads nested values. */
function json(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}

function eplbSettings(name: string, text: string): Record<string, unknown> {
  const value = json(text);
  if (!isPlainObject(value)) throw wrong(`argument ${name}: expected a JSON object, got ${pythonRepr(text)}`);
  return Object.assign({}, ...Object.entries(value).map(([key, item]) => setting(name, key, item)));
}

function nested(name: string, path: string, text: string): Record<string, unknown> {
  return setting(name, path, json(text));
}

/** One setting of eplb_config, by the origin's name with underscores or dashes. */
export function setting(name: string, key: string, value: unknown): Record<string, unknown> {
  const snake = toSnake(key).replaceAll('-', '_');
  const camel = eplbNames().camelOf.get(snake);
  if (camel !== undefined) return { [camel]: value };
  const close = nearest(snake, [...eplbNames().camelOf.keys()]);
  const hint = close === undefined ? '' : `. Did you mean ${name}.${close}?`;
  throw wrong(`unknown option ${name}.${key}${hint}`);
}
