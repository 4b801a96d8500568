// A cable that is cut tells nobody: each side finds out by the other's silence, in time, busy or idle. One that is slow
// and full is none that is cut.
import { randomUUID } from 'node:crypto';
import type { GroupInfo } from 'node-collectives';
import { describe, expect, onTestFinished, test } from 'vitest';
import { Puppet } from '../fixtures/lifecycle/strings.ts';
import { makeHosts, whyNoHosts } from '../helpers/hosts.ts';
import { startRank } from '../helpers/ranks.ts';

const why = whyNoHosts();
if (why !== undefined) console.log(`cut and slow cables: skipped, ${why}`);

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

test.skipIf(why !== undefined)(
  'a slow cable, and an all-reduce that fills it for far longer than a rank may be silent: nobody is lost',
  async () => {
    const network = makeHosts(2);
    onTestFinished(() => network[Symbol.dispose]());
    const env = { NODE_COLLECTIVES_SECRET: randomUUID() };
    const ranks = [0, 0, 1, 1].map((host, rank) => {
      const { command } = network.hosts[host]!;
      return new Puppet(startRank('lifecycle/rank.mjs', { command, env, name: `rank ${rank}` }), rank);
    });
    await Promise.all(ranks.map(({ process }) => process.next('ready')));
    // The usual limits.
    const common = { masterAddr: network.hosts[0]!.ipv4, masterPort: 29_500, worldSize: 4 };
    const infos = await Promise.all(
      ranks.map((each) => each.call<GroupInfo>('create', { options: { ...common, rank: each.rank } })),
    );
    expect(infos[0]).toMatchObject({ heartbeatMs: 500, deadAfterMs: 3_000 });
    await network.impair({ delayMs: 0, lossPercent: 0, seed: 1, kilobytesPerSecond: 2_000 });
    // 8 MB of which each host needs more than half from the other.
    const call = { do: 'collective', method: 'allReduce', length: 2_000_000 };
    const answers = await Promise.all(ranks.map((each) => each.answer(call, 60_000)));
    for (const { error, ms } of answers) {
      expect(error).toBeUndefined();
      expect(ms).toBeGreaterThan(2 * 3_000);
    }
    expect(new Set(answers.map(({ value }) => value)).size).toBe(1);
    expect(await Promise.all(ranks.map((each) => each.call('vote', { value: each.rank === 3 })))).toEqual(
      ranks.map(() => true),
    );
  },
);
