import { describe, expect, it } from 'vitest';
import { InvalidArgumentError } from '../../src/errors.ts';
import { optionNames } from '../../src/option-names.ts';
import {
  checkAmount,
  checkFd,
  checkHost,
  checkKey,
  checkKeys,
  checkOptions,
  checkPort,
  checkSignal,
  checkTimeout,
  checkValue,
  limits,
} from '../../src/store/arguments.ts';

const op = 'store.test';
const names = optionNames<{ timeoutMs: number }>({ timeoutMs: true });

function refused(check: () => unknown, named: RegExp): void {
  expect(check).toThrow(InvalidArgumentError);
  expect(check).toThrow(named);
}

describe('arguments of the store', () => {
  it('puts the prefix before a key and counts it in', () => {
    expect(checkKey(op, '/', '')).toBe('/');
    expect(checkKey(op, '/p/', 'k')).toBe('/p/k');
    expect(checkKey(op, '/', 'k'.repeat(limits.key - 1))).toHaveLength(limits.key);
    refused(() => checkKey(op, '/', 'k'.repeat(limits.key)), /key has 8193 bytes, 8192 are allowed/);
    refused(() => checkKey(op, '/', 'é'.repeat(limits.key / 2)), /key has 8193 bytes/);
    for (const key of [undefined, null, 7, {}, Buffer.from('k')]) {
      refused(() => checkKey(op, '/', key), /key must be a string, got /);
    }
  });

  it('names the entry of a list that is wrong', () => {
    expect(checkKeys(op, '/', ['a', 'b'])).toEqual(['/a', '/b']);
    refused(() => checkKeys(op, '/', ['a', 1]), /keys\[1\] must be a string, got number 1/);
    refused(() => checkKeys(op, '/', 'abc'), /keys must be an array of strings, got "abc"/);
    refused(() => checkKeys(op, '/', new Array(limits.list + 1)), /keys has 131073 entries/);
  });

  it('takes strings and bytes as values', () => {
    expect(checkValue(op, 'ä')).toEqual(Buffer.from([0xc3, 0xa4]));
    expect(checkValue(op, new Uint8Array([1]))).toEqual(new Uint8Array([1]));
    for (const value of [1, null, undefined, [1], new ArrayBuffer(1), new Uint16Array(1)]) {
      refused(() => checkValue(op, value), /value must be a string or a Uint8Array, got /);
    }
    refused(() => checkValue(op, Buffer.alloc(limits.value + 1), 'desired'), /desired has 8388609 bytes/);
  });

  it('takes 64-bit amounts', () => {
    expect(checkAmount(op, -3)).toBe(-3n);
    expect(checkAmount(op, -(2n ** 63n))).toBe(-(2n ** 63n));
    refused(() => checkAmount(op, 2n ** 63n), /amount must fit 64 bits/);
    for (const amount of [0.5, Number.NaN, 2 ** 53, '1', undefined])
      refused(() => checkAmount(op, amount), /amount/);
  });

  it('checks ports, hosts, descriptors, time-outs, signals and options', () => {
    expect(checkPort(op, 0, 0)).toBe(0);
    for (const port of [-1, 65_536, 1.5, '80', undefined])
      refused(() => checkPort(op, port, 0), /port must be/);
    refused(() => checkPort(op, 0, 1), /port must be an integer from 1/);
    for (const host of ['', 'a\0b', 1, null]) refused(() => checkHost(op, host), /host must be/);
    for (const fd of [-1, 0.5, '3']) refused(() => checkFd(op, fd), /listenFd must be/);
    expect(checkTimeout(op, undefined, 100)).toBe(100);
    expect(checkTimeout(op, 0.2, 100)).toBe(1);
    expect(checkTimeout(op, Number.POSITIVE_INFINITY, 100)).toBeGreaterThan(1e9);
    for (const ms of [0, -1, Number.NaN, '5', null])
      refused(() => checkTimeout(op, ms, 1), /timeoutMs must be/);
    for (const signal of [{}, null, 'abort'])
      refused(() => checkSignal(op, signal), /signal must be an AbortSignal/);
    for (const options of [null, 5, 'x'])
      refused(() => checkOptions(op, options, names), /options must be an object/);
  });
});
