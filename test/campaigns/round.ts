/** One round: a group forms, something happens to one of its ranks, and the others must know, by name. */
import { randomUUID } from 'node:crypto';
import type { Crew, Sailor } from './crew.ts';
import type { Facts, Said } from './protocol.ts';
import type { Random } from './random.ts';

/** A wait that lasts longer is a hang. */
export const hangMs = 20_000;
/** What a group that loses a rank while it forms may take. */
export const joinMs = 2_500;

/** Moments in a group's life, and how many of a hundred kills fall into each. */
export const phases = { joining: 10, busy: 50, idle: 25, closing: 15 } as const;
export type Phase = keyof typeof phases;

export function phaseOf(random: Random, chosen: readonly Phase[]): Phase {
  let at = random.next() * chosen.reduce((sum, phase) => sum + phases[phase], 0);
  return chosen.find((phase) => {
    at -= phases[phase];
    return at < 0;
  }) as Phase;
}

export interface Setting {
  crew: Crew;
  storePort: number;
  random: Random;
  size: number;
  phase: Phase;
  /** Further options of ProcessGroup.create(). */
  options?: Record<string, unknown>;
}

/** Starts forming on all; the sailors' places are their ranks. */
export async function muster(setting: Setting): Promise<Sailor[]> {
  const { crew, storePort, random, size, phase } = setting;
  const sailors = await crew.take(size);
  const seed = random.whole(0, 2 ** 32 - 1);
  const jobId = randomUUID();
  const limit = phase === 'joining' ? joinMs : hangMs;
  for (const [rank, sailor] of sailors.entries()) {
    const options = {
      masterAddr: '127.0.0.1',
      rank,
      worldSize: size,
      jobId,
      initTimeoutMs: limit,
      timeoutMs: 60_000,
      ...setting.options,
    };
    sailor.send({ do: 'join', storePort, options, work: phase === 'busy' ? 'busy' : 'idle', seed });
  }
  return sailors;
}

export const moment = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
export const now = () => Number(process.hrtime.bigint());

export async function formed(sailors: readonly Sailor[]): Promise<void> {
  const said = await Promise.all(sailors.map((sailor) => sailor.next(['formed', 'ended'], hangMs)));
  for (const each of said) {
    if (each.event === 'ended') throw new Error(`the group did not form: ${each.error.message}`);
  }
}

/** The group's rank processes leave and can be used again. */
export async function disband(crew: Crew, sailors: readonly Sailor[]): Promise<void> {
  const staying = sailors.filter((sailor) => !sailor.doomed);
  for (const sailor of staying) sailor.send({ do: 'leave' });
  await Promise.all(staying.map((sailor) => sailor.next(['left'], hangMs)));
  for (const sailor of sailors) crew.giveBack(sailor);
}

type Verdict = Extract<Said, { event: 'ended' | 'knew' }>;

export interface Blame {
  rank: number;
  pid: number;
  /** It may have died before anybody could know it: then it is named as missing. */
  early: boolean;
}

/** What is wrong with how a survivor names the dead, or nothing. */
export function misnamed(error: Facts, { rank, pid, early }: Blame): string | undefined {
  if (error.code === 'RANK_LOST') {
    if (error.peer !== rank) return `it names rank ${error.peer}`;
    if (error.peerPid !== undefined && error.peerPid !== pid) return `it names pid ${error.peerPid}`;
    if (error.rank !== rank) return `its rank is ${error.rank}`;
    if (error.detectedBy === rank || error.detectedBy === undefined)
      return `it says that rank ${error.detectedBy} saw it`;
    return undefined;
  }
  if (!early) return `it is ${error.code}`;
  if (error.code !== 'TIMEOUT' && error.code !== 'RENDEZVOUS_FAILED') return `it is ${error.code}`;
  // Rank 0 itself is what the others look for; it cannot be missing from its own store.
  if (rank === 0) return undefined;
  return error.missing?.includes(rank) ? undefined : `it misses ${error.missing}`;
}

/** What survivors say about the end, and when they knew. */
export function verdicts(survivors: readonly Sailor[], phase: Phase): Promise<Verdict[]> {
  return Promise.all(survivors.map((sailor) => verdict(sailor, phase)));
}

async function verdict(sailor: Sailor, phase: Phase): Promise<Verdict> {
  // A call ends, or create(); an idle rank has neither, and one that was joining may have formed the group by then.
  if (phase === 'busy') return sailor.next(['ended'], hangMs);
  if (phase === 'idle') return sailor.next(['knew'], hangMs);
  const first = await sailor.next(['formed', 'ended'], hangMs);
  return first.event === 'ended' ? first : sailor.next(['knew'], hangMs);
}
