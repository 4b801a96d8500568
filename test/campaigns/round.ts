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
  /** How large the arrays of busy ranks are: see step(). */
  scale?: number;
  /** Further options of ProcessGroup.create(). */
  options?: Record<string, unknown>;
}

/** Starts forming on all; the sailors' places are their ranks. */
export async function muster(setting: Setting): Promise<Sailor[]> {
  const { crew, storePort, random, size, phase, scale } = setting;
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
    sailor.send({ do: 'join', storePort, options, work: phase === 'busy' ? 'busy' : 'idle', seed, scale });
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

export type Verdict = Extract<Said, { event: 'ended' | 'knew' }> & { rank: number };

/** What those of a round's sailors say about its end that nobody stopped, and when they knew. */
export function verdicts(sailors: readonly Sailor[], phase: Phase): Promise<Verdict[]> {
  const all = sailors.map(async (sailor, rank) =>
    sailor.doomed ? [] : [{ ...(await verdict(sailor, phase)), rank }],
  );
  return Promise.all(all).then((each) => each.flat());
}

/** The errors of those groups, after their verdicts in a phase in which groups stood. */
export async function causes(
  sailors: readonly Sailor[],
  phase: Phase,
  said: readonly Verdict[],
): Promise<Facts[]> {
  if (phase === 'idle') return said.map(({ error }) => error);
  const staying = sailors.filter((sailor) => !sailor.doomed);
  return (await Promise.all(staying.map((sailor) => sailor.next(['knew'], hangMs)))).map(
    ({ error }) => error,
  );
}

async function verdict(sailor: Sailor, phase: Phase): Promise<Omit<Verdict, 'rank'>> {
  // A call ends, or create(); an idle rank has neither, and one that was joining may have formed the group by then.
  if (phase === 'busy') return sailor.next(['ended'], hangMs);
  if (phase === 'idle') return sailor.next(['knew'], hangMs);
  const first = await sailor.next(['formed', 'ended'], hangMs);
  return first.event === 'ended' ? first : sailor.next(['knew'], hangMs);
}
