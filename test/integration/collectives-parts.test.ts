// reduce, reduceScatter and allToAll as JavaScript sees them: every type and reduction, mistakes and mismatches.
import {
  type CollectiveArray,
  CollectiveMismatchError,
  InvalidArgumentError,
  type ProcessGroup,
  TimeoutError,
} from 'node-collectives';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { closeAll, failureOf, formHere } from '../fixtures/lifecycle/groups.ts';
import { contribution, expected, type Kind, kinds, opsOf } from '../fixtures/lifecycle/numbers.ts';
import { formPuppets } from '../fixtures/lifecycle/strings.ts';

const named = (kind: Kind) => (kind.named === undefined ? {} : { dtype: kind.named });
const bytes = (array: CollectiveArray) => Buffer.from(array.buffer, array.byteOffset, array.byteLength);

function expectSame(got: CollectiveArray, wanted: CollectiveArray, what: string): void {
  expect(got.constructor, what).toBe(wanted.constructor);
  expect(bytes(got).equals(bytes(wanted)), `${what}: ${got.slice(0, 8)} for ${wanted.slice(0, 8)}`).toBe(
    true,
  );
}
const blockOf = <T extends CollectiveArray>(array: T, block: number, count: number) =>
  array.slice(block * count, (block + 1) * count) as T;

describe.each([1, 2, 3, 5])('%i ranks in this process', (size) => {
  let groups: ProcessGroup[];
  beforeAll(async () => {
    groups = await formHere(size);
  });
  afterAll(() => closeAll(groups));

  test.each(kinds)('reduce of $name', async (kind) => {
    const big = kind.name === 'Float32Array' || kind.name === 'bfloat16' ? [100_000] : [];
    for (const op of opsOf(kind)) {
      for (const length of [0, 1, 1_000, ...big]) {
        const wanted = expected(kind, op, size, length);
        for (const apart of [false, true]) {
          const root = (length + (apart ? 1 : 0)) % size;
          const inputs = groups.map((group) => contribution(kind, group.rank, length));
          const outs = inputs.map(() => kind.make(length));
          const results = await Promise.all(
            groups.map((group, i) =>
              group.reduce(inputs[i]!, { op, root, ...named(kind), ...(apart ? { out: outs[i]! } : {}) }),
            ),
          );
          for (const [rank, result] of results.entries()) {
            const what = `${kind.name} x ${length}, ${op}, rank ${rank} of ${size}, root ${root}`;
            expect(result, what).toBe(apart && rank === root ? outs[rank] : inputs[rank]);
            const untouched = rank !== root || apart;
            if (rank === root) expectSame(result, wanted, what);
            if (untouched) expectSame(inputs[rank]!, contribution(kind, rank, length), `${what}: the input`);
            if (rank !== root) expectSame(outs[rank]!, kind.make(length), `${what}: out elsewhere`);
          }
        }
      }
    }
  });

  test.each(kinds)('reduceScatter of $name', async (kind) => {
    const big = kind.name === 'Float32Array' || kind.name === 'bfloat16' ? [50_000] : [];
    for (const op of opsOf(kind)) {
      for (const count of [0, 1, 700, ...big]) {
        const wanted = expected(kind, op, size, count * size);
        const inputs = groups.map((group) => contribution(kind, group.rank, count * size));
        const options = { op, ...named(kind) };
        const made = await Promise.all(groups.map((group, i) => group.reduceScatter(inputs[i]!, options)));
        const outs = inputs.map((input, rank) => input.subarray(rank * count, (rank + 1) * count));
        for (const [rank, result] of made.entries()) {
          const what = `${kind.name} x ${count}, ${op}, rank ${rank} of ${size}`;
          expectSame(result, blockOf(wanted, rank, count), what);
          expectSame(inputs[rank]!, contribution(kind, rank, count * size), `${what}: the input`);
        }
        const given = await Promise.all(
          groups.map((group, i) =>
            group.reduceScatter(inputs[i]!, { ...options, out: outs[i] as CollectiveArray }),
          ),
        );
        for (const [rank, result] of given.entries()) {
          expect(result).toBe(outs[rank]);
          expectSame(result, blockOf(wanted, rank, count), `${kind.name} x ${count}, ${op}, in its place`);
        }
      }
    }
  });

  const eight = (['float8e4m3', 'float8e5m2'] as const).map(
    (name): Kind => ({
      ...(kinds.find((kind) => kind.name === 'Uint8Array') as Kind),
      name,
      named: name,
    }),
  );
  test.each([...kinds, ...eight])('allToAll of $name', async (kind) => {
    for (const count of [0, 1, 700, ...(kind.name === 'Float64Array' ? [50_000] : [])]) {
      const inputs = groups.map((group) => contribution(kind, group.rank, count * size));
      const before = inputs.map((input) => input.slice() as CollectiveArray);
      const wanted = groups.map((_, rank) => {
        const all = kind.make(count * size);
        for (const [from, input] of before.entries())
          (all as Float64Array).set(blockOf(input as Float64Array, rank, count), from * count);
        return all;
      });
      const made = await Promise.all(groups.map((group, i) => group.allToAll(inputs[i]!, named(kind))));
      const outs = inputs.map(() => kind.make(count * size));
      const given = await Promise.all(
        groups.map((group, i) => group.allToAll(inputs[i]!, { out: outs[i]!, ...named(kind) })),
      );
      for (let rank = 0; rank < size; rank += 1) {
        expect(given[rank]).toBe(outs[rank]);
        expectSame(made[rank]!, wanted[rank]!, `${kind.name} x ${count}`);
        expectSame(given[rank]!, wanted[rank]!, `${kind.name} x ${count}, out given`);
        expectSame(inputs[rank]!, before[rank]!, `${kind.name} x ${count}: the input`);
      }
      const placed = await Promise.all(
        groups.map((group, i) => group.allToAll(inputs[i]!, { out: inputs[i]!, ...named(kind) })),
      );
      for (let rank = 0; rank < size; rank += 1) {
        expect(placed[rank]).toBe(inputs[rank]);
        expectSame(placed[rank]!, wanted[rank]!, `${kind.name} x ${count}, in place`);
      }
    }
  });

  test('8-bit floats are moved by broadcast and allGather, too', async () => {
    const parts = groups.map((group) => new Uint8Array([group.rank, 0x7f, 0x80]));
    const gathered = await Promise.all(
      groups.map((group, i) => group.allGather(parts[i]!, { dtype: 'float8e4m3' })),
    );
    for (const all of gathered) expect([...all]).toEqual(parts.flatMap((part) => [...part]));
    const told = await Promise.all(
      groups.map((group, i) => group.broadcast(parts[i]!, { dtype: 'float8e5m2', root: size - 1 })),
    );
    for (const part of told) expect([...part]).toEqual([size - 1, 0x7f, 0x80]);
  });
});

describe('a wrong argument', () => {
  let groups: ProcessGroup[];
  beforeAll(async () => {
    groups = await formHere(2);
  });
  afterAll(() => closeAll(groups));
  class Liar extends Int32Array {
    override get length(): number {
      return 1_000_000;
    }
  }
  const ok = () => new Int32Array(4);
  const any = (value: unknown) => value as never;
  const memory = new Int32Array(8);

  test.each<[string, string, (group: ProcessGroup) => Promise<unknown>]>([
    ['reduce of a plain array', 'array', (g) => g.reduce(any([1]))],
    ['reduce to no rank', 'root', (g) => g.reduce(ok(), { root: 2 })],
    ['reduce by an unknown op', 'op', (g) => g.reduce(ok(), { op: any('mean') })],
    ['reduce of 8-bit floats', 'dtype', (g) => g.reduce(new Uint8Array(4), { dtype: 'float8e4m3' })],
    [
      '8-bit floats in signed memory',
      'dtype',
      (g) => g.allToAll(new Int8Array(4), { dtype: any('float8e5m2') }),
    ],
    ['reduce into another length', 'out', (g) => g.reduce(ok(), { out: new Int32Array(3) })],
    ['reduce into a text', 'out', (g) => g.reduce(ok(), { out: any('text') })],
    ['reduce with null options', 'options', (g) => g.reduce(ok(), any(null))],
    ['reduceScatter of an odd length', 'length', (g) => g.reduceScatter(new Int32Array(3))],
    ['reduceScatter into too much', 'out', (g) => g.reduceScatter(ok(), { out: new Int32Array(4) })],
    ['reduceScatter into null', 'out', (g) => g.reduceScatter(ok(), { out: any(null) })],
    [
      "reduceScatter into another rank's block",
      'out',
      (g) => g.reduceScatter(memory, { out: memory.subarray(4, 8) }),
    ],
    ['reduceScatter of bits of floats', 'op', (g) => g.reduceScatter(new Float64Array(4), { op: 'bxor' })],
    ['reduceScatter of an array that lies', 'array', (g) => g.reduceScatter(new Liar(4))],
    ['reduceScatter with null options', 'options', (g) => g.reduceScatter(ok(), any(null))],
    ['allToAll of an odd length', 'length', (g) => g.allToAll(new Int32Array(5))],
    [
      'allToAll into half of itself',
      'out',
      (g) => g.allToAll(memory.subarray(0, 4), { out: memory.subarray(2, 6) }),
    ],
    ['allToAll into another type', 'out', (g) => g.allToAll(ok(), { out: any(new Uint32Array(4)) })],
    ['allToAll of an array that lies', 'array', (g) => g.allToAll(new Liar(4))],
    ['allToAll with null options', 'options', (g) => g.allToAll(ok(), any(null))],
    ['allToAll in no time', 'timeoutMs', (g) => g.allToAll(ok(), { timeoutMs: 0 })],
  ])('%s: the error names %s, and the group stays usable', async (_, argument, call) => {
    const { error } = await failureOf(call(groups[0]!));
    expect(error).toBeInstanceOf(InvalidArgumentError);
    expect(error.message).toMatch(new RegExp(`^\\w+: .*\\b${argument}\\b`));
    const sums = await Promise.all(groups.map((group) => group.reduce(new Int32Array([group.rank + 1]))));
    expect(sums.map(([sum]) => sum)).toEqual([3, 2]);
  });
});

describe('calls that differ', () => {
  const numbers = (length: number) => new Int32Array(length);
  type Call = (group: ProcessGroup) => Promise<unknown>;
  test.each<[string, Call, Call]>([
    ['root', (g) => g.reduce(numbers(4)), (g) => g.reduce(numbers(4), { root: 1 })],
    ['length, reduce', (g) => g.reduce(numbers(300_000)), (g) => g.reduce(numbers(300_001))],
    ['type', (g) => g.reduceScatter(numbers(6)), (g) => g.reduceScatter(new Float32Array(6))],
    ['op', (g) => g.reduceScatter(numbers(6)), (g) => g.reduceScatter(numbers(6), { op: 'max' })],
    ['length', (g) => g.reduceScatter(numbers(600_000)), (g) => g.reduceScatter(numbers(6))],
    ['length, allToAll', (g) => g.allToAll(numbers(6)), (g) => g.allToAll(numbers(9))],
    ['length, one of them empty', (g) => g.allToAll(numbers(6)), (g) => g.allToAll(numbers(0))],
    ['collective', (g) => g.allToAll(numbers(6)), (g) => g.reduceScatter(numbers(6))],
    [
      'order',
      (g) => Promise.all([g.reduceScatter(numbers(6)), g.allToAll(numbers(6))]),
      (g) => Promise.all([g.allToAll(numbers(6)), g.reduceScatter(numbers(6))]),
    ],
    [
      'number',
      (g) => g.reduceScatter(numbers(6)),
      async (g) => {
        await g.reduceScatter(numbers(6));
        await g.reduceScatter(numbers(6));
      },
    ],
  ])('in %s: all ranks say so at the next call at the latest', async (_, one, other) => {
    const groups = await formHere(3);
    const failed = await Promise.all(
      groups.map((group, rank) =>
        failureOf(
          (async () => {
            await (rank === 1 ? other(group) : one(group));
            await group.barrier();
          })(),
        ),
      ),
    );
    for (const { error, ms } of failed) {
      expect(error, error.message).toBeInstanceOf(CollectiveMismatchError);
      expect(ms).toBeLessThan(5_000);
    }
    await closeAll(groups);
  });

  test.each<[string, Call]>([
    ['reduce', (g) => g.reduce(numbers(6), { timeoutMs: 300 })],
    ['reduceScatter', (g) => g.reduceScatter(numbers(6), { timeoutMs: 300 })],
    ['allToAll', (g) => g.allToAll(numbers(600_000), { timeoutMs: 300 })],
  ])('%s, which one rank never calls: the others name it at the deadline', async (op, call) => {
    const groups = await formHere(3);
    const failed = await Promise.all(
      [0, 1].map((rank) => failureOf(call(groups[rank]!).then(() => groups[rank]!.barrier()))),
    );
    for (const { error } of failed) expect(error).toBeInstanceOf(TimeoutError);
    expect(failed[0]!.error).toMatchObject({ op, missing: [2] });
    await closeAll(groups);
  });
});

test.each([
  ['reduce', 4],
  ['reduce', 4_000_000],
  ['reduceScatter', 4],
  ['reduceScatter', 4_000_000],
  ['allToAll', 4],
  ['allToAll', 4_000_000],
])(
  'SIGKILL of a rank in the middle of %s calls of %i elements: all others name it',
  async (method, length) => {
    const ranks = await formPuppets(4);
    const loops = ranks.map((each) => each.answer({ do: 'loopOf', method, length }));
    loops[1]!.catch(() => {}); // its answer never comes
    await Promise.all(ranks.map((each) => each.process.next('looping')));
    const victim = ranks[1]!.process;
    victim.kill('SIGKILL');
    for (const survivor of [0, 2, 3]) {
      const { error } = await loops[survivor]!;
      expect(error).toMatchObject({ code: 'RANK_LOST', peer: 1, peerPid: victim.pid });
    }
  },
);
