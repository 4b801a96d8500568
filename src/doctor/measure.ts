/** Groups of doctor's own: forming one with all its ranks here, and how long a vote over it takes. */
import { randomUUID } from 'node:crypto';
import { InternalError } from '../errors.ts';
import type { ProcessGroupOptions } from '../group/options.ts';
import { ProcessGroup } from '../group/process-group.ts';
import { hasUnfinishedDp } from '../group/votes.ts';
import { TcpStore } from '../store/tcp-store.ts';

export interface Measured {
  formedMs: number;
  /** Median of the rank that took longest. */
  voteMicros: number;
  library: string | undefined;
}

/** What `optionsOf` gives for a rank is added to what all share. The group is closed again. */
export async function measure(
  size: number,
  votes: number,
  optionsOf: (rank: number) => Partial<ProcessGroupOptions>,
): Promise<Measured> {
  const began = performance.now();
  const groups = await form(size, optionsOf);
  const formedMs = performance.now() - began;
  const micros = await Promise.all(groups.map((group) => vote(group, votes)));
  const library = groups[0]?.info().library?.name;
  await Promise.all(groups.map((group) => group.close()));
  return { formedMs, voteMicros: Math.max(...micros), library };
}

async function form(
  size: number,
  optionsOf: (rank: number) => Partial<ProcessGroupOptions>,
): Promise<ProcessGroup[]> {
  await using store = await TcpStore.listen();
  const common = {
    masterAddr: '127.0.0.1',
    worldSize: size,
    jobId: randomUUID(),
    groupName: 'doctor',
    store,
    timeoutMs: 10_000,
  };
  return await Promise.all(
    Array.from({ length: size }, (_, rank) => ProcessGroup.create({ ...common, ...optionsOf(rank), rank })),
  );
}

/** The median of many votes, in µs; only the last rank votes yes. */
async function vote(group: ProcessGroup, votes: number): Promise<number> {
  const last = group.size - 1;
  const times: number[] = [];
  for (let i = 0; i < votes; i += 1) {
    const began = performance.now();
    if (!(await hasUnfinishedDp(group, group.rank === last)))
      throw new InternalError(`rank ${group.rank} heard no, although rank ${last} voted yes`);
    times.push((performance.now() - began) * 1_000);
  }
  return times.sort((a, b) => a - b)[votes >> 1] as number;
}
