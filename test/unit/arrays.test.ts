// Arguments of collectives: each mistake is found, and named, before anything is sent.
import { InvalidArgumentError } from 'node-collectives';
import { describe, expect, test } from 'vitest';
import { checkInteger, checkOptions, checkTimeout } from '../../src/arguments.ts';
import { checkArray, checkOut, dtypeOf, reduceOpOf, sameKind } from '../../src/group/arrays.ts';
import { arrayNames } from '../../src/group/known-options.ts';
import { DType, ReduceOp } from '../../src/native/binding.ts';

function refused(body: () => unknown): InvalidArgumentError {
  try {
    body();
  } catch (error) {
    expect(error).toBeInstanceOf(InvalidArgumentError);
    return error as InvalidArgumentError;
  }
  throw new Error('it was taken');
}

const kinds = {
  Int8Array: 'int8',
  Uint8Array: 'uint8',
  Uint8ClampedArray: 'uint8',
  Int16Array: 'int16',
  Uint16Array: 'uint16',
  Int32Array: 'int32',
  Uint32Array: 'uint32',
  BigInt64Array: 'int64',
  BigUint64Array: 'uint64',
  Float32Array: 'float32',
  Float64Array: 'float64',
} as const;
const made = (kind: string, length: number) =>
  new (globalThis as never as Record<string, typeof Uint8Array>)[kind]!(length);

function detached(begin = 0, end = 8): Uint8Array {
  const array = new Uint8Array(8).subarray(begin, end);
  structuredClone(array, { transfer: [array.buffer] });
  return array;
}

describe('the array', () => {
  test.each(Object.entries(kinds))('%s is %s', (kind, dtype) => {
    for (const length of [0, 3]) {
      const array = made(kind, length);
      checkArray('op', 'array', array);
      expect(dtypeOf('op', array, undefined)).toBe(dtype);
      expect(dtypeOf('op', array, dtype)).toBe(dtype);
    }
  });

  test('a Buffer is an Uint8Array, a subarray an array like any', () => {
    checkArray('op', 'array', Buffer.alloc(4));
    checkArray('op', 'array', new Float64Array(10).subarray(3, 5));
  });

  test.each([
    ['nothing', undefined, 'undefined'],
    ['null', null, 'null'],
    ['a number', 5, '5'],
    ['a text', 'text', "'text'"],
    ['a plain array', [1, 2], 'an array of 2'],
    ['a DataView', new DataView(new ArrayBuffer(8)), 'an object of DataView'],
    ['an ArrayBuffer', new ArrayBuffer(8), 'an object of ArrayBuffer'],
    ['an object like one', { length: 2, 0: 1, 1: 2 }, 'an object of Object'],
    ['a function', () => {}, 'a function'],
    ['a shared one', new Int32Array(new SharedArrayBuffer(8)), 'over a SharedArrayBuffer'],
    ['a detached one', detached(), 'over a detached one'],
    ['an empty view of detached memory', detached(4, 4), 'over a detached one'],
  ])('%s is refused', (_, value, shown) => {
    const error = refused(() => checkArray('allReduce', 'array', value));
    expect(error.message).toContain('allReduce: array must be');
    expect(error.message).toContain(`but is ${shown}`);
    expect(error).toMatchObject({ code: 'INVALID_ARGUMENT', op: 'allReduce' });
  });

  test('a resizable one is refused', () => {
    const Resizable = ArrayBuffer as new (length: number, options: { maxByteLength: number }) => ArrayBuffer;
    const error = refused(() =>
      checkArray('op', 'array', new Uint8Array(new Resizable(8, { maxByteLength: 16 }))),
    );
    expect(error.message).toContain('resizable');
  });

  test('long texts are cut in messages', () => {
    expect(refused(() => checkArray('op', 'array', 'x'.repeat(1_000))).message.length).toBeLessThan(300);
  });
});

describe('dtype', () => {
  test('the 16-bit floats are named, and held in a Uint16Array', () => {
    expect(dtypeOf('op', new Uint16Array(1), 'float16')).toBe('float16');
    expect(dtypeOf('op', new Uint16Array(1), 'bfloat16')).toBe('bfloat16');
  });

  test('the 8-bit floats are named, and held in a Uint8Array', () => {
    expect(dtypeOf('op', new Uint8Array(1), 'float8e4m3')).toBe('float8e4m3');
    expect(dtypeOf('op', Buffer.alloc(1), 'float8e5m2')).toBe('float8e5m2');
  });

  test.each([
    ['another type', new Int32Array(1), 'float32'],
    ['a half in signed memory', new Int16Array(1), 'float16'],
    ['8 bits in signed memory', new Int8Array(1), 'float8e4m3'],
    ['16 bits in half of it', new Uint8Array(1), 'float16'],
    ['an unknown name', new Int32Array(1), 'int128'],
    ['a property of every object', new Int32Array(1), 'toString'],
    ['a number', new Int32Array(1), DType.int32],
    ['null', new Int32Array(1), null],
  ])('%s is refused', (_, array, named) => {
    expect(refused(() => dtypeOf('broadcast', array, named)).message).toMatch(/^broadcast: dtype must be/);
  });
});

describe('op', () => {
  test.each(Object.keys(ReduceOp).filter((name) => name !== 'none'))('%s', (name) => {
    expect(reduceOpOf('op', name, 'int32')).toBe(ReduceOp[name as 'sum']);
    expect(reduceOpOf('op', name.toUpperCase(), 'int32')).toBe(ReduceOp[name as 'sum']);
  });

  test.each(['none', 'NONE', 'Sum', '', 'toString', undefined, null, 3])('%s is refused', (named) => {
    expect(refused(() => reduceOpOf('allReduce', named, 'int32')).message).toMatch(
      /^allReduce: op must be one of/,
    );
  });

  test.each(['float8e4m3', 'float8e5m2'] as const)('no reduction of %s', (dtype) => {
    for (const op of ['sum', 'max', 'avg']) {
      expect(refused(() => reduceOpOf('allReduce', op, dtype)).message).toBe(
        `allReduce: dtype must be a type that the CPU reduces; 8-bit floats are only moved there, but is '${dtype}'`,
      );
    }
  });

  test.each(['float16', 'bfloat16', 'float32', 'float64'] as const)('no bits of %s', (dtype) => {
    for (const op of ['band', 'bor', 'bxor']) {
      expect(refused(() => reduceOpOf('allReduce', op, dtype)).message).toContain(dtype);
    }
  });
});

describe('out', () => {
  const input = new Float32Array(4);
  const memory = new Float32Array(12);

  test.each([
    ['the input itself', input, input],
    ['another view of the same place', input, new Float32Array(input.buffer)],
    ['memory of its own', input, new Float32Array(4)],
    ['the neighbour in one buffer', memory.subarray(0, 4), memory.subarray(4, 8)],
  ])('%s is taken', (_, from, out) => {
    checkOut('op', from, out, 4);
  });

  test.each([
    ['another type', new Int32Array(4), 'a Float32Array like the input'],
    ['no array', {}, 'a typed array'],
    ['null', null, 'a typed array'],
    ['too short', new Float32Array(3), '4 elements long, but is 3'],
    ['too long', new Float32Array(5), '4 elements long, but is 5'],
  ])('%s is refused', (_, out, expected) => {
    const { message } = refused(() => checkOut('allReduce', input, out, 4));
    expect(message).toContain('allReduce: out must be');
    expect(message).toContain(expected);
  });

  test('overlapping the input by a part is refused', () => {
    expect(refused(() => checkOut('op', memory.subarray(0, 4), memory.subarray(2, 6), 4)).message).toContain(
      'overlapping',
    );
  });
});

test.each([0, -1, Number.NaN, Number.POSITIVE_INFINITY, '5', 5n, null, {}])(
  'time-out %s is refused',
  (value) => {
    expect(refused(() => checkTimeout('barrier', 'timeoutMs', value)).message).toContain(
      'barrier: timeoutMs must be a positive number of milliseconds',
    );
  },
);

test.each([0.5, 1, 300_000, Number.MAX_SAFE_INTEGER])('time-out %s is taken', (value) => {
  checkTimeout('op', 'timeoutMs', value);
});

test.each([-1, 4, 1.5, Number.NaN, '1', 1n, null, undefined])('root %s of 4 ranks is refused', (value) => {
  expect(refused(() => checkInteger('broadcast', 'root', value, 0, 3)).message).toContain(
    'broadcast: root must be a whole number from 0 to 3',
  );
});

test.each([null, 5, 'text', () => {}])('options %s are refused', (value) => {
  expect(refused(() => checkOptions('allReduce', value, arrayNames.allReduce)).message).toContain(
    'allReduce: options must be an object',
  );
});

test('an array of the same kind is made without its constructor, which is anything for a subclass', () => {
  class Odd extends Float32Array {
    constructor() {
      super(1);
    }
  }
  expect(sameKind(new Odd(), 5)).toEqual(new Float32Array(5));
  expect(Buffer.isBuffer(sameKind(Buffer.from('x'), 3))).toBe(true);
  for (const kind of Object.keys(kinds)) expect(sameKind(made(kind, 1), 2)).toEqual(made(kind, 2));
});
