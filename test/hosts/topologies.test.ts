// The same group over several hosts, in networks as they are met: two and three hosts, either family, host names that
// are loopback addresses, an interface that leads nowhere, delay and loss. In each of them all that a group does.
import { createHash, randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import type { GroupInfo } from 'node-collectives';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Puppet } from '../fixtures/lifecycle/strings.ts';
import { type Host, type Hosts, type Making, makeHosts, whyNoHosts } from '../helpers/hosts.ts';
import { startRank } from '../helpers/ranks.ts';

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
const named = (order: readonly ('ipv4' | 'ipv6')[]): Pick<Topology, 'master' | 'names'> => ({
  master: () => 'leader',
  names: ([leader]) => ['127.0.0.1 localhost', ...order.map((of) => `${(leader as Host)[of]} leader`)],
});
const topologies: Record<string, Topology> = {
  '2 hosts, IPv4': { hosts: 2, families: 'ipv4', master: first('ipv4') },
  '2 hosts, IPv6': { hosts: 2, families: 'ipv6', master: first('ipv6') },
  '2 hosts, dual stack, over IPv4': { hosts: 2, master: first('ipv4') },
  '3 hosts, IPv4': { hosts: 3, families: 'ipv4', master: first('ipv4') },
  '3 hosts, dual stack, over IPv4': { hosts: 3, master: first('ipv4') },
  '3 hosts, dual stack, over IPv6': { hosts: 3, master: first('ipv6') },
  '2 hosts, dual stack, by a name with both addresses': { hosts: 2, ...named(['ipv6', 'ipv4']) },
  '2 hosts, dual stack, by a name with both, the other first': { hosts: 2, ...named(['ipv4', 'ipv6']) },
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

/** What rank `rank` contributes; the same in fixtures/lifecycle/rank.mjs. */
function numbersOf(rank: number, length: number): Int32Array {
  const numbers = new Int32Array(length);
  for (let i = 0; i < length; i += 1) numbers[i] = (rank + 1) * ((i % 1000) + 1);
  return numbers;
}
function joined(parts: readonly Int32Array[]): Int32Array {
  const whole = new Int32Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
const sha1 = (array: Int32Array) => createHash('sha1').update(Buffer.from(array.buffer)).digest('hex');

describe.skipIf(why !== undefined).each(Object.entries(topologies))('%s', (_name, topology) => {
  const slow = topology.impaired !== undefined;
  const size = 2 * topology.hosts;
  const last = size - 1;
  let network: Hosts;
  /** Two processes on each host. */
  let ranks: Puppet[];

  beforeAll(async () => {
    network = makeHosts(topology.hosts, topology);
    if (topology.impaired !== undefined) {
      const means = await network.impair({ ...topology.impaired, seed });
      console.log(`20 ms and 1 % loss by ${means}`);
    }
    const env = { ...topology.env, NODE_COLLECTIVES_SECRET: randomUUID() };
    ranks = network.hosts
      .flatMap(({ command }) => [command, command])
      .map((command, rank) => {
        const process = startRank('lifecycle/rank.mjs', { command, env, name: `rank ${rank}` });
        return new Puppet(process, rank);
      });
    await Promise.all(ranks.map(({ process }) => process.next('ready', 30_000)));
  });
  afterAll(async () => {
    for (const { process } of ranks ?? []) process.kill();
    await Promise.all((ranks ?? []).map(({ process }) => process.exited));
    network?.[Symbol.dispose]();
  });

  const each = <T = unknown>(what: string, args: (rank: number) => Record<string, unknown> = () => ({})) =>
    Promise.all(ranks.map((rank) => rank.call<T>(what, args(rank.rank))));
  const failures = (of: readonly Puppet[], what: string, args: (rank: number) => Record<string, unknown>) =>
    Promise.all(of.map(async (rank) => (await rank.failure(what, args(rank.rank))).error));

  /** All processes form a group, whose links are sockets of this host within it and TCP beyond. */
  async function form(): Promise<void> {
    const common = {
      masterAddr: topology.master(network.hosts),
      masterPort: 29_500,
      worldSize: size,
      initTimeoutMs: 30_000,
      timeoutMs: 30_000,
    };
    const infos = await each<GroupInfo>('create', (rank) => ({ options: { ...common, rank } }));
    const literal = network.hosts.flatMap(({ ipv4, ipv6 }) => [ipv4, ipv6]).includes(common.masterAddr);
    for (const info of infos) {
      for (const { rank, link } of info.members) {
        if (rank === info.rank) continue;
        const { ipv4, ipv6 } = network.hosts[rank >> 1] as Host;
        if (rank >> 1 === info.rank >> 1) expect(link).toBe('unix');
        else if (!literal) expect([`${ipv4}:`, `[${ipv6}]:`]).toContain(link.replace(/\d+$/, ''));
        // In the family of the address that was given.
        else expect(link).toContain(common.masterAddr.includes(':') ? `[${ipv6}]:` : `${ipv4}:`);
      }
    }
  }

  /** Every collective, at that length and in a group of that size. */
  async function collectives(of: readonly Puppet[], length: number): Promise<void> {
    const members = of.map((_, rank) => rank);
    const n = of.length;
    const inputs = members.map((rank) => numbersOf(rank, length));
    // 1 + 2 + ... times what rank 0 has.
    const summed = numbersOf((n * (n + 1)) / 2 - 1, length);
    const block = (array: Int32Array, at: number) => array.slice((at * length) / n, ((at + 1) * length) / n);
    const root = seed % n;
    const wanted: [string, object, (rank: number) => Int32Array][] = [
      ['allReduce', {}, () => summed],
      ['allReduce', { op: 'max' }, () => inputs[n - 1]!],
      ['broadcast', { root }, () => inputs[root]!],
      ['allGather', {}, () => joined(inputs)],
      ['reduce', { root }, (rank) => (rank === root ? summed : inputs[rank]!)],
      ['reduceScatter', {}, (rank) => block(summed, rank)],
      ['allToAll', {}, (rank) => joined(inputs.map((input) => block(input, rank)))],
    ];
    for (const [method, options, result] of wanted) {
      const got = await Promise.all(of.map((rank) => rank.call('collective', { method, length, options })));
      expect(got, `${method} of ${length}`).toEqual(members.map((rank) => sha1(result(rank))));
    }
    await Promise.all(of.map((rank) => rank.call('barrier')));
  }

  test('collectives, votes and messages are right, and the group closes', async () => {
    await form();
    await collectives(ranks, 60);
    await collectives(ranks, slow ? 6_000 : 300_000);

    for (const voter of [-1, 0, last])
      expect(await each('vote', (rank) => ({ value: rank === voter }))).toEqual(ranks.map(() => voter >= 0));
    expect(await each('kv', (rank) => ({ bytes: 1_000 + ((rank + seed) % size) }))).toEqual(
      ranks.map(() => '1000n'),
    );
    for (const pausing of [1, size]) {
      const state = (rank: number) => ({ hasUnfinished: false, pendingPause: rank < pausing });
      expect(await each('state', (rank) => ({ state: state(rank) }))).toEqual(
        ranks.map(() => ({ hasUnfinished: pausing < size, pauseConsensus: pausing === size })),
      );
    }

    // Round the ring, so over each cable both ways.
    for (const length of [5, slow ? 5_000 : 100_000]) {
      const before = (rank: number) => sha1(numbersOf((rank + last) % size, length));
      expect(await each('shift', () => ({ length, tag: length }))).toEqual(
        ranks.map(({ rank }) => before(rank)),
      );
    }

    // Nobody waits for word from ranks that have closed before: that took the whole second that is left for goodbyes.
    const closed = await Promise.all(ranks.map((rank) => rank.answer({ do: 'close' })));
    if (!slow) expect(Math.max(...closed.map(({ ms }) => ms))).toBeLessThan(800);
    for (const { state } of await each<GroupInfo>('info')) expect(state).toBe('closed');
  });

  test('calls that differ are told on all ranks', async () => {
    await form();
    const odd = seed % size;
    const errors = await failures(ranks, 'collective', (rank) => ({
      method: 'allReduce',
      length: rank === odd ? 1_001 : 1_000,
    }));
    for (const error of errors) {
      expect(error, error.message).toMatchObject({ code: 'COLLECTIVE_MISMATCH' });
      expect(error.message).toMatch(/int32 x 100[01].*int32 x 100[01]/);
    }
    await each('close');
  });

  test('an abort on the last rank reaches all', async () => {
    await form();
    const waiting = failures(ranks.slice(0, last), 'vote', () => ({}));
    await ranks[last]!.call('abort', { reason: 'enough' });
    for (const error of [...(await waiting), ...(await failures(ranks.slice(last), 'vote', () => ({})))]) {
      expect(error, error.message).toMatchObject({ code: 'ABORTED' });
      expect(error.message).toBe(`aborted by rank ${last}: enough`);
    }
    await each('close');
  });

  test('a killed rank is named on every host, and the others re-form without it', async () => {
    await form();
    const lost = ranks[seed % size]!;
    const survivors = ranks.filter((rank) => rank !== lost);
    const waiting = failures(survivors, 'vote', () => ({}));
    await Promise.all(survivors.map((rank) => rank.call('underway')));
    lost.process.kill();
    const killed = performance.now();
    for (const error of await waiting) {
      expect(error, error.message).toMatchObject({
        code: 'RANK_LOST',
        rank: lost.rank,
        pid: lost.process.pid,
        host: hostname(),
      });
    }
    expect(performance.now() - killed).toBeLessThan(slow ? 3_000 : 1_000);
    const infos = await Promise.all(
      survivors.map((rank) => rank.call<GroupInfo>('reform', { options: { timeoutMs: 30_000 } })),
    );
    for (const [rank, info] of infos.entries())
      expect(info).toMatchObject({ rank, size: last, generation: 1 });
    // Lengths that divide by 3 and by 5.
    await collectives(survivors, 60);
    const votes = await Promise.all(survivors.map((rank, i) => rank.call('vote', { value: i === last - 1 })));
    expect(votes).toEqual(survivors.map(() => true));
    await Promise.all(survivors.map((rank) => rank.call('close')));
  });
});
