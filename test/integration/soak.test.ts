// Long runs of calls chosen at random, none awaited before the next, against a plain computation. NC_SEED repeats one.
import type { ProcessGroup } from 'node-collectives';
import { expect, test } from 'vitest';
import { closeAll, formHere } from '../fixtures/lifecycle/groups.ts';

/** Small and quick; the same numbers on every rank. */
function generator(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

interface Step {
  what: string;
  /** What rank `rank` calls, and what its result has to be; nothing where it takes no part. */
  call(
    group: ProcessGroup,
  ): { result: Promise<Int32Array | undefined>; wanted: Int32Array | undefined } | undefined;
}

const numberAt = (step: number, rank: number, i: number) =>
  Math.imul(step * 7919 + rank * 104_729 + i, 0x9e3779b1) >> 3;
const lengths = [0, 1, 3, 100, 2_000, 30_000, 300_000];

function stepOf(number: number, size: number, random: (below: number) => number): Step {
  const length = lengths[random(random(4) === 0 ? lengths.length : 5)]!;
  const all = Array.from({ length: size }, (_, rank) => rank);
  const input = (rank: number, n = length) =>
    Int32Array.from({ length: n }, (_, i) => numberAt(number, rank, i));
  const summed = (n: number) =>
    Int32Array.from({ length: n }, (_, i) => all.reduce((sum, rank) => sum + numberAt(number, rank, i), 0));
  const block = (array: Int32Array, at: number) => array.slice(at * length, (at + 1) * length);
  const root = random(size);
  const shift = 1 + random(Math.max(1, size - 1));
  const to = (root + shift) % size;
  const calls: Record<string, Step['call']> = {
    allReduce: (group) => ({ result: group.allReduce(input(group.rank)), wanted: summed(length) }),
    reduce: (group) => ({
      result: group.reduce(input(group.rank), { root }),
      wanted: group.rank === root ? summed(length) : input(group.rank),
    }),
    reduceScatter: (group) => ({
      result: group.reduceScatter(input(group.rank, length * size)),
      wanted: block(summed(length * size), group.rank),
    }),
    allToAll: (group) => ({
      result: group.allToAll(input(group.rank, length * size)),
      wanted: Int32Array.from(all.flatMap((from) => [...block(input(from, length * size), group.rank)])),
    }),
    allGather: (group) => ({
      result: group.allGather(input(group.rank)),
      wanted: Int32Array.from(all.flatMap((from) => [...input(from)])),
    }),
    broadcast: (group) => ({ result: group.broadcast(input(group.rank), { root }), wanted: input(root) }),
    barrier: (group) => ({ result: group.barrier() as Promise<undefined>, wanted: undefined }),
    message: (group) => {
      if (group.rank === root)
        return {
          result: group.send(input(root), { to, tag: number }) as Promise<undefined>,
          wanted: undefined,
        };
      if (group.rank !== to) return undefined;
      return { result: group.recv(new Int32Array(length), { from: root, tag: number }), wanted: input(root) };
    },
    round: (group) => {
      const sending = group.send(input(group.rank), { to: (group.rank + shift) % size, tag: number });
      const from = (group.rank + size - shift) % size;
      const receiving = group.recv(new Int32Array(length), { from, tag: number });
      return { result: sending.then(() => receiving), wanted: input(from) };
    },
  };
  const names = Object.keys(calls);
  const name = names[random(names.length)]!;
  return { what: `${name} of ${length}, root ${root}, shift ${shift}`, call: calls[name]! };
}

test.each([2, 3, 5])('%i ranks', async (size) => {
  const seed = Number(process.env['NC_SEED'] ?? Math.floor(Math.random() * 2 ** 32));
  console.log(`soak of ${size} ranks: NC_SEED=${seed}`);
  const random = generator(seed);
  const groups = await formHere(size);
  for (let number = 0; number < 300; ) {
    const batch = Array.from({ length: 1 + random(12) }, () => stepOf(number++, size, random));
    const pending = batch.flatMap((step) =>
      groups.flatMap((group) => {
        const call = step.call(group);
        return call === undefined
          ? []
          : [{ ...call, what: `seed ${seed}: ${step.what}, rank ${group.rank}` }];
      }),
    );
    const results = await Promise.all(pending.map(({ result }) => result));
    for (const [i, { wanted, what }] of pending.entries()) {
      const got = results[i];
      const same = wanted === undefined || Buffer.from(wanted.buffer).equals(Buffer.from(got!.buffer));
      expect(same, what).toBe(true);
    }
  }
  await closeAll(groups);
});
