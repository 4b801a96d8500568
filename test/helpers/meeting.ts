/** Rank processes of fixtures/rendezvous/rank.mjs, and how they meet. */
import { expect } from 'vitest';
import { all, type RankProcess, startRanks, testBackend } from './ranks.ts';
import { home } from './spread.ts';

/** `count` processes that are ready for commands. */
export async function processes(count: number, env: NodeJS.ProcessEnv = {}): Promise<RankProcess[]> {
  const ranks = startRanks('rendezvous/rank.mjs', count, () => ({ env }));
  await all(ranks, 'ready');
  return ranks;
}

export interface Joining {
  /** The process's name for the group. */
  id?: string | number;
  /** When to begin, as Date.now(). */
  at?: number;
  /** With the coordination store that the process has connected. */
  useStore?: boolean;
  /** Its signal has fired before the call, for this reason. */
  aborted?: string;
  /** For so long its JavaScript does something else right after the call. */
  busyMs?: number;
  [option: string]: unknown;
}

/** Has one process join as that rank; `more` are further options of ProcessGroup.create(). */
export function join(
  process: RankProcess | undefined,
  rank: number,
  worldSize: number,
  masterPort: number | number[] | undefined,
  more: Joining = {},
): void {
  const { id = 'g', at, useStore, aborted, busyMs, ...options } = more;
  const meeting = {
    masterAddr: home(),
    masterPort,
    rank,
    worldSize,
    groupName: 'g',
    initTimeoutMs: 20_000,
    ...(testBackend && { backend: testBackend }),
  };
  process?.send({ do: 'join', id, at, useStore, aborted, busyMs, rank, options: { ...meeting, ...options } });
}

/** The group works: the last rank alone votes yes, and all hear it. */
export async function vote(ranks: RankProcess[], id: string | number = 'g'): Promise<void> {
  for (const [rank, process] of ranks.entries())
    process.send({ do: 'vote', id, value: rank === ranks.length - 1 });
  for (const { any } of await Promise.all(ranks.map((r) => r.next('voted', 20_000, (e) => e['id'] === id)))) {
    expect(any).toBe(true);
  }
}
