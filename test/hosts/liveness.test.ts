// A cable that is cut tells nobody: each side finds out by the other's silence, in time, busy or idle.
import { describe, expect, test } from 'vitest';
import { makeHosts, whyNoHosts } from '../helpers/hosts.ts';
import { startRank } from '../helpers/ranks.ts';

const why = whyNoHosts();
if (why !== undefined) console.log(`a cut cable: skipped, ${why}`);

const heartbeatMs = 100;
const deadAfterMs = 1_000;
const graceMs = 500;

describe.skipIf(why !== undefined)('a cut cable between two hosts with two ranks each', () => {
  test.each(['idle', 'waiting'])('%s: every rank names one beyond it, in time', async (what) => {
    using network = makeHosts(2);
    const ranks = [0, 0, 1, 1].map((host, rank) =>
      startRank('rendezvous/rank.mjs', { command: network.hosts[host]!.command, name: `rank ${rank}` }),
    );
    const common = {
      masterAddr: network.hosts[0]!.ipv4,
      masterPort: 29_500,
      worldSize: 4,
      heartbeatMs,
      deadAfterMs,
      allowUnauthenticated: true,
    };
    for (const [rank, process] of ranks.entries())
      process.send({ do: 'join', id: 'g', options: { ...common, rank } });
    await Promise.all(ranks.map((rank) => rank.next('formed')));
    // Rank 3 does not call: the others wait when the cable goes.
    if (what === 'waiting')
      for (const rank of ranks.slice(0, 3)) rank.send({ do: 'vote', id: 'g', value: true });
    network.cut(1);
    const cut = performance.now();
    const failed = await Promise.all(ranks.map((rank) => rank.next('lost')));
    expect(performance.now() - cut).toBeLessThan(deadAfterMs + graceMs);
    for (const [rank, { error }] of failed.entries()) {
      const beyond = rank < 2 ? [2, 3] : [0, 1];
      expect(error).toMatchObject({ name: 'RankLostError', code: 'RANK_LOST' });
      expect(beyond).toContain(error.rank);
      expect(error.pid).toBe(ranks[error.rank]!.pid);
      expect(error.consequence).toBe(error.detectedBy !== rank);
    }
    // One cause on each side of the cut, unless both of its ranks saw one first.
    for (const [a, b] of [
      [0, 1],
      [2, 3],
    ] as const) {
      const [one, other] = [failed[a]!.error, failed[b]!.error];
      if (one.consequence || other.consequence) expect(one.rank).toBe(other.rank);
    }
  });
});
