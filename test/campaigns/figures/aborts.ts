/** One rank gives up, at any moment: to the last rank that knows, its own calls included. */
import { Crew, type Sailor } from '../crew.ts';
import type { Facts } from '../protocol.ts';
import { disband, formed, moment, muster, type Phase, verdicts } from '../round.ts';
import { Figures } from '../table.ts';
import { type Outcome, rounds, type Setting, workScale } from './section.ts';

const limitMs = 100;
/** Random moments are up to here, ms after the ranks were told what to do. */
const latest = { joining: 20, busy: 30, idle: 30, closing: 3 };
const reason = 'the operator says so';

export async function aborts(setting: Setting): Promise<Outcome> {
  const figures = new Figures();
  const broken: string[] = [];
  await using crew = new Crew();
  for (const size of [2, 4, 8]) {
    for (const phase of ['joining', 'busy', 'idle', 'closing'] as const) {
      const row = `${size} ranks, ${phase}`;
      for (let i = 0; i < rounds(setting, phase === 'joining' ? 200 : 40); i += 1)
        figures.add(row, await abort(setting, crew, size, phase, (what) => broken.push(`${row}: ${what}`)));
      if (figures.of(row, 1) >= limitMs)
        broken.push(`${row}: ${figures.of(row, 1)} ms is not under ${limitMs}`);
    }
  }
  return { table: figures.table('abort on one of'), broken };
}

async function abort(
  { random, storePort }: Setting,
  crew: Crew,
  size: number,
  phase: Phase,
  complain: (what: string) => void,
): Promise<number> {
  const sailors = await muster({ crew, storePort, random, size, phase, scale: workScale });
  if (phase !== 'joining') await formed(sailors);
  const rank = random.whole(0, size - 1);
  const giving = sailors[rank] as Sailor;
  if (phase === 'closing') for (const sailor of sailors) sailor.send({ do: 'leave' });
  await moment(random.next() * latest[phase]);
  giving.send({ do: 'abort', how: random.pick(['call', 'signal']), reason });
  const { at } = await giving.next(['aborting'], 20_000);
  if (phase === 'closing') {
    const left = await Promise.all(sailors.map((sailor) => sailor.next(['left'], 20_000)));
    // Who had closed before heard nothing.
    for (const [who, sailor] of sailors.entries()) {
      const wrong = notNamed(sailor.peek('knew')?.error, rank);
      if (wrong !== undefined) complain(`rank ${rank} aborted, rank ${who} says ${wrong}`);
      crew.giveBack(sailor);
    }
    return Math.max(0, Math.max(...left.map((each) => each.at)) - at) / 1e6;
  }
  const said = await verdicts(sailors, phase);
  for (const [who, { error }] of said.entries()) {
    const wrong = notNamed(error, rank);
    if (wrong !== undefined) complain(`rank ${rank} aborted, rank ${who} says ${wrong}`);
  }
  await disband(crew, sailors);
  return (Math.max(...said.map((each) => each.at)) - at) / 1e6;
}

function notNamed(error: Facts | undefined, rank: number): string | undefined {
  if (error === undefined) return undefined;
  if (error.code !== 'ABORTED') return `${error.code}: ${error.message}`;
  if (!error.message.includes(`aborted by rank ${rank}`) || !error.message.includes(reason))
    return error.message;
  return undefined;
}
