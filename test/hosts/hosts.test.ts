// Several hosts: what crosses a network goes over TCP, what does not over UNIX sockets; addresses are chosen
// by route.
import { afterAll, describe, expect, test } from 'vitest';
import type { AccessOptions } from '../../src/net/secret.ts';
import { type Host, makeHosts, whyNoHosts } from '../helpers/hosts.ts';
import { type RankProcess, startRank } from '../helpers/ranks.ts';

const why = whyNoHosts();
if (why !== undefined) console.log(`several hosts: skipped, ${why}`);
const network = why === undefined ? makeHosts(2) : undefined;
afterAll(() => network?.[Symbol.dispose]());
const hosts = network?.hosts as [Host, Host];

/** Two ranks on each host: 0 and 1 on the first, 2 and 3 on the second. */
function start(
  masterAddr: string,
  env: (rank: number) => NodeJS.ProcessEnv = () => ({}),
  access: (rank: number) => AccessOptions = () => ({ secret: 'a secret of the tests' }),
): RankProcess[] {
  return Array.from({ length: 4 }, (_, rank) => {
    const host = rank < 2 ? hosts[0] : hosts[1];
    const process = startRank('rendezvous/rank.mjs', {
      command: host.command,
      env: env(rank),
      name: `rank ${rank}`,
    });
    // The namespace is this test's alone, and so is the port.
    const options = {
      masterAddr,
      masterPort: 29500,
      rank,
      worldSize: 4,
      initTimeoutMs: 10_000,
      ...access(rank),
    };
    process.send({ do: 'join', id: 'g', options });
    return process;
  });
}

async function links(rank: RankProcess): Promise<string[]> {
  rank.send({ do: 'info', id: 'g' });
  const { info } = await rank.next('info');
  return info.members.map(({ link }: { link: string }) => link);
}

describe.skipIf(why !== undefined)('two hosts with two ranks each', () => {
  test.each([
    ['IPv4', () => hosts[0].ipv4, (i: 0 | 1) => `${hosts[i].ipv4}:`],
    ['IPv6', () => hosts[0].ipv6, (i: 0 | 1) => `[${hosts[i].ipv6}]:`],
  ])('%s: UNIX sockets within a host, TCP between hosts', async (_name, address, prefix) => {
    const ranks = start(address());
    await Promise.all(ranks.map((rank) => rank.next('formed')));
    for (const [i, rank] of ranks.entries()) {
      const seen = await links(rank);
      for (const [j, link] of seen.entries()) {
        const expected = i === j ? 'self' : Math.floor(i / 2) === Math.floor(j / 2) ? 'unix' : 'tcp';
        if (expected === 'tcp') expect(link).toContain(i < 2 ? prefix(1) : prefix(0));
        else expect(link).toBe(expected);
      }
      rank.send({ do: 'sum', id: 'g' });
    }
    for (const rank of ranks) expect((await rank.next('summed')).sum).toBe(6);
  });

  test('without a secret each rank has to allow what it listens on', async () => {
    const allowed = start(
      hosts[0].ipv4,
      (rank) => (rank === 2 ? { NODE_COLLECTIVES_ALLOW_UNAUTHENTICATED: '1' } : {}),
      (rank) => (rank === 2 ? {} : { allowUnauthenticated: true }),
    );
    await Promise.all(allowed.map((rank) => rank.next('formed')));
    for (const rank of allowed) rank.send({ do: 'close', id: 'g' });
    await Promise.all(allowed.map((rank) => rank.next('closed')));

    const refused = start(hosts[0].ipv4, undefined, () => ({}));
    for (const rank of refused) {
      const { error } = await rank.next('failed');
      expect(error).toMatchObject({ code: 'INVALID_ARGUMENT', address: hosts[0].ipv4 });
      expect(error.message).toMatch(/NODE_COLLECTIVES_SECRET.*allowUnauthenticated: true/);
    }
  });

  test('rank 0 alone with a secret: nobody joins, and the others hear why', async () => {
    const ranks = start(hosts[0].ipv4, undefined, (rank) =>
      rank === 0 ? { secret: 'a secret of the tests' } : { allowUnauthenticated: true },
    );
    for (const rank of ranks.slice(1)) {
      const { error } = await rank.next('failed', 8_000);
      expect(error).toMatchObject({ code: 'AUTHENTICATION_FAILED' });
      expect(error.message).toContain('asks for a secret');
    }
    const { error } = await (ranks[0] as RankProcess).next('failed');
    expect(error).toMatchObject({ code: 'TIMEOUT', missing: [1, 2, 3] });
  });

  test('a rank that dies is known on the other host at once, by name', async () => {
    const ranks = start(hosts[0].ipv4) as [RankProcess, RankProcess, RankProcess, RankProcess];
    await Promise.all(ranks.map((rank) => rank.next('formed')));
    for (const rank of ranks.slice(1)) rank.send({ do: 'vote', id: 'g', value: false });
    ranks[0].kill();
    for (const rank of ranks.slice(1)) {
      const { error } = await rank.next('voteFailed', 2_000);
      expect(error).toMatchObject({ code: 'RANK_LOST', peer: 0 });
    }
  });

  test('an interface without an address of the right family is refused by name', async () => {
    const ranks = start(hosts[0].ipv4, (rank) => (rank === 3 ? { GLOO_SOCKET_IFNAME: 'nope' } : {}));
    const { error } = await (ranks[3] as RankProcess).next('failed');
    expect(error).toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(error.message).toContain('eth0');
  });

  test('loopback is not advertised to another host', async () => {
    const ranks = start(hosts[0].ipv4, (rank) => (rank === 1 ? { GLOO_SOCKET_IFNAME: 'lo' } : {}));
    for (const rank of ranks) {
      const { error } = await rank.next('failed');
      expect(error).toMatchObject({ code: 'GROUP_MISMATCH', peer: 1 });
      expect(error.message).toMatch(/loopback address 127\.0\.0\.1.*GLOO_SOCKET_IFNAME/);
    }
  });
});
