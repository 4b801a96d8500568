/**
 * The loop of one engine. Engines run in lockstep waves: from the first request that is due until a vote
 * finds no engine with work left. Simulated time moves on by a fixed amount with every step and jumps between
 * waves.
 */

import type { Scheduler } from './scheduler.ts';
import type { Request } from './trace.ts';
import type { TokenWork } from './work.ts';

/** The two votes, so that the loop can be tested without a group. Every engine must call them alike. */
export interface Votes {
  /** True if any engine says true. */
  hasUnfinished(mine: boolean): Promise<boolean>;
  /** Between waves: does anybody have work, and are all at the end? */
  state(mine: { hasUnfinished: boolean; pendingPause: boolean }): Promise<{
    hasUnfinished: boolean;
    pauseConsensus: boolean;
  }>;
}

export interface WaveOptions {
  /** The whole trace; every engine knows when the next request is due, also where it is not its own. */
  readonly requests: readonly Request[];
  readonly rank: number;
  readonly size: number;
  /** Simulated seconds of a step. */
  readonly stepSeconds: number;
  /** Steps between two votes. */
  readonly voteEvery: number;
  readonly scheduler: Scheduler;
  readonly work: TokenWork;
  readonly votes: Votes;
  /** Called after every vote, and at the end. */
  readonly onProgress?: (totals: WaveTotals) => void;
}

export interface WaveTotals {
  waves: number;
  /** All steps, dummy ones included. */
  steps: number;
  dummySteps: number;
  votes: number;
  /** Milliseconds in votes: the exchange, and the wait for slower engines. */
  votingMs: number;
  fastestVoteMs: number;
  /** Simulated seconds. */
  clock: number;
}

/** Runs all waves; resolves when all engines have agreed that the trace is done. Rejects if a vote does. */
export async function runWaves(options: WaveOptions): Promise<WaveTotals> {
  const { requests, rank, size, stepSeconds, voteEvery, scheduler, work, votes } = options;
  const totals: WaveTotals = {
    waves: 0,
    steps: 0,
    dummySteps: 0,
    votes: 0,
    votingMs: 0,
    fastestVoteMs: Number.POSITIVE_INFINITY,
    clock: 0,
  };
  const timed = async <T>(vote: () => Promise<T>): Promise<T> => {
    const start = performance.now();
    const result = await vote();
    const took = performance.now() - start;
    totals.votes += 1;
    totals.votingMs += took;
    totals.fastestVoteMs = Math.min(totals.fastestVoteMs, took);
    return result;
  };

  let arrived = 0;
  const takeArrivals = () => {
    for (; arrived < requests.length; arrived++) {
      const request = requests[arrived];
      if (request === undefined || request.arrival > totals.clock) break;
      if (request.index % size === rank) scheduler.add(request);
    }
  };

  for (;;) {
    const next = requests[arrived];
    if (next !== undefined) totals.clock = Math.max(totals.clock, next.arrival);
    takeArrivals();
    const mine = { hasUnfinished: scheduler.hasWork, pendingPause: next === undefined };
    const all = await timed(() => votes.state(mine));
    if (all.pauseConsensus) break;
    if (!all.hasUnfinished) {
      // All that was due did not fit into anybody's cache; go on to the next arrival.
      if (next !== undefined) continue;
      throw new Error(`rank ${rank} has reached the end of the trace, others have not: their traces differ`);
    }

    totals.waves += 1;
    const start = totals.clock;
    let step = 0;
    for (let running = true; running; ) {
      if (scheduler.hasWork) {
        scheduler.step();
      } else {
        work.dummy();
        totals.dummySteps += 1;
      }
      step += 1;
      totals.steps += 1;
      totals.clock = start + step * stepSeconds;
      takeArrivals();
      if (step % voteEvery === 0) {
        running = await timed(() => votes.hasUnfinished(scheduler.hasWork));
        options.onProgress?.(totals);
      }
    }
  }
  options.onProgress?.(totals);
  return totals;
}
