import { describe, expect, it } from 'vitest';
import { type Joining, join, processes, vote } from '../helpers/meeting.ts';
import { registered } from '../helpers/rank-keys.ts';
import { all, type RankEvent, type RankProcess, startRank } from '../helpers/ranks.ts';
import { freePort } from '../helpers/sockets.ts';

const fixture = 'rendezvous/rank.mjs';

const own = { NODE_COLLECTIVES_JOB_ID: 'job' };

const refusal = async (zero: RankProcess | undefined) =>
  (await (zero as RankProcess).next('refused'))['message'];

/** What a claimant asks for that is not to be had, and what it hears. */
interface Claim {
  what: string;
  rank: number;
  size?: number;
  options?: Joining;
  jobId?: string;
  /** Ends at once, or at its own deadline because the right group may still come. */
  atOnce: boolean;
  error: object;
  says: RegExp;
  hostHears: RegExp;
}
const claims: Claim[] = [
  {
    what: 'a taken rank',
    rank: 2,
    atOnce: true,
    error: { name: 'RankTakenError', code: 'RANK_TAKEN', rank: 2, peer: 2 },
    says: /rank 2 .*taken by pid \d+ on/,
    hostHears: /rank 2 .*taken by pid \d+ on/,
  },
  {
    what: 'another world size',
    rank: 1,
    size: 4,
    atOnce: true,
    error: { name: 'GroupMismatchError', code: 'GROUP_MISMATCH', rank: 1, peer: 0 },
    says: /world size 4, but the store at \S+:\d+ is of group 'g' of job 'job' \(3 ranks, hosted by pid \d+/,
    hostHears: /rank 1 was started with world size 4/,
  },
  {
    what: 'a wrong group name',
    rank: 1,
    options: { groupName: 'wrong', initTimeoutMs: 600 },
    atOnce: false,
    error: { name: 'RendezvousError', code: 'RENDEZVOUS_FAILED', rank: 1 },
    says: /did not find the store of group 'wrong'.*the store of group 'g' of job 'job' \(3 ranks/s,
    hostHears: /looks for group 'wrong' of job 'job'/,
  },
  {
    what: "another job's id",
    rank: 1,
    options: { initTimeoutMs: 600 },
    jobId: 'not-this',
    atOnce: false,
    error: { name: 'RendezvousError', code: 'RENDEZVOUS_FAILED', rank: 1 },
    says: /did not find the store of group 'g'.*the store of group 'g' of job 'job' \(3 ranks/s,
    hostHears: /looks for group 'g' of job 'not-this'/,
  },
];

async function refused(
  claim: Claim,
  port: number,
  zero: RankProcess | undefined,
  holder: RankProcess | undefined,
) {
  const jobId = claim.jobId ?? 'job';
  const env = { NODE_COLLECTIVES_JOB_ID: jobId };
  const claimant = startRank(fixture, { name: 'claimant', env, rank: claim.rank });
  await claimant.next('ready');
  join(claimant, claim.rank, claim.size ?? 3, port, claim.options);
  const { error, ms } = await claimant.next('failed', 5_000);
  expect(error).toMatchObject(claim.error);
  expect(error.message).toMatch(claim.says);
  if (claim.what === 'a taken rank') expect(error.peerPid).toBe(holder?.pid);
  if (claim.atOnce) expect(ms).toBeLessThan(1_000);
  const message = await refusal(zero);
  expect(message).toMatchObject({
    groupName: 'g',
    rank: 0,
    claimant: { rank: claim.rank, pid: claimant.pid },
  });
  expect(message.reason).toMatch(claim.hostHears);
}

describe('a claimant is refused on both sides, and the group forms or stands all the same', () => {
  for (const claim of claims) {
    it(claim.what, async () => {
      const port = await freePort();
      const ranks = await processes(3, own);
      const [zero, one, two] = ranks;
      // While it forms: rank 1 comes last.
      join(zero, 0, 3, port);
      join(two, 2, 3, port);
      await registered(port, [0, 2]);
      await refused(claim, port, zero, two);
      join(one, 1, 3, port);
      await all(ranks, 'formed');
      await vote(ranks);
      // After it stands.
      await refused(claim, port, zero, two);
      await vote(ranks);
    });
  }

  it('with several candidates the claimant of a taken rank says so at its deadline', async () => {
    const ports = [await freePort(), await freePort()];
    const ranks = await processes(2, own);
    for (const [rank, process] of ranks.entries()) join(process, rank, 2, ports);
    await all(ranks, 'formed');
    const claimant = startRank(fixture, { name: 'claimant', env: own });
    join(claimant, 1, 2, ports, { initTimeoutMs: 500 });
    const { error } = await claimant.next('failed');
    expect(error).toMatchObject({ code: 'RENDEZVOUS_FAILED' });
    expect(error.message).toMatch(/the group is complete and rank 1 is in it/);
    expect(error.message).toMatch(new RegExp(`:${ports[1]}: Connection refused \\(ECONNREFUSED\\)`));
    expect((await refusal(ranks[0])).claimant).toMatchObject({ rank: 1, pid: claimant.pid });
    await vote(ranks);
  });

  it('a second rank 0 cannot listen', async () => {
    const port = await freePort();
    const ranks = await processes(2, own);
    for (const [rank, process] of ranks.entries()) join(process, rank, 2, port);
    await all(ranks, 'formed');
    const claimant = startRank(fixture, { name: 'claimant', env: own });
    join(claimant, 0, 2, port);
    const { error, ms } = await claimant.next('failed');
    expect(error).toMatchObject({ code: 'EADDRINUSE', rank: 0, errno: 'EADDRINUSE' });
    expect(ms).toBeLessThan(1_000);
    await vote(ranks);
  });

  it('two processes that claim one rank at the same time: one gets it', async () => {
    const port = await freePort();
    const ranks = await processes(4, own);
    const [zero, one, first, second] = ranks as [RankProcess, RankProcess, RankProcess, RankProcess];
    join(zero, 0, 3, port);
    join(one, 1, 3, port);
    join(first, 2, 3, port);
    join(second, 2, 3, port);
    const loser = await Promise.race([first, second].map(async (p) => [p, await p.next('failed')] as const));
    expect(loser[1]['error']).toMatchObject({ code: 'RANK_TAKEN', peer: 2 });
    const stand = [zero, one, loser[0] === first ? second : first];
    await all(stand, 'formed');
    await vote(stand);
  });
});

describe('settings', () => {
  it('that differ are named on every rank: field, values, rank', async () => {
    const port = await freePort();
    const ranks = await processes(4, own);
    for (const [rank, process] of ranks.entries()) {
      const settings = { model: 'm', blockSize: rank === 2 ? '32' : '16', seed: '1' };
      join(process, rank, 4, port, { settings });
    }
    const failed = await all(ranks, 'failed');
    for (const [rank, { error, ms }] of failed.entries()) {
      expect(error).toMatchObject({ name: 'GroupMismatchError', code: 'GROUP_MISMATCH', rank, peer: 2 });
      expect(error.peerPid).toBe(ranks[2]?.pid);
      expect(error.message).toMatch(/blockSize is 16 on rank 0 \(pid \d+ on .*\) and 32 on rank 2 \(pid \d+/);
      expect(ms).toBeLessThan(3_000);
    }
  });

  it('that one rank lacks, or has in addition, are named', async () => {
    const ranks = await processes(3, own);
    for (const odd of [{}, { model: 'm', extra: 'x' }]) {
      const port = await freePort();
      for (const [rank, process] of ranks.entries()) {
        join(process, rank, 3, port, { settings: rank === 1 ? odd : { model: 'm' } });
      }
      const failed: RankEvent[] = await all(ranks, 'failed');
      for (const { error } of failed) {
        expect(error).toMatchObject({ code: 'GROUP_MISMATCH', peer: 1 });
        expect(error.message).toMatch(
          'extra' in odd
            ? /extra is \(absent\) on rank 0.*x on rank 1/
            : /model is m on.*\(absent\) on rank 1/,
        );
      }
    }
  });
});
