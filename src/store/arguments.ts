/** Checks of what callers of the store pass in. Everything wrong is found before anything is sent. */
import { InvalidArgumentError } from '../errors.ts';
import { checkNames, type OptionNames } from '../option-names.ts';

/** Limits of the protocol, in bytes and entries; PyTorch's own server has the same. */
export const limits = { key: 8 * 1024, value: 8 * 1024 * 1024, list: 131_072 } as const;

const longest = 365 * 24 * 3600 * 1000;

function invalid(op: string, message: string): InvalidArgumentError {
  return new InvalidArgumentError(`${op}: ${message}`, { op });
}

function shown(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (typeof value === 'string') return JSON.stringify(value.slice(0, 40));
  if (typeof value === 'object') return value.constructor?.name ?? 'an object';
  return typeof value === 'function' ? 'a function' : `${typeof value} ${String(value)}`;
}

/** @returns the raw key: prefix and key */
export function checkKey(op: string, prefix: string, key: unknown, name = 'key'): string {
  if (typeof key !== 'string') throw invalid(op, `${name} must be a string, got ${shown(key)}`);
  const raw = prefix + key;
  // A UTF-16 unit is at most three bytes of UTF-8.
  if (raw.length * 3 > limits.key) {
    const bytes = Buffer.byteLength(raw);
    if (bytes > limits.key) throw invalid(op, `${name} has ${bytes} bytes, ${limits.key} are allowed`);
  }
  return raw;
}

export function checkKeys(op: string, prefix: string, keys: unknown): string[] {
  if (!Array.isArray(keys)) throw invalid(op, `keys must be an array of strings, got ${shown(keys)}`);
  if (keys.length > limits.list)
    throw invalid(op, `keys has ${keys.length} entries, ${limits.list} are allowed`);
  return keys.map((key, i) => checkKey(op, prefix, key, `keys[${i}]`));
}

export function checkValue(op: string, value: unknown, name = 'value'): Uint8Array {
  const bytes = typeof value === 'string' ? Buffer.from(value) : value;
  if (!(bytes instanceof Uint8Array)) {
    throw invalid(op, `${name} must be a string or a Uint8Array, got ${shown(value)}`);
  }
  if (bytes.byteLength > limits.value) {
    throw invalid(op, `${name} has ${bytes.byteLength} bytes, ${limits.value} are allowed`);
  }
  return bytes;
}

export function checkAmount(op: string, amount: unknown): bigint {
  if (typeof amount === 'bigint') {
    if (BigInt.asIntN(64, amount) !== amount) throw invalid(op, 'amount must fit 64 bits with sign');
    return amount;
  }
  if (typeof amount !== 'number' || !Number.isSafeInteger(amount)) {
    throw invalid(op, `amount must be a bigint or a safe integer, got ${shown(amount)}`);
  }
  return BigInt(amount);
}

export function checkPort(op: string, port: unknown, lowest: 0 | 1): number {
  if (typeof port !== 'number' || !Number.isInteger(port) || port < lowest || port > 65_535) {
    throw invalid(op, `port must be an integer from ${lowest} to 65535, got ${shown(port)}`);
  }
  return port;
}

export function checkHost(op: string, host: unknown): string {
  if (typeof host !== 'string' || host === '' || host.includes('\0')) {
    throw invalid(op, `host must be a host name or an address, got ${shown(host)}`);
  }
  return host;
}

export function checkFd(op: string, fd: unknown): number {
  if (typeof fd !== 'number' || !Number.isInteger(fd) || fd < 0 || fd > 0x7fffffff) {
    throw invalid(op, `listenFd must be a file descriptor, got ${shown(fd)}`);
  }
  return fd;
}

/** Milliseconds, above 0; Infinity means no limit. */
export function checkTimeout(op: string, ms: unknown, fallback: number, name = 'timeoutMs'): number {
  const value = ms === undefined ? fallback : ms;
  if (typeof value !== 'number' || !(value > 0)) {
    throw invalid(op, `${name} must be a number of milliseconds above 0, got ${shown(ms)}`);
  }
  return Math.min(Math.ceil(value), longest);
}

export function checkSignal(op: string, signal: unknown): AbortSignal | undefined {
  if (signal === undefined) return undefined;
  if (!(signal instanceof AbortSignal))
    throw invalid(op, `signal must be an AbortSignal, got ${shown(signal)}`);
  return signal;
}

export function checkOptions(op: string, options: unknown, names: OptionNames): object {
  if (options === undefined) return {};
  if (typeof options !== 'object' || options === null) {
    throw invalid(op, `options must be an object, got ${shown(options)}`);
  }
  checkNames(op, options, names);
  return options;
}
