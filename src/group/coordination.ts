/** What formations leave in a caller's own store, and taking it away again. */
import type { CoordinationStore, Settled } from './options.ts';

/** Which formation a group came from. */
export interface Coordination {
  store: CoordinationStore;
  /** Before each of the keys. */
  scope: string;
  formation: number;
}

/** What rank 0 leaves in place of its address when the formation has failed: look for the next. */
export const formationOver = 'over';

/**
 * Rank 0 with a coordination store: tells the others where its own store listens. An async function, because the
 * store is the caller's, and may throw where it should reject.
 */
export async function publish(settled: Settled, text: (address: string) => string): Promise<void> {
  if (settled.publish === undefined) return;
  const { store, key, address } = settled.publish;
  await store.set(key, text(address));
}

/** After so many numbers without a key there are no older ones: a rank 0 that died may have left a gap. */
const gap = 3;

export function endpointKey(scope: string, formation: number): string {
  return `${scope}/endpoint/${formation}`;
}

/**
 * Deletes the addresses of formations up to `last`, which nobody will take up any more. Best effort: the store is the
 * caller's, and may be unable to, or gone.
 */
export async function tidy({ store, scope }: Coordination, last: number): Promise<void> {
  if (typeof store.deleteKey !== 'function') return;
  try {
    for (let formation = last, missed = 0; formation > 0 && missed < gap; formation -= 1) {
      missed = (await store.deleteKey(endpointKey(scope, formation))) ? 0 : missed + 1;
    }
  } catch {
    // What is left is a few bytes.
  }
}
