/** SIGSTOP of one rank: found by its silence. */
import { misjudged } from '../blame.ts';
import { Crew, type Sailor } from '../crew.ts';
import { disband, formed, moment, muster, now, verdicts } from '../round.ts';
import { Figures } from '../table.ts';
import { type Outcome, rounds, type Setting } from './section.ts';

/** The default of `deadAfterMs`, and what may come on top. */
const limitMs = 3_000 + 500;

export async function stops(setting: Setting): Promise<Outcome> {
  const figures = new Figures();
  const broken: string[] = [];
  await using crew = new Crew();
  for (const size of [2, 4, 8]) {
    const row = `${size} ranks`;
    for (let i = 0; i < rounds(setting, 10); i += 1) {
      const { random, storePort } = setting;
      const phase = i % 2 === 0 ? 'busy' : 'idle';
      const sailors = await muster({ crew, storePort, random, size, phase });
      await formed(sailors);
      const victim = random.whole(0, size - 1);
      const stopped = sailors[victim] as Sailor;
      await moment(random.next() * 1_000);
      stopped.doomed = true;
      const at = now();
      stopped.child.kill('SIGSTOP');
      const said = await verdicts(sailors, phase);
      figures.add(row, (Math.max(...said.map((each) => each.at)) - at) / 1e6);
      const wrong = misjudged(said, { rank: victim, pid: stopped.pid, early: false, size });
      if (wrong !== undefined) broken.push(`${row}, rank ${victim} stopped: ${wrong}`);
      stopped.child.kill('SIGKILL');
      await disband(crew, sailors);
    }
    if (figures.of(row, 1) > limitMs) broken.push(`${row}: ${figures.of(row, 1)} ms is over ${limitMs}`);
  }
  return { table: figures.table('SIGSTOP of one of'), broken };
}
