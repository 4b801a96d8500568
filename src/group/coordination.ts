/** Meeting through a caller's own store, what formations leave in it, and taking that away again. */
import { isIP } from 'node:net';
import { InvalidArgumentError } from '../errors.ts';
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

/**
 * Through a coordination store. Rank 0 numbers its formations of this name. The others take the latest that they have
 * not tried yet, or else the next: so nobody takes up the address of an earlier one twice, and a rank that missed
 * formations (it was restarted, say) is in step again after one try. One formation of a name at a time.
 */
export async function coordinate(
  store: CoordinationStore,
  settled: Settled,
  masterAddr: string,
  end: number,
  signal: AbortSignal,
): Promise<{ host: string; port: number } | undefined> {
  const { groupName, jobId, rank } = settled.native;
  const scope = `node-collectives/${jobId}/${groupName}`;
  const count = async (of: number, amount: number) =>
    Number(await store.add(`${scope}/formations/${of}`, amount));
  let formation: number;
  if (rank === 0) {
    formation = await count(0, 1);
  } else {
    const [tried, latest] = await Promise.all([count(rank, 0), count(0, 0)]);
    formation = tried < latest ? latest : latest + 1;
    await count(rank, formation - tried);
  }
  settled.coordination = { store, scope, formation };
  const keyOf = (n: number) => endpointKey(scope, n);
  if (rank === 0) {
    settled.publish = { store, key: keyOf(formation), address: masterAddr };
    return undefined;
  }
  const read = async () => {
    const timeoutMs = Math.max(1, Math.ceil(end - performance.now()));
    return Buffer.from(await store.get(keyOf(formation), { timeoutMs, signal })).toString();
  };
  let text = await read();
  for (; text === formationOver; text = await read()) {
    formation += 1;
    settled.coordination.formation = formation;
    await count(rank, 1);
  }
  const [host = '', port = ''] = text.split(' ');
  if ((isIP(host) === 0 && host === '') || !/^\d+$/.test(port)) {
    throw new InvalidArgumentError(
      `create: the store holds '${text}' under '${keyOf(formation)}', which is no address`,
      {
        op: 'create',
      },
    );
  }
  return { host, port: Number(port) };
}
