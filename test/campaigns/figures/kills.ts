/** SIGKILL of one rank, to the last survivor that knows. */
import { misjudged } from '../blame.ts';
import { Crew, type Sailor } from '../crew.ts';
import { disband, formed, moment, muster, now, verdicts } from '../round.ts';
import { Figures } from '../table.ts';
import { type Outcome, rounds, type Setting, workScale } from './section.ts';

export async function kills(setting: Setting): Promise<Outcome> {
  const figures = new Figures();
  const broken: string[] = [];
  await using crew = new Crew();
  for (const size of [2, 4, 8, 16]) {
    const row = `${size} ranks`;
    for (let i = 0; i < rounds(setting, 200); i += 1) {
      const { random, storePort } = setting;
      const phase = i % 2 === 0 ? 'busy' : 'idle';
      const sailors = await muster({ crew, storePort, random, size, phase, scale: workScale });
      await formed(sailors);
      const victim = random.whole(0, size - 1);
      const dying = sailors[victim] as Sailor;
      await moment(random.next() * 20);
      dying.doomed = true;
      const at = now();
      dying.child.kill('SIGKILL');
      const said = await verdicts(sailors, phase);
      figures.add(row, (Math.max(...said.map((each) => each.at)) - at) / 1e6);
      const wrong = misjudged(said, { rank: victim, pid: dying.pid, early: false, size });
      if (wrong !== undefined) broken.push(`${row}, rank ${victim} killed: ${wrong}`);
      await disband(crew, sailors);
    }
    if (figures.of(row, 0.5) >= 20) broken.push(`${row}: p50 ${figures.of(row, 0.5)} ms is not under 20`);
    if (figures.of(row, 0.99) >= 100) broken.push(`${row}: p99 ${figures.of(row, 0.99)} ms is not under 100`);
  }
  return { table: figures.table('SIGKILL of one of'), broken };
}
