/** Whether the survivors of a round name the rank that was lost, each by itself and all alike. */
import { hostname } from 'node:os';
import type { Facts } from './protocol.ts';

export interface Blame {
  rank: number;
  pid: number;
  /** It may have died before anybody could know it: then it is named as missing. */
  early: boolean;
  size: number;
}

/** What is wrong with how the survivor of that rank names the dead, or nothing. */
function misnamed(error: Facts, self: number, blame: Blame): string | undefined {
  const { rank, pid, early, size } = blame;
  if (error.code === 'RANK_LOST') {
    if (error.peer !== rank) return `it names rank ${error.peer}`;
    if (error.peerPid !== pid) return `it names pid ${error.peerPid}`;
    if (error.peerHost !== hostname()) return `it names host ${error.peerHost}`;
    if (error.rank !== rank || error.pid !== pid || error.host !== hostname())
      return `its rank, pid and host are ${error.rank}, ${error.pid} and ${error.host}`;
    const { detectedBy = -1 } = error;
    if (detectedBy === rank || detectedBy < 0 || detectedBy >= size)
      return `it says that rank ${error.detectedBy} saw it`;
    if (error.consequence !== (detectedBy !== self))
      return `rank ${self} calls what rank ${detectedBy} saw ${error.consequence ? 'a' : 'no'} consequence`;
    return undefined;
  }
  if (!early) return `it is ${error.code}`;
  if (error.code !== 'TIMEOUT' && error.code !== 'RENDEZVOUS_FAILED') return `it is ${error.code}`;
  // Others may be late as well on a busy machine.
  return error.missing?.includes(rank) ? undefined : `it misses ${error.missing}`;
}

/**
 * What one rank saw while it did something is the same on all that it told: what is wrong, or nothing. These are errors
 * as the group has them: a call that is rejected names itself where `detectedBy` was doing nothing.
 */
export function disagreed(errors: readonly Facts[]): string | undefined {
  const told = new Map<number | undefined, string>();
  for (const { code, detectedBy, op, seq } of errors) {
    if (code !== 'RANK_LOST') continue;
    const what = `${op} ${seq}`;
    if ((told.get(detectedBy) ?? what) !== what)
      return `rank ${detectedBy} was in ${told.get(detectedBy)} and in ${what}`;
    told.set(detectedBy, what);
  }
  return undefined;
}

/** The first thing that is wrong with what they say, or nothing. */
export function misjudged(said: readonly { rank: number; error: Facts }[], blame: Blame): string | undefined {
  for (const { rank, error } of said) {
    const wrong = misnamed(error, rank, blame);
    if (wrong !== undefined) return `rank ${rank}: ${wrong}: ${JSON.stringify(error)}`;
  }
  return undefined;
}
