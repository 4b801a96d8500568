// The votes of a data-parallel group: what they answer for every combination, promised and blocking.
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import {
  hasUnfinishedDp,
  hasUnfinishedDpSync,
  InvalidArgumentError,
  type ProcessGroup,
  syncDpState,
  syncDpStateSync,
  syncKvCacheMemorySize,
  syncKvCacheMemorySizeSync,
} from 'node-collectives';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { closeAll, failureOf, formHere, here, meeting } from '../fixtures/lifecycle/groups.ts';
import { onHostOf } from '../helpers/spread.ts';

const int64Max = 2n ** 63n - 1n;
const int64Min = -(2n ** 63n);

/** All tuples of `size` choices. */
function tuples<T>(choices: readonly T[], size: number): T[][] {
  if (size === 0) return [[]];
  return tuples(choices, size - 1).flatMap((rest) => choices.map((choice) => [...rest, choice]));
}

describe.each([1, 2, 3])('%i ranks', (size) => {
  let groups: ProcessGroup[];
  beforeAll(async () => {
    groups = await formHere(size);
  });
  afterAll(() => closeAll(groups));
  const all = <T>(body: (group: ProcessGroup, rank: number) => Promise<T>) => Promise.all(groups.map(body));
  const same = <T>(value: T) => groups.map(() => value);

  test('hasUnfinishedDp: whether any has', async () => {
    for (const flags of tuples([false, true], size)) {
      const answers = await all((group, rank) => hasUnfinishedDp(group, flags[rank]!));
      expect(answers, String(flags)).toEqual(same(flags.includes(true)));
    }
  });

  test('syncDpState: work goes on while some work or only some pause; all pausing is agreement', async () => {
    const states = tuples([false, true], 2).map(([hasUnfinished, pendingPause]) => ({
      hasUnfinished: hasUnfinished!,
      pendingPause: pendingPause!,
    }));
    for (const mine of tuples(states, size)) {
      const pausing = mine.filter((state) => state.pendingPause).length;
      const wanted = {
        hasUnfinished: mine.some((state) => state.hasUnfinished) || (pausing > 0 && pausing < size),
        pauseConsensus: pausing === size,
      };
      const answers = await all((group, rank) => syncDpState(group, mine[rank]!));
      expect(answers, JSON.stringify(mine)).toEqual(same(wanted));
    }
  });

  test('syncKvCacheMemorySize: the smallest, exact over 64 bits; -1 is no limit', async () => {
    const offers: (bigint | number)[][] = [
      [8n * 2n ** 30n, 7 * 2 ** 30, 9n],
      [-1, -1n, -1],
      [-1, 5, -1n],
      [2n ** 53n + 1n, 2n ** 53n + 3n, 2n ** 62n],
      [int64Max, int64Max, int64Max],
      [int64Max, 2n ** 63n - 2n, -1],
      [0, 0n, 1],
      [-2n, 5, 7],
      [int64Min, int64Max, -1],
      [Number.MAX_SAFE_INTEGER, 2n ** 60n, -1],
    ];
    for (const offer of offers) {
      const mine = offer.slice(0, size);
      const least = mine
        .map((v) => (BigInt(v) === -1n ? int64Max : BigInt(v)))
        .reduce((a, b) => (a < b ? a : b));
      const answers = await all((group, rank) => syncKvCacheMemorySize(group, mine[rank]!));
      expect(answers, mine.join()).toEqual(same(least));
    }
  });

  test.each([
    Number.NaN,
    1.5,
    Number.POSITIVE_INFINITY,
    2 ** 53,
    '5',
    null,
    undefined,
    {},
    2n ** 63n,
    -(2n ** 63n) - 1n,
  ])('syncKvCacheMemorySize(%s) is refused, and nothing is sent', async (bytes) => {
    const { error } = await failureOf(syncKvCacheMemorySize(groups[0]!, bytes as never));
    expect(error).toBeInstanceOf(InvalidArgumentError);
    expect(error.message).toMatch(/^syncKvCacheMemorySize: bytes must be/);
    expect(() => syncKvCacheMemorySizeSync(groups[0]!, bytes as never)).toThrow(InvalidArgumentError);
    expect(await all((group) => hasUnfinishedDp(group, false))).toEqual(same(false));
  });

  test.each([undefined, null, 0, 1, 'true', {}])(
    'hasUnfinishedDp(%s) is refused, and nothing is sent',
    async (value) => {
      const { error } = await failureOf(hasUnfinishedDp(groups[0]!, value as never));
      expect(error).toBeInstanceOf(InvalidArgumentError);
      expect(error.message).toMatch(/^hasUnfinishedDp: hasUnfinished must be a boolean/);
      expect(() => hasUnfinishedDpSync(groups[0]!, value as never)).toThrow(InvalidArgumentError);
      expect(await all((group) => hasUnfinishedDp(group, true))).toEqual(same(true));
    },
  );

  test.each([undefined, null, true, {}, { hasUnfinished: true }, { hasUnfinished: 1, pendingPause: false }])(
    'syncDpState(%j) is refused, and nothing is sent',
    async (state) => {
      const { error } = await failureOf(syncDpState(groups[0]!, state as never));
      expect(error).toBeInstanceOf(InvalidArgumentError);
      expect(error.message).toMatch(/^syncDpState: (state|hasUnfinished|pendingPause) must be/);
      expect(() => syncDpStateSync(groups[0]!, state as never)).toThrow(InvalidArgumentError);
      expect(await all((group) => hasUnfinishedDp(group, true))).toEqual(same(true));
    },
  );

  test.each([null, 5, { timeoutMs: 0 }, { timeoutMs: Number.NaN }, { timeoutMs: '1' }])(
    'options %j are refused, and nothing is sent',
    async (options) => {
      const { error } = await failureOf(hasUnfinishedDp(groups[0]!, true, options as never));
      expect(error).toBeInstanceOf(InvalidArgumentError);
      expect(() => hasUnfinishedDpSync(groups[0]!, true, options as never)).toThrow(InvalidArgumentError);
      expect(await all((group) => hasUnfinishedDp(group, true))).toEqual(same(true));
    },
  );

  test('overlapping votes of different kinds run in call order', async () => {
    const answers = await all((group, rank) =>
      Promise.all([
        hasUnfinishedDp(group, rank === 0),
        syncKvCacheMemorySize(group, rank + 10),
        syncDpState(group, { hasUnfinished: false, pendingPause: true }),
        hasUnfinishedDp(group, false),
      ]),
    );
    expect(answers).toEqual(same([true, 10n, { hasUnfinished: false, pauseConsensus: true }, false]));
  });
});

test('alone, the blocking forms answer at once, also on the main thread', async () => {
  const [group] = await formHere(1);
  const began = performance.now();
  for (let i = 0; i < 100; i += 1) {
    expect(hasUnfinishedDpSync(group!, i % 2 === 0)).toBe(i % 2 === 0);
    expect(syncKvCacheMemorySizeSync(group!, -1)).toBe(int64Max);
    expect(syncDpStateSync(group!, { hasUnfinished: false, pendingPause: true })).toEqual({
      hasUnfinished: false,
      pauseConsensus: true,
    });
  }
  expect(performance.now() - began).toBeLessThan(2_000);
  await group!.close();
});

test('the blocking forms, in worker threads', async () => {
  const shared = await meeting(3);
  const workers = [0, 1, 2].map((rank) =>
    onHostOf(
      rank,
      () =>
        new Worker(new URL('../fixtures/lifecycle/sync-votes.mjs', import.meta.url), {
          workerData: { create: { ...shared, ...here(rank) }, votes: 100 },
        }),
    ),
  );
  const results = await Promise.all(
    workers.map(async (worker) => {
      const exited = once(worker, 'exit');
      const [result] = await once(worker, 'message');
      expect(await exited).toEqual([0]);
      return result as unknown;
    }),
  );
  // Each worker votes with its rank's bits; all get the same.
  expect(results).toEqual(results.map(() => results[0]));
  expect(results[0]).toEqual({
    flags: Array.from({ length: 100 }, (_, i) => i % 4 !== 3),
    least: 1_000n,
    state: { hasUnfinished: true, pauseConsensus: false },
  });
});
