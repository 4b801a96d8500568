// Re-forming over and over, side by side, and what refuses it; the ports and keys of what came before.
import { randomUUID } from 'node:crypto';
import { expect, test } from 'vitest';
import { join, processes, vote } from '../helpers/meeting.ts';
import { all, type RankProcess, startRank } from '../helpers/ranks.ts';
import { freePort, freePorts } from '../helpers/sockets.ts';

async function run(event: string, ...args: string[]) {
  const process_ = startRank('lifecycle/reforming.mjs', {
    command: [process.execPath, '--expose-gc', '--max-semi-space-size=1'],
    args,
  });
  const said = await process_.next(event, 90_000);
  expect(await process_.exited).toEqual({ code: 0, signal: null });
  return said;
}

test('200 re-formations leave nothing behind', async () => {
  const { before, after, generation, met, left } = await run('figures', 'leaks', '200', '40');
  console.log(`after 40: ${JSON.stringify(before)}; after 200: ${JSON.stringify(after)}; ${met} ports`);
  expect(generation).toBe(200);
  // In the store that all ranks reach, a counter for each rank; in the group's own what one generation needs.
  expect(after.keys).toBeLessThanOrEqual(3);
  expect(after.ownKeys).toBe(before.ownKeys);
  // Each generation met at a port of its own, but for what the kernel gives out again.
  expect(met).toBeGreaterThan(100);
  expect(left).toEqual([]);
  expect(after.threads).toBe(before.threads);
  expect(after.descriptors).toBe(before.descriptors);
  // Under a sanitizer memory is the sanitizer's.
  if (process.env['NC_SANITIZED'] === undefined) expect(after.rssMB - before.rssMB).toBeLessThan(10);
});

test('200 formations through one store: its keys do not pile up', async () => {
  const { counts } = await run('counts', 'store', '200');
  // A counter for each rank, and at most the latest address.
  for (const count of counts) expect(count).toBeLessThanOrEqual(4);
});

test('several groups of one process at once', async () => {
  expect((await run('names', 'several'))['names']).toEqual(['a 1', 'b 1', 'c 1']);
});

test('what is refused, and that it costs nothing', async () => {
  const { wrong, aborted, twice, closed, interrupted } = await run('refused', 'refusals');
  for (const [options, code] of Object.entries(wrong))
    expect([options, code]).toEqual([options, 'INVALID_ARGUMENT']);
  expect({ aborted, twice, closed, interrupted }).toEqual({
    aborted: 'ABORTED',
    twice: 'INVALID_ARGUMENT',
    closed: 'CLOSED',
    interrupted: 'ABORTED',
  });
});

test('a healthy group stays usable until the next one stands; what was called completes', async () => {
  expect(await run('answers', 'pending')).toMatchObject({
    before: true,
    other: true,
    more: [false, false],
    late: true,
    answer: true,
  });
});

test('ranks in worker threads; rank 0 is terminated', async () => {
  expect((await run('answers', 'worker'))['answers']).toEqual([
    { failed: 'ABORTED', rank: 0, sum: 2 },
    { failed: 'ABORTED', rank: 1, sum: 2 },
  ]);
});

const dp = (process: RankProcess, id: string, rank: number, ports: number[], jobId: string) =>
  process.send({ do: 'dp', id, rank, size: 3, ports, options: { jobId, initTimeoutMs: 20_000 } });

test.each([0, 2])(
  'statelessInitDpGroup on the same ports, over groups that rank %s crashed out of',
  async (dead) => {
    const ports = await freePorts(5);
    const jobId = randomUUID();
    const ranks = await processes(3);
    for (let round = 0; round < 4; round += 1) {
      for (const [rank, process] of ranks.entries()) dp(process, `g${round}`, rank, ports, jobId);
      for (const { port } of await all(ranks, 'formed')) expect(port).toBe(ports[0]);
      await vote(ranks, `g${round}`);
      const survivors = ranks.filter((_, rank) => rank !== dead);
      for (const process of survivors) process.send({ do: 'vote', id: `g${round}`, value: false });
      (ranks[dead] as RankProcess).kill();
      await all(survivors, 'voteFailed');
      // The failed groups stay as they are: nobody closes them, and the fixture keeps them.
      [ranks[dead]] = (await processes(1)) as [RankProcess];
    }
  },
);

test('create() has the generation in its identity', async () => {
  const ranks = await processes(2);
  const port = await freePort();
  const jobId = randomUUID();
  join(ranks[0], 0, 2, port, { jobId, generation: 7, initTimeoutMs: 600 });
  join(ranks[1], 1, 2, port, { jobId, initTimeoutMs: 600 });
  const [, other] = await all(ranks, 'failed');
  expect(other?.['error'].message).toContain('generation 7');
  for (const [rank, process] of ranks.entries()) join(process, rank, 2, port, { jobId, generation: 7 });
  await all(ranks, 'formed');
  await vote(ranks);
});
