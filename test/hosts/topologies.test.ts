// The same group over several hosts, in networks as they are met: two and three hosts, either family, host names that
// are loopback addresses, an interface that leads nowhere, delay and loss.
import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import { describe, expect, onTestFinished, test } from 'vitest';
import { Sailor } from '../campaigns/crew.ts';
import { type Host, type Hosts, type Making, makeHosts, whyNoHosts } from '../helpers/hosts.ts';

const why = whyNoHosts();
if (why !== undefined) console.log(`topologies: skipped, ${why}`);

const seed = Number(process.env['NC_SEED'] ?? Date.now() % 100_000);
console.log(`topologies: seed ${seed}`);

interface Topology extends Making {
  hosts: number;
  /** Rank 0's address as the others know it. */
  master: (hosts: readonly Host[]) => string;
  impaired?: { delayMs: number; lossPercent: number };
  env?: NodeJS.ProcessEnv;
}

const first = (of: 'ipv4' | 'ipv6') => (hosts: readonly Host[]) => (hosts[0] as Host)[of];
const topologies: Record<string, Topology> = {
  '2 hosts, IPv4': { hosts: 2, families: 'ipv4', master: first('ipv4') },
  '2 hosts, IPv6': { hosts: 2, families: 'ipv6', master: first('ipv6') },
  '3 hosts, dual stack, over IPv6': { hosts: 3, master: first('ipv6') },
  '2 hosts, dual stack, by a name with both addresses': {
    hosts: 2,
    master: () => 'leader',
    names: ([leader]) => ['127.0.0.1 localhost', `${leader?.ipv6} leader`, `${leader?.ipv4} leader`],
  },
  '2 hosts whose own names are 127.0.1.1': {
    hosts: 2,
    master: first('ipv4'),
    names: () => ['127.0.0.1 localhost', `127.0.1.1 ${hostname()}`],
  },
  '2 hosts with a dead interface': { hosts: 2, deadInterface: true, master: first('ipv4') },
  '2 hosts with a dead interface, and the live one asked for': {
    hosts: 2,
    deadInterface: true,
    master: first('ipv4'),
    env: { NCCL_SOCKET_IFNAME: '^lo,eth1' },
  },
  '2 hosts, 20 ms and 1 % loss': {
    hosts: 2,
    master: first('ipv4'),
    impaired: { delayMs: 20, lossPercent: 1 },
  },
};

async function network(topology: Topology): Promise<Hosts> {
  const made = makeHosts(topology.hosts, topology);
  onTestFinished(() => made[Symbol.dispose]());
  if (topology.impaired !== undefined) {
    const means = await made.impair({ ...topology.impaired, seed });
    console.log(`20 ms and 1 % loss by ${means}`);
  }
  return made;
}

/** Two ranks on each host, formed. */
async function formed(topology: Topology): Promise<Sailor[]> {
  const { hosts } = await network(topology);
  const env = { ...topology.env, NODE_COLLECTIVES_SECRET: randomUUID() };
  const sailors = hosts.flatMap(({ command }) => [0, 1].map(() => new Sailor({ command, env })));
  onTestFinished(() => {
    for (const sailor of sailors) sailor.child.kill('SIGKILL');
  });
  await Promise.all(sailors.map((sailor) => sailor.next(['ready'], 30_000)));
  const common = { masterAddr: topology.master(hosts), masterPort: 29_500, worldSize: sailors.length };
  const limits = { initTimeoutMs: 20_000, timeoutMs: 30_000 };
  for (const [rank, sailor] of sailors.entries()) {
    sailor.send({ do: 'join', storePort: 0, options: { ...common, ...limits, rank }, work: 'idle', seed });
  }
  await heard(sailors, 'formed');
  return sailors;
}

async function heard(sailors: readonly Sailor[], event: 'formed' | 'sailed' | 'reformed'): Promise<void> {
  const said = await Promise.all(sailors.map((sailor) => sailor.next([event, 'ended'], 60_000)));
  for (const each of said) expect(each).toMatchObject({ event });
}

/** Random operations, each checked against plain arithmetic on every rank. */
async function work(sailors: readonly Sailor[], steps: number): Promise<void> {
  for (const sailor of sailors) sailor.send({ do: 'sail', steps, seed, scale: 5_000 });
  await heard(sailors, 'sailed');
}

describe.skipIf(why !== undefined).each(Object.entries(topologies))('%s', (_name, topology) => {
  const slow = topology.impaired !== undefined;

  test('collectives and votes are right', async () => {
    await work(await formed(topology), slow ? 25 : 150);
  });

  test('a killed rank is named on every host, and the others go on without it', async () => {
    const sailors = await formed(topology);
    const lost = seed % sailors.length;
    const dying = sailors[lost] as Sailor;
    const survivors = sailors.filter((sailor) => sailor !== dying);
    dying.child.kill('SIGKILL');
    const began = performance.now();
    for (const { error } of await Promise.all(survivors.map((each) => each.next(['knew'], 10_000))))
      expect(error).toMatchObject({ code: 'RANK_LOST', rank: lost, peerPid: dying.pid });
    expect(performance.now() - began).toBeLessThan(slow ? 3_000 : 1_000);
    for (const sailor of survivors) sailor.send({ do: 'reform', timeoutMs: 30_000 });
    await heard(survivors, 'reformed');
    await work(survivors, slow ? 5 : 30);
  });

  test('an abort on the last rank reaches all', async () => {
    const sailors = await formed(topology);
    const last = sailors.length - 1;
    (sailors[last] as Sailor).send({ do: 'abort', how: 'call', reason: 'enough' });
    for (const { error } of await Promise.all(sailors.map((each) => each.next(['knew'], 10_000)))) {
      expect(error.code).toBe('ABORTED');
      expect(error.message).toContain(`aborted by rank ${last}: enough`);
    }
  });
});
