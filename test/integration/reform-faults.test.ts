// Re-forming while ranks are killed, at random moments and many times over; how long it takes.
// NC_REFORM_KILLS: how many kills (30); NC_REFORM_SEED repeats a run.
import { randomUUID } from 'node:crypto';
import { expect, test } from 'vitest';
import { join, processes, vote } from '../helpers/meeting.ts';
import { all, type RankEvent, type RankProcess } from '../helpers/ranks.ts';
import { freePort } from '../helpers/sockets.ts';
import { overHosts } from '../helpers/spread.ts';

const jobId = randomUUID();

async function formed(count: number): Promise<RankProcess[]> {
  const ranks = await processes(count);
  const port = await freePort();
  for (const [rank, process] of ranks.entries()) join(process, rank, count, port, { jobId });
  await all(ranks, 'formed');
  return ranks;
}

const reform = (process: RankProcess, options: object = {}) =>
  process.send({ do: 'reform', id: 'g', options: { timeoutMs: 20_000, ...options } });

/** reform() until the group has that size; a group that a rank was lost from at once is re-formed again. */
async function until(process: RankProcess, size: number): Promise<RankEvent> {
  for (let tries = 0; tries < 12; tries += 1) {
    const event = await process.next(['reformed', 'reformFailed']);
    if (event.event === 'reformFailed') expect(event['error']).toMatchObject({ code: 'RANK_LOST' });
    else if (event['info'].size === size) return event;
    else {
      // The victim was still in it.
      expect(event['info'].size).toBeGreaterThan(size);
      process.send({ do: 'vote', id: 'g', value: true });
      expect((await process.next('voteFailed')).error).toMatchObject({ code: 'RANK_LOST' });
    }
    reform(process);
  }
  throw new Error(`${process.name} did not re-form with ${size} ranks`);
}

/** Fills up with new processes, at the end. */
async function refill(ranks: RankProcess[], size: number): Promise<RankProcess[]> {
  (ranks[0] as RankProcess).send({ do: 'info', id: 'g' });
  const { next } = (await (ranks[0] as RankProcess).next('info')).info;
  const newcomers = await processes(size - ranks.length);
  const { masterPort, ...more } = next;
  for (const [i, process] of newcomers.entries())
    join(process, ranks.length + i, size, masterPort, { jobId, ...more });
  for (const process of ranks) reform(process, { worldSize: size });
  await Promise.all([all(ranks, 'reformed'), all(newcomers, 'formed')]);
  return [...ranks, ...newcomers];
}

test('kills at random moments of re-forming', async () => {
  const kills = Number(process.env['NC_REFORM_KILLS'] ?? 30);
  const seed = Number(process.env['NC_REFORM_SEED'] ?? Date.now() % 2 ** 31);
  let state = seed;
  const random = () => {
    state = (state * 1103515245 + 12345) % 2 ** 31;
    return state / 2 ** 31;
  };
  console.log(`seed ${seed}, ${kills} kills`);
  const size = 5;
  let ranks = await formed(size);
  for (let done = 0; done < kills; ) {
    const victims = new Set<RankProcess>();
    const wanted = random() < 0.3 ? 2 : 1;
    while (victims.size < wanted) victims.add(ranks[Math.floor(random() * ranks.length)] as RankProcess);
    const survivors = ranks.filter((process) => !victims.has(process));
    // Some call a little later than others, some victims die before they call.
    for (const process of ranks) {
      reform(process);
      if (random() < 0.3) await new Promise((resolve) => setTimeout(resolve, random() * 4));
    }
    for (const victim of victims) {
      await new Promise((resolve) => setTimeout(resolve, random() * 12));
      victim.kill();
    }
    const events = await Promise.all(survivors.map((process) => until(process, survivors.length)));
    const [first] = events as [RankEvent];
    for (const [rank, { info }] of events.entries()) {
      expect(info).toMatchObject({ rank, generation: first['info'].generation });
      expect(info.members.map(({ id }: { id: string }) => id)).toEqual(
        first['info'].members.map(({ id }: { id: string }) => id),
      );
    }
    await vote(survivors);
    done += victims.size;
    ranks = await refill(survivors, size);
  }
}, 600_000);

// A measurement, of one host.
test.skipIf(overHosts)(
  'how long: 8 ranks, one of them killed each time, rank 0 too',
  async () => {
    let ranks = await formed(8);
    const times: number[] = [];
    for (let round = 0; round < 30; round += 1) {
      const victim = ranks[round % 8] as RankProcess;
      const survivors = ranks.filter((process) => process !== victim);
      for (const process of survivors) process.send({ do: 'vote', id: 'g', value: false });
      victim.kill();
      await all(survivors, 'voteFailed');
      for (const process of survivors) reform(process);
      const events = await all(survivors, 'reformed');
      const last = (name: string) => Math.max(...events.map((event) => event[name] as number));
      times.push(last('doneAt') - last('calledAt'));
      ranks = await refill(survivors, 8);
    }
    times.sort((a, b) => a - b);
    const [least, median, most] = [times[0], times[15], times[29]].map((ms) => (ms as number).toFixed(1));
    console.log(`7 of 8 ranks re-formed ${times.length} times: ${least} / ${median} / ${most} ms`);
    expect(times[15]).toBeLessThan(250);
  },
  300_000,
);
