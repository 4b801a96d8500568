/**
 * The ranks of a test file spread over hosts, round and round, where `NC_TEST_HOSTS` says how many (the projects `hosts`
 * and `hosts-3` of vitest.config.ts); otherwise all of them are on this host, and nothing here does anything.
 *
 * The network is made when a file first needs it and removed at the file's end (spread-setup.ts). This process itself
 * moves to the first host, where rank 0 is: what a test listens on or connects to is in that host's network. Ranks of
 * the other hosts are processes that are started there, or groups of this process whose thread was.
 */
import { closeSync, openSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { GroupInfo, ProcessGroup } from 'node-collectives';
import { expect } from 'vitest';
import { type Hosts, makeHosts, testProgram } from './hosts.ts';

const count = Number(process.env['NC_TEST_HOSTS'] ?? 0);
/** Whether ranks are spread over hosts: for what makes sense on one host only. */
export const overHosts = count > 0;

/** Which addresses the hosts have, both by default. Ranks meet over IPv6 where there is nothing else. */
const families = process.env['NC_TEST_FAMILIES'] as 'ipv4' | 'ipv6' | undefined;

interface Spread {
  network: Hosts;
  /** Open files of the hosts' namespaces. */
  spaces: number[];
}
let spread: Spread | undefined;
let addon: { enter(fd: number): number } | undefined;

/** Moves this thread, and what it starts and opens from then on, to a host. */
function enter(fd: number): void {
  addon ??= createRequire(import.meta.url)(testProgram('calls.node')) as NonNullable<typeof addon>;
  const errno = addon.enter(fd);
  if (errno !== 0) throw new Error(`this process cannot enter a network namespace (errno ${errno})`);
}

function made(): Spread {
  if (spread !== undefined) return spread;
  const network = makeHosts(count, { families: families ?? 'both' });
  spread = { network, spaces: network.hosts.map(({ name }) => openSync(`/run/netns/${name}`, 'r')) };
  enter(spread.spaces[0] as number);
  // Addresses of these networks are no loopback. Groups whose test gives them no secret are to form all the same.
  process.env['NODE_COLLECTIVES_ALLOW_UNAUTHENTICATED'] = '1';
  return spread;
}

/** For spread-setup.ts. */
export function endSpread(): void {
  for (const fd of spread?.spaces ?? []) closeSync(fd);
  spread?.network[Symbol.dispose]();
  spread = undefined;
}

/** The address at which groups meet: rank 0's, numeric. */
export function home(): string {
  if (!overHosts) return '127.0.0.1';
  const [first] = made().network.hosts;
  return (families === 'ipv6' ? first?.ipv6 : first?.ipv4) as string;
}

/** The same in a text with a port. */
export function homeIn(port: number | string): string {
  return home().includes(':') ? `[${home()}]:${port}` : `${home()}:${port}`;
}

/** What `body` starts or opens at once is on the host of that rank. */
export function onHostOf<T>(rank: number, body: () => T): T {
  if (!overHosts) return body();
  const { spaces } = made();
  enter(spaces[rank % count] as number);
  try {
    return body();
  } finally {
    enter(spaces[0] as number);
  }
}

let turn: Promise<unknown> = Promise.resolve();

/**
 * A group of this process whose threads are on the host of its rank. create() starts them some promises after its call,
 * so this thread stays there for a turn of the event loop, and one rank follows another.
 */
export function createOnHost(rank: number, create: () => Promise<ProcessGroup>): Promise<ProcessGroup> {
  if (!overHosts) return create();
  const { spaces } = made();
  const begun = turn.then(async () => {
    enter(spaces[rank % count] as number);
    try {
      const joining = create();
      joining.catch(() => {}); // it may be over within the turn
      await new Promise(setImmediate);
      return { joining };
    } finally {
      enter(spaces[0] as number);
    }
  });
  turn = begun.catch(() => {});
  return begun.then(({ joining }) => joining);
}

/** That a group's links are what the spreading asks for: a test that ran on one host would prove nothing. */
export function expectSpread(info: Pick<GroupInfo, 'rank' | 'members'>): void {
  if (!overHosts) return;
  const own = info.rank % count;
  for (const { rank, link } of info.members) {
    if (rank === info.rank) continue;
    const { ipv4, ipv6 } = made().network.hosts[rank % count] as Hosts['hosts'][number];
    const there = families === 'ipv6' ? `[${ipv6}]:` : `${ipv4}:`;
    if (rank % count === own) expect(link, `rank ${info.rank} to ${rank}`).toBe('unix');
    else expect(link, `rank ${info.rank} to ${rank}`).toContain(there);
  }
}
