/** One of eight is killed and the survivors go on: from the last survivor's call to the last one ready. */
import { Crew, type Sailor } from '../crew.ts';
import { disband, formed, moment, muster, now, verdicts } from '../round.ts';
import { Figures } from '../table.ts';
import { type Outcome, rounds, type Setting } from './section.ts';

const limitMs = 250;
const size = 8;

export async function reforms(setting: Setting): Promise<Outcome> {
  const figures = new Figures();
  const broken: string[] = [];
  await using crew = new Crew();
  for (const [row, victimOf] of [
    ['8 ranks without rank 0', () => 0],
    ['8 ranks without another', () => setting.random.whole(1, size - 1)],
  ] as const) {
    for (let i = 0; i < rounds(setting, 30); i += 1) {
      const { random, storePort } = setting;
      const sailors = await muster({ crew, storePort, random, size, phase: 'busy' });
      await formed(sailors);
      await moment(random.next() * 20);
      const dying = sailors[victimOf()] as Sailor;
      dying.doomed = true;
      dying.child.kill('SIGKILL');
      const survivors = sailors.filter((sailor) => sailor !== dying);
      await verdicts(survivors, 'busy');
      const called = now();
      for (const sailor of survivors) sailor.send({ do: 'reform', timeoutMs: 20_000 });
      const said = await Promise.all(survivors.map((sailor) => sailor.next(['reformed', 'ended'], 30_000)));
      for (const each of said) if (each.event === 'ended') broken.push(`${row}: ${each.error.message}`);
      const ready = said.filter((each) => each.event === 'reformed');
      const last = Math.max(called, ...ready.map((each) => each.began));
      figures.add(row, (Math.max(...ready.map((each) => each.at)) - last) / 1e6);
      const ranks = ready.map((each) => `${each.rank} of ${each.size}`).sort();
      if (ranks.join() !== Array.from({ length: size - 1 }, (_, r) => `${r} of ${size - 1}`).join())
        broken.push(`${row}: ${ranks}`);
      // The new group works, and computes right.
      for (const sailor of survivors) sailor.send({ do: 'sail', steps: 3, seed: i, scale: 1_000 });
      await Promise.all(survivors.map((sailor) => sailor.next(['sailed'], 20_000)));
      await disband(crew, sailors);
    }
    if (figures.of(row, 0.5) >= limitMs)
      broken.push(`${row}: p50 ${figures.of(row, 0.5)} ms is not under ${limitMs}`);
  }
  return { table: figures.table('re-forming'), broken };
}
