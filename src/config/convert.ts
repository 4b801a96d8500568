/**
 * From what a caller gave to the value of a field, or to what is wrong with it: the lax rules of the origin.
 */

/** One thing wrong with a value; `path` leads further into it. */
export interface Issue {
  readonly type: string;
  readonly msg: string;
  readonly path?: readonly (string | number)[];
}

export type Converted<T> = { readonly value: T } | { readonly issues: readonly Issue[] };

const refuse = (type: string, msg: string): { issues: Issue[] } => ({ issues: [{ type, msg }] });

const intType = refuse('int_type', 'Input should be a valid integer');
const intParsing = refuse(
  'int_parsing',
  'Input should be a valid integer, unable to parse string as an integer',
);
const intFraction = refuse(
  'int_from_float',
  'Input should be a valid integer, got a number with a fractional part',
);
const intFinite = refuse('finite_number', 'Input should be a finite number');
/**
 * The origin says this beyond 4,300 digits; here it is said beyond 2^53 - 1, where a number would lose
 * digits.
 */
const intSize = refuse(
  'int_parsing_size',
  'Unable to parse input string as an integer, exceeded maximum size',
);
const boolType = refuse('bool_type', 'Input should be a valid boolean');
const boolParsing = refuse('bool_parsing', 'Input should be a valid boolean, unable to interpret input');
const stringUnicode = refuse(
  'string_unicode',
  'Input should be a valid string, unable to parse raw data as a unicode string',
);

const loneSurrogate = /\p{Surrogate}/u;
// `\s` would take U+FEFF as well, which is no White_Space.
const intText = /^\p{White_Space}*([+-]?\d+(?:_\d+)*)(?:\.0+)?\p{White_Space}*$/u;

export function toInt(input: unknown): Converted<number> {
  switch (typeof input) {
    case 'number':
      if (!Number.isFinite(input)) return intFinite;
      if (!Number.isInteger(input)) return intFraction;
      return Number.isSafeInteger(input) ? { value: input + 0 } : intSize;
    case 'boolean':
      return { value: input ? 1 : 0 };
    case 'bigint':
      return sized(Number(input));
    case 'string': {
      if (loneSurrogate.test(input)) return stringUnicode;
      const digits = intText.exec(input)?.[1];
      return digits === undefined ? intParsing : sized(Number(digits.replaceAll('_', '')));
    }
    default:
      return intType;
  }
}

function sized(value: number): Converted<number> {
  return Number.isSafeInteger(value) ? { value: value + 0 } : intSize;
}

const yes = new Set(['1', 't', 'true', 'y', 'yes', 'on']);
const no = new Set(['0', 'f', 'false', 'n', 'no', 'off']);

export function toBool(input: unknown): Converted<boolean> {
  switch (typeof input) {
    case 'boolean':
      return { value: input };
    case 'number':
      if (input === 0) return { value: false };
      if (input === 1) return { value: true };
      // Beyond 64 bits the origin no longer takes it for a number to be interpreted.
      return Number.isInteger(input) && Math.abs(input) < 2 ** 63 ? boolParsing : boolType;
    case 'bigint':
      return toBool(Number(input));
    case 'string': {
      const word = input.toLowerCase();
      if (yes.has(word)) return { value: true };
      if (no.has(word)) return { value: false };
      return loneSurrogate.test(input) ? stringUnicode : boolParsing;
    }
    default:
      return boolType;
  }
}

/** A list of whole numbers; the result is a list of its own. */
export function toIntList(input: unknown): Converted<number[]> {
  if (!Array.isArray(input)) return refuse('list_type', 'Input should be a valid list');
  const value: number[] = [];
  const issues: Issue[] = [];
  for (let i = 0; i < input.length; i += 1) {
    const item = toInt(input[i]);
    if ('value' in item) value.push(item.value);
    else for (const issue of item.issues) issues.push({ ...issue, path: [i] });
  }
  return issues.length > 0 ? { issues } : { value };
}

export function toLiteral(names: readonly string[]): (input: unknown) => Converted<string> {
  const known = new Set<unknown>(names);
  const wrong = refuse('literal_error', `Input should be ${listed(names)}`);
  return (input) => {
    if (known.has(input)) return { value: input as string };
    return typeof input === 'string' && loneSurrogate.test(input) ? stringUnicode : wrong;
  };
}

/** `'a', 'b' or 'c'` */
function listed(names: readonly string[]): string {
  const quoted = names.map((name) => `'${name}'`);
  const last = quoted.pop() as string;
  return quoted.length === 0 ? last : `${quoted.join(', ')} or ${last}`;
}

export const executorNames = ['ray', 'mp', 'uni', 'external_launcher'] as const;
const executorIssues: readonly Issue[] = [
  { path: ['str'], type: 'string_type', msg: 'Input should be a valid string' },
  {
    path: [`literal[${executorNames.map((name) => `'${name}'`).join(',')}]`],
    type: 'literal_error',
    msg: `Input should be ${listed(executorNames)}`,
  },
  { path: ['custom-error[is-instance[type]]'], type: 'is_type', msg: 'Input should be a type' },
];

/** Any text or any class: each kind of value that it is not gives an entry. */
export function toExecutorBackend<C>(input: unknown): Converted<string | C> {
  if (typeof input === 'string' || isClass(input)) return { value: input as string | C };
  return { issues: executorIssues };
}

/** Something that `new` takes; arrow functions, methods and async functions are not. */
export function isClass(input: unknown): boolean {
  return typeof input === 'function' && Object.hasOwn(input, 'prototype') && !isGenerator(input);
}

function isGenerator(input: object): boolean {
  const tag = Object.prototype.toString.call(input);
  return tag === '[object GeneratorFunction]' || tag === '[object AsyncGeneratorFunction]';
}
