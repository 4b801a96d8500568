/** Checks of arguments, and the error that names one which is wrong. */
import { InvalidArgumentError } from './errors.ts';
import { checkNames, type OptionNames } from './option-names.ts';

export function refuse(op: string, argument: string, expected: string, got: unknown): InvalidArgumentError {
  return refuseAs(op, argument, expected, shown(got));
}

export function refuseAs(op: string, argument: string, expected: string, got: string): InvalidArgumentError {
  return new InvalidArgumentError(`${op}: ${argument} must be ${expected}, but is ${got}`, { op });
}

function shown(value: unknown): string {
  if (value === null) return 'null';
  if (typeof value === 'string') return `'${value.length > 40 ? `${value.slice(0, 40)}…` : value}'`;
  if (typeof value === 'bigint') return `${value}n`;
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (typeof value === 'object') return `an object of ${value.constructor?.name ?? 'no class'}`;
  return typeof value === 'function' ? 'a function' : String(value);
}

/** An option, or what it is where it was left out; null was not left out, and is refused like any wrong value. */
export function orDefault<T, D>(value: T | undefined, otherwise: D): T | D {
  return value === undefined ? otherwise : value;
}

/** Options that were given have to be an object of known names: null is a mistake, and none of our defaults. */
export function checkOptions(op: string, options: unknown, names: OptionNames): asserts options is object {
  if (typeof options !== 'object' || options === null) throw refuse(op, 'options', 'an object', options);
  checkNames(op, options, names);
}

export function checkTimeout(op: string, name: string, value: unknown): asserts value is number {
  if (typeof value !== 'number' || !Number.isFinite(value) || value <= 0) {
    throw refuse(op, name, 'a positive number of milliseconds', value);
  }
}

export function checkSignal(op: string, value: unknown): asserts value is AbortSignal | undefined {
  if (value === undefined || value instanceof AbortSignal) return;
  throw refuse(op, 'signal', 'an AbortSignal', value);
}

export function checkInteger(op: string, name: string, value: unknown, from: number, to: number): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < from || value > to) {
    throw refuse(op, name, `a whole number from ${from} to ${to}`, value);
  }
  return value;
}
