/** The configuration hash: canonical JSON of the hashed fields, and its SHA-256. */
import { InvalidArgumentError } from '../errors.ts';
import { EPLBConfig } from './eplb-config.ts';
import { toSnake } from './names.ts';
import { parallelSchema } from './parallel-schema.ts';
import { asciiJson, isPlainObject } from './python.ts';

/** A value in canonical form: JSON of scalars and lists. */
export type HashFactor = null | boolean | number | string | HashFactor[];

function canonical(name: string, value: unknown): HashFactor {
  if (value === null || typeof value === 'boolean' || typeof value === 'string') return value;
  if (typeof value === 'number') return value;
  if (Array.isArray(value)) return value.map((item) => canonical(name, item));
  if (value instanceof EPLBConfig) {
    return ['vllm.config.parallel.EPLBConfig', pairs(name, value.toSnakeCase())];
  }
  if (isPlainObject(value)) return pairs(name, value);
  throw new InvalidArgumentError(
    `computeHash: ${name} holds a ${typeof value}, which has no canonical form`,
    {
      op: 'computeHash',
    },
  );
}

function pairs(name: string, value: Readonly<Record<string, unknown>>): HashFactor[] {
  return Object.keys(value)
    .sort(byCodePoint)
    .map((key) => [key, canonical(`${name}.${key}`, value[key])]);
}

function byCodePoint(a: string, b: string): number {
  const x = [...a];
  const y = [...b];
  for (let i = 0; i < x.length && i < y.length; i += 1) {
    const difference = (x[i]?.codePointAt(0) ?? 0) - (y[i]?.codePointAt(0) ?? 0);
    if (difference !== 0) return difference;
  }
  return x.length - y.length;
}

let sorted: readonly (readonly [camel: string, snake: string])[] | undefined;

/** The hashed fields, by snake_case name in the order in which they are written. */
export function hashFactors(config: object): Record<string, HashFactor> {
  sorted ??= parallelSchema()
    .hashed.map((camel) => [camel, toSnake(camel)] as const)
    .sort((a, b) => byCodePoint(a[1], b[1]));
  const out: Record<string, HashFactor> = {};
  for (const [camel, snake] of sorted)
    out[snake] = canonical(camel, (config as Record<string, unknown>)[camel]);
  return out;
}

/** As Python's `json.dumps` writes it. */
export function hashJson(value: HashFactor | Readonly<Record<string, HashFactor>>): string {
  if (typeof value === 'string') return asciiJson(value);
  if (typeof value === 'number') return numberJson(value);
  if (value === null || typeof value === 'boolean') return String(value);
  if (Array.isArray(value)) return `[${value.map(hashJson).join(', ')}]`;
  return `{${Object.entries(value)
    .map(([key, item]) => `${asciiJson(key)}: ${hashJson(item)}`)
    .join(', ')}}`;
}

function numberJson(value: number): string {
  if (Number.isInteger(value)) return BigInt(value).toString();
  if (!Number.isFinite(value)) return Number.isNaN(value) ? 'NaN' : value > 0 ? 'Infinity' : '-Infinity';
  // Python writes exponents with two digits, and from 1e-5 down; a field holds such a number only by
  // assignment.
  if (Math.abs(value) < 1e-4) {
    const [digits, exponent] = value.toExponential().split('e-');
    return `${digits}e-${(exponent as string).padStart(2, '0')}`;
  }
  return String(value);
}

/** Lower-case hexadecimal. */
export function sha256(text: string): string {
  // Loaded here: importing the package stays cheap.
  return process.getBuiltinModule('node:crypto').createHash('sha256').update(text).digest('hex');
}
