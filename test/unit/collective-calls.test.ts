// What a call of a collective becomes: what is counted, where the result goes, and which calls are refused.
import { InvalidArgumentError } from 'node-collectives';
import { describe, expect, test } from 'vitest';
import * as calls from '../../src/group/collectives.ts';
import { ReduceOp } from '../../src/native/binding.ts';

const group = { rank: 1, size: 3 };
const refused = (body: () => unknown): string => {
  try {
    body();
  } catch (error) {
    expect(error).toBeInstanceOf(InvalidArgumentError);
    return (error as Error).message;
  }
  throw new Error('it was taken');
};

describe('reduce', () => {
  test('goes to rank 0 as a sum, in place', () => {
    const array = new Float32Array(4);
    expect(calls.reduce(group, array, {})).toEqual({
      op: 'reduce',
      dtype: 'float32',
      reduceOp: ReduceOp.sum,
      root: 0,
      count: 4,
      input: array,
      out: array,
    });
  });

  test('out counts on the root alone', () => {
    const array = new Int8Array(4);
    const out = new Int8Array(4);
    expect(calls.reduce(group, array, { root: 1, out }).out).toBe(out);
    expect(calls.reduce(group, array, { root: 2, out }).out).toBe(array);
    const wrong = new Int8Array(5);
    expect(refused(() => calls.reduce(group, array, { root: 1, out: wrong }))).toContain('4 elements long');
    expect(calls.reduce(group, array, { root: 0, out: wrong }).out).toBe(array);
  });
});

describe('reduceScatter', () => {
  test('counts one block and makes room for it', () => {
    const array = new Int16Array(6);
    const call = calls.reduceScatter(group, array, { op: 'MAX' });
    expect(call).toMatchObject({ dtype: 'int16', reduceOp: ReduceOp.max, root: -1, count: 2 });
    expect(call.input).toBe(array);
    expect(call.out).toEqual(new Int16Array(2));
    expect(call.out.buffer).not.toBe(array.buffer);
  });

  test("out is memory apart, or this rank's block", () => {
    const memory = new Int16Array(12);
    const array = memory.subarray(3, 9);
    for (const out of [memory.subarray(0, 2), memory.subarray(9, 11), array.subarray(2, 4)]) {
      expect(calls.reduceScatter(group, array, { out }).out).toBe(out);
    }
    for (const out of [array.subarray(0, 2), array.subarray(1, 3), array.subarray(4, 6)]) {
      expect(refused(() => calls.reduceScatter(group, array, { out }))).toContain('overlapping');
    }
    expect(refused(() => calls.reduceScatter(group, array, { out: array }))).toContain('2 elements long');
    expect(refused(() => calls.reduceScatter(group, array, { out: null as never }))).toContain(
      'reduceScatter: out must be a typed array',
    );
  });

  test('a subclass that cuts its views elsewhere decides nothing', () => {
    class Odd extends Int32Array {
      override subarray(): never {
        return new Int32Array(0) as never;
      }
    }
    const array = new Odd(3);
    const out = new Odd(array.buffer as ArrayBuffer, 4, 1);
    expect(calls.reduceScatter(group, array, { out }).out).toBe(out);
  });
});

describe('allToAll', () => {
  test('counts one block; out may be the input', () => {
    const array = new BigInt64Array(9);
    expect(calls.allToAll(group, array, {})).toMatchObject({ dtype: 'int64', reduceOp: 0, count: 3 });
    expect(calls.allToAll(group, array, {}).out).toEqual(new BigInt64Array(9));
    expect(calls.allToAll(group, array, { out: array }).out).toBe(array);
    expect(refused(() => calls.allToAll(group, array, { out: new BigInt64Array(3) }))).toContain(
      '9 elements',
    );
  });
});

test.each([1, 2, 4, 5])('%i elements are no blocks for 3 ranks', (length) => {
  const array = new Int32Array(length);
  for (const body of [() => calls.reduceScatter(group, array, {}), () => calls.allToAll(group, array, {})]) {
    expect(refused(body)).toContain(
      `array's length must be a multiple of the world size, 3, but is ${length}`,
    );
  }
});

test('a Buffer gives a Buffer', () => {
  expect(Buffer.isBuffer(calls.allToAll(group, Buffer.alloc(3), {}).out)).toBe(true);
});
