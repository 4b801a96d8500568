// Collectives as JavaScript sees them: every type and reduction, in any size, and every mistake found in
// time.
import { types } from 'node:util';
import { type CollectiveArray, InvalidArgumentError, ProcessGroup } from 'node-collectives';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { closeAll, failureOf, formHere, here, meeting } from '../fixtures/lifecycle/groups.ts';
import {
  contribution,
  expected,
  integerOps,
  type Kind,
  kinds,
  type Op,
  opsOf,
} from '../fixtures/lifecycle/numbers.ts';
import { formPuppets } from '../fixtures/lifecycle/strings.ts';

const named = (kind: Kind) => (kind.named === undefined ? {} : { dtype: kind.named });
const kindOf = (name: string) => kinds.find((kind) => kind.name === name) as Kind;
const bytes = (array: CollectiveArray) => Buffer.from(array.buffer, array.byteOffset, array.byteLength);

/** To the last bit; a difference is shown where it begins, not as a list of 100,000 numbers. */
function expectSame(got: CollectiveArray, wanted: CollectiveArray, what: string): void {
  expect(got.constructor, what).toBe(wanted.constructor);
  if (bytes(got).equals(bytes(wanted))) return;
  const at = wanted.findIndex((value: unknown, i: number) => !Object.is(value, got[i]));
  expect([at, ...got.slice(at, at + 8)], `${what}, from element ${at}`).toEqual([
    at,
    ...wanted.slice(at, at + 8),
  ]);
  throw new Error(`${what}: the lengths differ, ${got.length} and ${wanted.length}`);
}

describe.each([1, 2, 3, 5])('%i ranks in this process', (size) => {
  let groups: ProcessGroup[];
  beforeAll(async () => {
    groups = await formHere(size);
  });
  afterAll(() => closeAll(groups));

  async function reduce(kind: Kind, op: Op, length: number, apart: boolean): Promise<void> {
    const inputs = groups.map((group) => contribution(kind, group.rank, length));
    const outs = inputs.map(() => kind.make(length));
    const results = await Promise.all(
      groups.map((group, i) =>
        group.allReduce(inputs[i]!, { op, ...named(kind), ...(apart ? { out: outs[i]! } : {}) }),
      ),
    );
    const wanted = expected(kind, op, size, length);
    for (const [rank, result] of results.entries()) {
      const what = `${kind.name} x ${length}, ${op}, rank ${rank} of ${size}`;
      expect(result).toBe(apart ? outs[rank] : inputs[rank]);
      expectSame(result, wanted, what);
      if (apart) expectSame(inputs[rank]!, contribution(kind, rank, length), `${what}: the input`);
    }
  }

  test.each(kinds)('allReduce of $name', async (kind) => {
    for (const op of opsOf(kind)) {
      for (const [length, apart] of [
        [0, false],
        [1, true],
        [7, false],
        [1_000, true],
      ] as const) {
        await reduce(kind, op, length, apart);
      }
    }
  });

  test('allReduce of 100,000 elements', async () => {
    for (const [name, op] of [
      ['Uint8ClampedArray', 'sum'],
      ['Int32Array', 'max'],
      ['BigInt64Array', 'avg'],
      ['Float32Array', 'sum'],
      ['Float64Array', 'avg'],
      ['bfloat16', 'avg'],
    ] as const) {
      for (const apart of [false, true]) await reduce(kindOf(name), op, 100_000, apart);
    }
  });

  test.each(kinds)('broadcast and allGather of $name', async (kind) => {
    for (const length of [0, 1, 1_000, ...(kind.name === 'Float64Array' ? [100_000] : [])]) {
      const parts = groups.map((group) => contribution(kind, group.rank, length));
      const root = length % size;
      const copies = parts.map((part) => part.slice() as CollectiveArray);
      const told = await Promise.all(
        groups.map((group, i) => group.broadcast(copies[i]!, { root, ...named(kind) })),
      );
      for (const [i, got] of told.entries()) {
        expect(got).toBe(copies[i]);
        expectSame(got, parts[root]!, `broadcast of ${kind.name} x ${length}`);
      }

      const wanted = kind.make(length * size);
      for (const [rank, part] of parts.entries())
        (wanted as Float64Array).set(part as Float64Array, rank * length);
      const outs = parts.map(() => kind.make(length * size));
      const given = await Promise.all(
        groups.map((group, i) => group.allGather(parts[i]!, { out: outs[i]!, ...named(kind) })),
      );
      const made = await Promise.all(groups.map((group, i) => group.allGather(parts[i]!, named(kind))));
      for (let rank = 0; rank < size; rank += 1) {
        expect(given[rank]).toBe(outs[rank]);
        expectSame(given[rank]!, wanted, `allGather of ${kind.name} x ${length}, out given`);
        expectSame(made[rank]!, wanted, `allGather of ${kind.name} x ${length}`);
      }
    }
  });

  test('allGather in place: the input is its part of the output', async () => {
    const outs = groups.map(() => new Int32Array(size * 3));
    await Promise.all(
      groups.map((group, rank) => {
        const part = outs[rank]!.subarray(rank * 3, rank * 3 + 3).fill(rank + 1);
        return group.allGather(part, { out: outs[rank]! });
      }),
    );
    for (const out of outs) expect([...out]).toEqual(Array.from(out, (_, i) => Math.floor(i / 3) + 1));
  });

  test('views are read and written where they are', async () => {
    const results = await Promise.all(
      groups.map(async (group) => {
        const memory = new Float64Array(10).fill(-1);
        await group.allReduce(memory.subarray(4, 6).fill(group.rank), { op: 'max' });
        return [...memory];
      }),
    );
    const rest = [-1, -1, -1, -1];
    for (const memory of results) expect(memory).toEqual([...rest, size - 1, size - 1, ...rest]);
  });

  test('100 different calls, none awaited, run in call order', async () => {
    const calls = groups.map((group) =>
      Array.from({ length: 100 }, (_, i): Promise<CollectiveArray | undefined> => {
        const length = [1, 0, 17, 3_000][i % 4]!;
        if (i % 5 === 0) return group.barrier() as Promise<undefined>;
        if (i % 5 === 1)
          return group.broadcast(new Int32Array(length).fill(group.rank + i), { root: i % size });
        if (i % 5 === 2) return group.allGather(new Int32Array(length).fill(group.rank + i));
        const op = integerOps[i % 4]!;
        return group.allReduce(new Int32Array(length).fill(group.rank + 1), { op });
      }),
    );
    const order: number[] = [];
    for (const [i, call] of calls[0]!.entries()) void call.then(() => order.push(i));
    const [first, ...others] = await Promise.all(calls.map((list) => Promise.all(list)));
    expect(order).toEqual(Array.from({ length: 100 }, (_, i) => i));
    for (const other of others) expect(other).toEqual(first);
    const ranks = Array.from({ length: size }, (_, rank) => rank + 1);
    const folds: Record<string, number> = {
      sum: ranks.reduce((a, b) => a + b),
      prod: ranks.reduce((a, b) => a * b),
      min: 1,
      max: size,
    };
    for (const [i, result] of first!.entries()) {
      if (i % 5 === 1)
        expect([...result!]).toEqual(Array.from({ length: result!.length }, () => (i % size) + i));
      if (i % 5 > 2)
        expect([...result!]).toEqual(Array.from({ length: result!.length }, () => folds[integerOps[i % 4]!]));
    }
  });
});

test('ranks in processes of their own get the same', async () => {
  const ranks = await formPuppets(3);
  const values = (rank: number) => Array.from({ length: 1_000 }, (_, i) => (i % 17) * (rank + 1) - 8);
  const all = <T>(what: string, args: (rank: number) => Record<string, unknown>) =>
    Promise.all(ranks.map((each) => each.call<T>(what, args(each.rank))));
  const reduced = await all<number[]>('reduce', (rank) => ({ type: 'Float32Array', values: values(rank) }));
  const sum = values(0).map((v, i) => v + values(1)[i]! + values(2)[i]!);
  expect(reduced).toEqual([sum, sum, sum]);
  const gathered = await all<number[]>('gather', (rank) => ({ type: 'Int16Array', values: values(rank) }));
  const parts = [...values(0), ...values(1), ...values(2)];
  expect(gathered).toEqual([parts, parts, parts]);
  const told = await all<number[]>('broadcast', (rank) => ({
    type: 'Float64Array',
    values: values(rank),
    options: { root: 2 },
  }));
  expect(told).toEqual([values(2), values(2), values(2)]);
});

describe('a wrong argument', () => {
  let groups: ProcessGroup[];
  beforeAll(async () => {
    groups = await formHere(2);
  });
  afterAll(() => closeAll(groups));

  const detached = () => {
    const array = new Int32Array(4);
    structuredClone(array, { transfer: [array.buffer] });
    return array;
  };
  const resizable = () => {
    const Resizable = ArrayBuffer as new (length: number, options: { maxByteLength: number }) => ArrayBuffer;
    return new Int32Array(new Resizable(16, { maxByteLength: 32 }));
  };
  /** Says that it holds more than it does: native code must not believe it. */
  class Liar extends Int32Array {
    override get length(): number {
      return 1_000_000;
    }
  }
  const ok = () => new Int32Array(4);
  const memory = new Int32Array(8);
  const any = (value: unknown) => value as never;

  test.each<[string, string, (group: ProcessGroup) => Promise<unknown>]>([
    ['allReduce of nothing', 'array', (g) => g.allReduce(any(undefined))],
    ['allReduce of null', 'array', (g) => g.allReduce(any(null))],
    ['allReduce of a plain array', 'array', (g) => g.allReduce(any([1, 2, 3]))],
    ['allReduce of a DataView', 'array', (g) => g.allReduce(any(new DataView(new ArrayBuffer(8))))],
    ['allReduce of detached memory', 'array', (g) => g.allReduce(detached())],
    [
      'allReduce of shared memory',
      'array',
      (g) => g.allReduce(any(new Int32Array(new SharedArrayBuffer(16)))),
    ],
    ['allReduce of resizable memory', 'array', (g) => g.allReduce(resizable())],
    ['an array that lies about its length', 'array', (g) => g.allReduce(new Liar(4))],
    [
      'an output that lies about its length',
      'out',
      (g) => g.allReduce(new Int32Array(1_000_000), { out: any(new Liar(8)) }),
    ],
    ['an unknown op', 'op', (g) => g.allReduce(ok(), { op: any('average') })],
    ['bits of floats', 'op', (g) => g.allReduce(new Float32Array(4), { op: 'bor' })],
    ['another dtype', 'dtype', (g) => g.allReduce(ok(), { dtype: 'float32' })],
    ['an unknown dtype', 'dtype', (g) => g.allReduce(ok(), { dtype: any('int4') })],
    ['an output of another type', 'out', (g) => g.allReduce(ok(), { out: any(new Uint32Array(4)) })],
    ['an output of another length', 'out', (g) => g.allReduce(ok(), { out: new Int32Array(5) })],
    ['an output that is null', 'array', (g) => g.allReduce(any(null), { out: any(null) })],
    [
      'an output that is shared',
      'out',
      (g) => g.allReduce(ok(), { out: any(new Int32Array(new SharedArrayBuffer(16))) }),
    ],
    [
      'an output over half of the input',
      'out',
      (g) => g.allReduce(memory.subarray(0, 4), { out: memory.subarray(2, 6) }),
    ],
    ['a gather into too little', 'out', (g) => g.allGather(ok(), { out: new Int32Array(4) })],
    ['a gather of a plain array', 'array', (g) => g.allGather(any([1]))],
    ['a root that is no rank', 'root', (g) => g.broadcast(ok(), { root: 2 })],
    ['a negative root', 'root', (g) => g.broadcast(ok(), { root: -1 })],
    ['a root that is half a rank', 'root', (g) => g.broadcast(ok(), { root: 0.5 })],
    ['a root that is a text', 'root', (g) => g.broadcast(ok(), { root: any('0') })],
    ['a broadcast of a Set', 'array', (g) => g.broadcast(any(new Set()))],
    ['no time at all', 'timeoutMs', (g) => g.allReduce(ok(), { timeoutMs: 0 })],
    ['time that is no number', 'timeoutMs', (g) => g.allReduce(ok(), { timeoutMs: Number.NaN })],
    ['time as a text', 'timeoutMs', (g) => g.barrier({ timeoutMs: any('5') })],
    ['time that never ends', 'timeoutMs', (g) => g.allGather(ok(), { timeoutMs: Number.POSITIVE_INFINITY })],
    ['negative time to close', 'timeoutMs', (g) => g.close({ timeoutMs: -1 })],
    ['options that are null, allReduce', 'options', (g) => g.allReduce(ok(), any(null))],
    ['options that are null, broadcast', 'options', (g) => g.broadcast(ok(), any(null))],
    ['options that are null, allGather', 'options', (g) => g.allGather(ok(), any(null))],
    ['options that are null, barrier', 'options', (g) => g.barrier(any(null))],
    ['options that are null, close', 'options', (g) => g.close(any(null))],
    ['options that are a number', 'options', (g) => g.allReduce(ok(), any(5))],
    ['a reason that is no text', 'reason', async (g) => g.abort(any(5))],
  ])('%s: the error names %s, and the group stays usable', async (_, argument, call) => {
    const { error } = await failureOf(call(groups[0]!));
    expect(error).toBeInstanceOf(InvalidArgumentError);
    expect(error).toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(error.message).toMatch(new RegExp(`^\\w+: .*\\b${argument}\\b`));
    const sums = await Promise.all(groups.map((group) => group.allReduce(new Int32Array([group.rank + 1]))));
    expect(sums.map(([sum]) => sum)).toEqual([3, 3]);
    expect(groups[0]!.info().state).toBe('open');
  });

  test.each<[string, string, Record<string, unknown>]>([
    ['no address', 'masterAddr', { masterAddr: '' }],
    ['an address that is a number', 'masterAddr', { masterAddr: 5 }],
    ['no ports', 'masterPort', { masterPort: [] }],
    ['a port beyond the last', 'masterPort', { masterPort: 65_536 }],
    ['a port as a text', 'masterPort', { masterPort: '29500' }],
    ['a rank beyond the last', 'rank', { rank: 1 }],
    ['a rank of NaN', 'rank', { rank: Number.NaN }],
    ['no ranks', 'worldSize', { worldSize: 0 }],
    ['half a rank', 'worldSize', { worldSize: 1.5 }],
    ['no time', 'timeoutMs', { timeoutMs: 0 }],
    ['no time to join', 'initTimeoutMs', { initTimeoutMs: Number.NaN }],
    ['another backend', 'backend', { backend: 'mpi' }],
    ['a name that is a number', 'groupName', { groupName: 1 }],
    ['a job that is a number', 'jobId', { jobId: 1 }],
    ['settings that are numbers', 'settings', { settings: { a: 1 } }],
    ['a descriptor that is negative', 'listenFd', { listenFd: -1 }],
    ['a signal that is none', 'signal', { signal: {} }],
  ])('of create(), %s: the error names %s', async (_, argument, wrong) => {
    const options = { masterAddr: '127.0.0.1', masterPort: 0, rank: 0, worldSize: 1, ...wrong };
    const { error } = await failureOf(ProcessGroup.create(options as never));
    expect(error).toBeInstanceOf(InvalidArgumentError);
    expect(error.message).toMatch(new RegExp(`^create: .*\\b${argument}\\b`));
  });

  test.each([undefined, null, 5, 'text'])('create(%s) is refused', async (options) => {
    expect((await failureOf(ProcessGroup.create(options as never))).error).toBeInstanceOf(
      InvalidArgumentError,
    );
  });
});

describe('close', () => {
  test('waits for the calls before it, and may be called again', async () => {
    const [first, second] = await formHere(2);
    const sum = first!.allReduce(new Int32Array([1])).catch(() => {});
    const closing = [first!.close(), first!.close()];
    expect(first!.info().state).toBe('closing');
    let closed = false;
    void closing[0]!.then(() => {
      closed = true;
    });
    await second!.barrier({ timeoutMs: 1 }).catch(() => {}); // wrong on purpose: fails the group
    await Promise.all([sum, ...closing]);
    expect(closed).toBe(true);
    await second!.close();
  });

  test('lets the calls before it succeed', async () => {
    const [first, second] = await formHere(2);
    const sum = first!.allReduce(new Int32Array([1]));
    const closing = first!.close();
    expect([...(await second!.allReduce(new Int32Array([2])))]).toEqual([3]);
    expect([...(await sum)]).toEqual([3]);
    await closing;
    expect(first!.info().state).toBe('closed');
    await first!.close();
    await second!.close();
  });

  test('what is called after it fails with ClosedError, and nothing is sent', async () => {
    const [group, other] = await formHere(2);
    const closing = group!.close();
    const calls = () => [
      group!.allReduce(new Int32Array(1)),
      group!.broadcast(new Int32Array(1)),
      group!.allGather(new Int32Array(1)),
      group!.barrier(),
    ];
    const early = Promise.all(calls().map(failureOf));
    await closing;
    for (const { error } of [...(await early), ...(await Promise.all(calls().map(failureOf)))]) {
      expect(error).toMatchObject({ name: 'ClosedError', code: 'CLOSED', rank: 0 });
    }
    await other!.close();
  });

  test('a time limit aborts what is still pending', async () => {
    const [group, other] = await formHere(2);
    const pending = failureOf(group!.barrier());
    await group!.close({ timeoutMs: 50 });
    expect((await pending).error).toMatchObject({ name: 'AbortedError', rank: 0 });
    await other!.close();
  });

  test('a limit longer than timers can take does not abort at once', async () => {
    const [group, other] = await formHere(2);
    const pending = group!.barrier();
    const closing = group!.close({ timeoutMs: Number.MAX_SAFE_INTEGER });
    await other!.barrier();
    await Promise.all([pending, closing, other!.close()]);
    expect(group!.info().state).toBe('closed');
  });

  test('await using', async () => {
    const shared = await meeting(1);
    let group: ProcessGroup;
    {
      await using inner = await ProcessGroup.create({ ...shared, ...here(0) });
      group = inner;
      expect(group.info().state).toBe('open');
    }
    expect(group.info().state).toBe('closed');
  });
});

test('very long and very short times are taken as such', async () => {
  const [group] = await formHere(1, {
    timeoutMs: Number.MAX_SAFE_INTEGER,
    initTimeoutMs: Number.MAX_SAFE_INTEGER,
  });
  await group!.barrier();
  await group!.barrier({ timeoutMs: Number.MAX_VALUE });
  await group!.barrier({ timeoutMs: 0.25 });
  await group!.close();
});

test('a group of one answers at once, with all types', async () => {
  const [group] = await formHere(1);
  const began = performance.now();
  for (let i = 0; i < 200; i += 1) await group!.barrier();
  expect(performance.now() - began).toBeLessThan(1_000);
  const half = new Uint16Array([0x3c00, 0x7c00, 0x7e00]);
  expect([...(await group!.allReduce(half, { dtype: 'float16', op: 'avg' }))]).toEqual([
    0x3c00, 0x7c00, 0x7e00,
  ]);
  const buffer = await group!.allGather(Buffer.from('text'));
  expect(Buffer.isBuffer(buffer) && buffer.toString()).toBe('text');
  expect(types.isUint8Array(buffer)).toBe(true);
  await group!.close();
});
