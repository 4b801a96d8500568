import { describe, expect, it } from 'vitest';
import { generateTrace } from '../../examples/01-dp-engine/generate-trace.ts';
import { Scheduler, type SchedulerLimits } from '../../examples/01-dp-engine/scheduler.ts';
import { parseTrace, type Request } from '../../examples/01-dp-engine/trace.ts';
import { runWaves, type Votes, type WaveTotals } from '../../examples/01-dp-engine/waves.ts';
import { TokenWork } from '../../examples/01-dp-engine/work.ts';

const limits: SchedulerLimits = { maxBatch: 4, tokensPerStep: 64, kvTokens: 10_000 };
const request = (index: number, promptTokens: number, generatedTokens: number, arrival = 0): Request => ({
  index,
  arrival,
  promptTokens,
  generatedTokens,
});

describe('Scheduler', () => {
  const work = new TokenWork(0.01);

  it('computes prompts in pieces and then a token a step', () => {
    const scheduler = new Scheduler(limits, work);
    expect(scheduler.hasWork).toBe(false);
    scheduler.add(request(0, 130, 2));
    const steps: number[] = [];
    for (; scheduler.hasWork; steps.push(scheduler.totals.promptTokens)) scheduler.step();
    expect(steps).toEqual([64, 128, 130, 130, 130]);
    expect(scheduler.totals).toMatchObject({ finished: 1, promptTokens: 130, generatedTokens: 2 });
  });

  it('keeps to the batch size and to the cache', () => {
    const batch = new Scheduler(limits, work);
    for (let i = 0; i < 9; i++) batch.add(request(i, 1, 50));
    batch.step();
    expect(batch.running).toBe(4);

    const cache = new Scheduler({ ...limits, kvTokens: 100 }, work);
    for (const [i, size] of [60, 60, 101, 30].entries()) cache.add(request(i, size - 10, 10));
    cache.step();
    expect(cache.running).toBe(1); // the second waits, and nobody overtakes it
    while (cache.hasWork) cache.step();
    expect(cache.totals).toMatchObject({ finished: 3, refused: 1, peakKvTokens: 90 });
  });

  it('finishes requests that generate nothing', () => {
    const scheduler = new Scheduler(limits, work);
    scheduler.add(request(0, 10, 0));
    scheduler.step();
    expect(scheduler.totals.finished).toBe(1);
  });

  it('gives a checksum that does not depend on the batching', () => {
    const run = (some: Partial<SchedulerLimits>) => {
      const scheduler = new Scheduler({ ...limits, ...some }, work);
      for (let i = 0; i < 20; i++) scheduler.add(request(i, 10 + 7 * i, 1 + (i % 5)));
      while (scheduler.hasWork) scheduler.step();
      return scheduler.totals.checksum;
    };
    const checksum = run({});
    expect(checksum).not.toBe(0);
    expect(run({ maxBatch: 1 })).toBe(checksum);
    expect(run({ tokensPerStep: 1000, maxBatch: 20 })).toBe(checksum);
  });
});

/** Votes of engines in one process: each exchange ends when all have spoken. */
function votesFor(size: number): (rank: number) => Votes {
  type Entry = { hasUnfinished: boolean; pendingPause: boolean };
  let entries: (Entry & { kind: string })[] = [];
  let waiting: (() => void)[] = [];
  const meet = async (kind: string, mine: Entry): Promise<Entry[]> => {
    const round = entries;
    round.push({ kind, ...mine });
    if (round.length < size) {
      await new Promise<void>((resolve) => waiting.push(resolve));
    } else {
      entries = [];
      for (const wake of waiting.splice(0)) wake();
      waiting = [];
    }
    expect(new Set(round.map((e) => e.kind)).size).toBe(1);
    return round;
  };
  return () => ({
    hasUnfinished: async (mine) =>
      (await meet('unfinished', { hasUnfinished: mine, pendingPause: false })).some((e) => e.hasUnfinished),
    state: async (mine) => {
      const all = await meet('state', mine);
      const paused = all.filter((e) => e.pendingPause).length;
      return {
        hasUnfinished: all.some((e) => e.hasUnfinished) || (paused > 0 && paused < size),
        pauseConsensus: paused === size,
      };
    },
  });
}

async function runAll(requests: readonly Request[], size: number, some: Partial<SchedulerLimits> = {}) {
  const votes = votesFor(size);
  const work = new TokenWork(0.001);
  const ranks = Array.from({ length: size }, (_, rank) => ({
    rank,
    scheduler: new Scheduler({ ...limits, ...some }, work),
  }));
  const totals: WaveTotals[] = await Promise.all(
    ranks.map(({ rank, scheduler }) =>
      runWaves({
        requests,
        rank,
        size,
        stepSeconds: 0.02,
        voteEvery: 32,
        scheduler,
        work,
        votes: votes(rank),
      }),
    ),
  );
  return { totals, schedulers: ranks.map((r) => r.scheduler) };
}

describe('runWaves', () => {
  it('ends each wave at the same step on all engines, at a vote', async () => {
    // One long request on rank 0, one on rank 1 much later.
    const { totals } = await runAll([request(0, 1, 40), request(1, 1, 3, 100)], 2);
    for (const t of totals) expect(t).toMatchObject({ waves: 2, steps: 64 + 32, votes: 2 + 1 + 3 });
    expect(totals.map((t) => t.dummySteps)).toEqual([64 - 41 + 32, 64 + 32 - 4]);
    expect(totals[0]?.clock).toBeCloseTo(100 + 32 * 0.02);
  });

  it('takes requests that arrive in the middle of a wave', async () => {
    const { totals } = await runAll([request(0, 1, 10), request(1, 1, 50, 0.3)], 2);
    for (const t of totals) expect(t).toMatchObject({ waves: 1, steps: 96 });
  });

  it('serves a whole trace with the same checksum for any number of engines', async () => {
    const { requests } = parseTrace(generateTrace(3, 200));
    const expected = requests.reduce((sum, r) => sum + r.generatedTokens, 0);
    const sums = [];
    for (const size of [1, 2, 3, 4]) {
      const { totals, schedulers } = await runAll(requests, size);
      expect(new Set(totals.map((t) => `${t.steps} ${t.waves} ${t.votes} ${t.clock}`)).size).toBe(1);
      expect(schedulers.reduce((sum, s) => sum + s.totals.finished, 0)).toBe(200);
      expect(schedulers.reduce((sum, s) => sum + s.totals.generatedTokens, 0)).toBe(expected);
      sums.push(schedulers.reduce((sum, s) => (sum ^ s.totals.checksum) >>> 0, 0));
    }
    expect(new Set(sums).size).toBe(1);
  });

  it('goes on when all that is due is too long for the cache, also at the end', async () => {
    const { totals, schedulers } = await runAll(
      [request(0, 500, 1), request(1, 5, 1, 10), request(2, 500, 1, 20)],
      2,
      { kvTokens: 100 },
    );
    for (const t of totals) expect(t).toMatchObject({ waves: 1, steps: 32 });
    expect(schedulers.map((s) => s.totals.refused)).toEqual([2, 0]);
  });

  it('fails when an engine is at the end and others are not', async () => {
    const votes: Votes = {
      hasUnfinished: async () => false,
      state: async () => ({ hasUnfinished: false, pauseConsensus: false }),
    };
    const work = new TokenWork(0);
    const scheduler = new Scheduler(limits, work);
    const options = { requests: [], rank: 1, size: 2, stepSeconds: 1, voteEvery: 1, scheduler, work, votes };
    await expect(runWaves(options)).rejects.toThrow(/rank 1 .* their traces differ/);
  });
});
