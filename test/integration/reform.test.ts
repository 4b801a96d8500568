// Re-forming: shrinking, growing, and who may die meanwhile. docs/reforming.md.
import { randomUUID } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { type Joining, join, processes, vote } from '../helpers/meeting.ts';
import { all, type RankEvent, type RankProcess } from '../helpers/ranks.ts';
import { freePort } from '../helpers/sockets.ts';

async function formed(count: number, more: Joining = {}): Promise<RankProcess[]> {
  const ranks = await processes(count);
  const port = await freePort();
  const jobId = randomUUID();
  for (const [rank, process] of ranks.entries()) join(process, rank, count, port, { jobId, ...more });
  await all(ranks, 'formed');
  return ranks;
}

const infoOf = async (process: RankProcess, id = 'g') => {
  process.send({ do: 'info', id });
  return (await process.next('info')).info;
};

const reform = (ranks: readonly RankProcess[], options: object = {}, more: object = {}) => {
  for (const process of ranks) process.send({ do: 'reform', id: 'g', options, ...more });
};

/** Kills some, and waits until each of the others has heard that its group has failed. */
async function kill(victims: RankProcess[], survivors: RankProcess[], id = 'g'): Promise<void> {
  for (const process of survivors) process.send({ do: 'vote', id, value: false });
  for (const process of victims) process.kill();
  for (const { error } of await all(survivors, 'voteFailed'))
    expect(error).toMatchObject({ code: 'RANK_LOST' });
}

function expectGroup(events: RankEvent[], generation: number, ids: string[]): void {
  for (const [rank, { info }] of events.entries()) {
    expect(info).toMatchObject({ rank, size: ids.length, generation, state: 'open', lost: [] });
    expect(info.members.map(({ id }: { id: string }) => id)).toEqual(ids);
  }
}

/** reform() until it succeeds on all, which fails only because somebody else was lost meanwhile. */
async function untilReformed(ranks: RankProcess[], tries = 5): Promise<RankEvent[]> {
  return Promise.all(
    ranks.map(async (process) => {
      for (let i = 0; i < tries; i += 1) {
        reform([process]);
        const event = await process.next(['reformed', 'reformFailed']);
        if (event.event === 'reformed') return event;
        expect(event['error']).toMatchObject({ code: 'RANK_LOST' });
      }
      throw new Error(`${process.name} did not re-form in ${tries} tries`);
    }),
  );
}

describe('the cases of a reconfiguration', () => {
  it('no change', async () => {
    const ranks = await formed(3);
    const ids = (await infoOf(ranks[0] as RankProcess)).members.map((m: { id: string }) => m.id);
    expect(new Set(ids).size).toBe(3);
    for (let generation = 1; generation <= 3; generation += 1) {
      reform(ranks);
      expectGroup(await all(ranks, 'reformed'), generation, ids);
      await vote(ranks);
    }
  });

  it.each([[0], [1], [3], [0, 1], [1, 3], [0, 2, 3]])('shrink: %s killed', async (...dead) => {
    const ranks = await formed(4);
    const { members } = await infoOf(ranks[0] as RankProcess);
    const survivors = ranks.filter((_, rank) => !dead.includes(rank));
    await kill(
      ranks.filter((_, rank) => dead.includes(rank)),
      survivors,
    );
    const events = await untilReformed(survivors);
    const ids = members
      .filter((m: { rank: number }) => !dead.includes(m.rank))
      .map((m: { id: string }) => m.id);
    expectGroup(events, 1, ids);
    await vote(survivors);
  });

  it('shrink: a healthy group, one leaves by closing', async () => {
    const ranks = await formed(3);
    const stay = [ranks[0], ranks[2]] as RankProcess[];
    reform(stay, { ranks: [2, 0] });
    await all(stay, 'reformed');
    (ranks[1] as RankProcess).send({ do: 'close', id: 'g' });
    await (ranks[1] as RankProcess).next('closed');
    await vote(stay);
  });

  it('grow: 2 to 4', async () => {
    const ranks = await formed(2);
    const jobId = randomUUID();
    const old = await formed(2, { jobId });
    const { next, members } = await infoOf(old[1] as RankProcess);
    expect(next.generation).toBe(1);
    const newcomers = await processes(2);
    for (const [i, process] of newcomers.entries()) {
      const { masterPort, ...more } = next;
      join(process, 2 + i, 4, masterPort, { jobId, ...more });
    }
    reform(old, { worldSize: 4 });
    await all(newcomers, 'formed');
    const events = await all(old, 'reformed');
    const seen = await Promise.all([...old, ...newcomers].map((process) => infoOf(process)));
    const ids = (events[0] as RankEvent)['info'].members.map((m: { id: string }) => m.id);
    expect(ids.slice(0, 2)).toEqual(members.map((m: { id: string }) => m.id));
    expectGroup(
      seen.map((info) => ({ event: 'info', info })),
      1,
      ids,
    );
    await vote([...old, ...newcomers]);
    // And once more, with the newcomers among those that go on.
    await kill([old[0] as RankProcess], [old[1] as RankProcess, ...newcomers]);
    const again = await untilReformed([old[1] as RankProcess, ...newcomers]);
    expectGroup(again, 2, ids.slice(1));
    expect((await infoOf(ranks[0] as RankProcess)).state).toBe('open'); // another job's group
  });

  it('grow and shrink: a newcomer takes the place of the dead rank 0', async () => {
    const jobId = randomUUID();
    const ranks = await formed(3, { jobId });
    const [dead, ...survivors] = ranks as [RankProcess, ...RankProcess[]];
    await kill([dead], survivors);
    const { next, lost } = await infoOf(survivors[1] as RankProcess);
    expect(lost).toEqual([0]);
    const [newcomer] = (await processes(1)) as [RankProcess];
    const { masterPort, ...more } = next;
    join(newcomer, 2, 3, masterPort, { jobId, ...more });
    reform(survivors, { worldSize: 3 });
    await all(survivors, 'reformed');
    await newcomer.next('formed');
    await vote([...survivors, newcomer]);
  });

  it('split brain: two halves form two groups, apart', async () => {
    const ranks = await formed(4);
    const [left, right] = [ranks.slice(0, 2), ranks.slice(2)];
    reform(left, { ranks: [0, 1] });
    reform(right, { ranks: [2, 3] });
    await all(ranks, 'reformed');
    await Promise.all([vote(left), vote(right)]);
    // Each goes on by itself.
    await kill([left[0] as RankProcess], [left[1] as RankProcess]);
    const [alone] = await untilReformed([left[1] as RankProcess]);
    expect(alone?.['info']).toMatchObject({ size: 1, generation: 2 });
    await vote(right);
  });
});

describe('ranks that do not agree', () => {
  it.each([
    [
      'one leaves out a rank that lives',
      [
        [0, 1, 2],
        [0, 1, 2],
        [0, 2],
      ],
    ],
    [
      'one leaves out the lowest',
      [
        [0, 1, 2],
        [0, 1, 2],
        [1, 2],
      ],
    ],
    [
      'one means more',
      [
        [0, 1],
        [0, 1],
        [0, 1, 2],
      ],
    ],
  ])('%s: GROUP_MISMATCH, with both sets', async (_name, sets) => {
    const ranks = await formed(3);
    for (const [rank, process] of ranks.entries())
      reform([process], { ranks: sets[rank], timeoutMs: 10_000 });
    const loser = await (ranks[2] as RankProcess).next('reformFailed');
    const lowest = (sets[0] as number[])[0] as number;
    expect(loser['ms']).toBeLessThan(5_000);
    const others = await Promise.all(
      ranks.slice(0, 2).map((process) => process.next(['reformFailed', 'reformed'])),
    );
    // So slow that the others have re-formed without it and left the old group, which it hears first.
    if (loser['error'].code === 'RANK_LOST') {
      expect(others.map(({ event }) => event)).toEqual(['reformed', 'reformed']);
      expect([0, 1]).toContain(loser['error'].peer);
      return;
    }
    expect(loser['error']).toMatchObject({ code: 'GROUP_MISMATCH', op: 'reform' });
    expect(loser['error'].peer).toBe(sets[2]?.includes(lowest) ? lowest : undefined);
    const said = [loser];
    for (const event of others) {
      // Where the third came when the other two stood already, they stand.
      if (event.event === 'reformed') expect(sets[0]).toEqual([0, 1]);
      else said.push(event);
    }
    for (const { error } of said as RankEvent[]) expect(error.message).toMatch(/do not agree.*ranks 0-[12]/s);
  });

  it('world sizes that differ end it for all', async () => {
    const ranks = await formed(3);
    reform(ranks.slice(0, 2), { worldSize: 4 });
    reform(ranks.slice(2), { worldSize: 3 });
    for (const { error } of await all(ranks, 'reformFailed'))
      expect(error).toMatchObject({ code: 'GROUP_MISMATCH' });
    await untilReformed(ranks);
    await vote(ranks);
  });
});

describe('survivors that do not come', () => {
  it('one never calls: all fail at the deadline, which names it, and may leave it out', async () => {
    const ranks = await formed(4);
    await kill(
      [ranks[1] as RankProcess],
      [0, 2, 3].map((rank) => ranks[rank] as RankProcess),
    );
    const callers = [ranks[0], ranks[3]] as RankProcess[];
    reform(callers, { timeoutMs: 500 });
    for (const { error } of await all(callers, 'reformFailed')) {
      expect(error).toMatchObject({ code: 'TIMEOUT', op: 'reform', missing: [2], peer: 2 });
    }
    reform(callers, { ranks: [0, 3] });
    await all(callers, 'reformed');
    await vote(callers);
  });

  it('the lowest never calls: the others say at the deadline where they looked', async () => {
    const ranks = await formed(3);
    reform(ranks.slice(1), { timeoutMs: 400 });
    for (const { error } of await all(ranks.slice(1), 'reformFailed')) {
      expect(error).toMatchObject({ code: 'RENDEZVOUS_FAILED', op: 'reform' });
    }
    // The healthy group was not touched by that.
    await vote(ranks);
    await untilReformed(ranks);
  });

  it('they call at different times', async () => {
    const ranks = await formed(4);
    await kill([ranks[3] as RankProcess], ranks.slice(0, 3));
    for (const process of [2, 0, 1].map((rank) => ranks[rank] as RankProcess)) {
      // Who has called waits for the last.
      for (const each of ranks) expect(each.events.filter(({ event }) => event === 'reformed')).toEqual([]);
      reform([process]);
      await infoOf(process); // it has begun
      await new Promise((resolve) => setTimeout(resolve, 100)); // what is tested: not at once
    }
    // The last finds the others there, whatever pauses they make by now; nobody waits for a limit.
    const events = await all(ranks.slice(0, 3), 'reformed');
    expect((events[1] as RankEvent)['ms']).toBeLessThan(2_000);
  });

  it('one gives up by its signal: all hear it, and the next attempt succeeds', async () => {
    const ranks = await formed(3);
    reform(ranks.slice(1));
    await infoOf(ranks[2] as RankProcess);
    (ranks[2] as RankProcess).send({ do: 'abort', id: 'g', reason: 'second thoughts' });
    const { error } = await (ranks[2] as RankProcess).next('reformFailed');
    expect(error).toMatchObject({ code: 'ABORTED', peer: 2, op: 'reform' });
    // Attempt 1 of rank 1, attempt 2 of rank 2, with which it stops telling of the first; and rank 0 is only now coming.
    reform([ranks[2]] as RankProcess[]);
    await infoOf(ranks[2] as RankProcess);
    reform([ranks[0]] as RankProcess[]);
    await all(ranks, 'reformed');
    await vote(ranks);
  });

  it('one whose signal has fired before its call: all hear it', async () => {
    const ranks = await formed(3);
    reform([ranks[0], ranks[2]] as RankProcess[]);
    await infoOf(ranks[0] as RankProcess);
    ranks[1]?.send({ do: 'reform', id: 'g', aborted: 'second thoughts' });
    for (const { error } of await all(ranks, 'reformFailed', 5_000)) {
      expect(error).toMatchObject({ code: 'ABORTED', peer: 1, op: 'reform' });
      expect(error.message).toContain('second thoughts');
    }
  });

  it('one that closes the old group is left out by the next attempt', async () => {
    const ranks = await formed(3);
    reform(ranks.slice(1));
    // Both have begun; one that hears of the closing first leaves rank 0 out by itself.
    await Promise.all(ranks.slice(1).map((process) => infoOf(process)));
    (ranks[0] as RankProcess).send({ do: 'close', id: 'g' });
    for (const event of await all(ranks.slice(1), 'reformFailed')) {
      expect(event).toMatchObject({ error: { code: 'RANK_LOST', peer: 0 }, lost: [0] });
    }
    expectGroup(
      await untilReformed(ranks.slice(1)),
      1,
      (await infoOf(ranks[1] as RankProcess)).members.map((m: { id: string }) => m.id),
    );
  });
});
