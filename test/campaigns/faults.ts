/**
 * `npm run test:faults`: kills ranks at random moments and watches the others. Every survivor must reject, in time,
 * naming the dead rank, and live on; the processes that survive go on into the next round.
 */
import { parseArgs } from 'node:util';
import { TcpStore } from 'node-collectives';
import { type Blame, disagreed, misjudged } from './blame.ts';
import { Crew, type Sailor } from './crew.ts';
import { othersUse } from './machine.ts';
import type { Facts } from './protocol.ts';
import { Random, seedOf } from './random.ts';
import {
  causes,
  disband,
  formed,
  hangMs,
  moment,
  muster,
  now,
  type Phase,
  phaseOf,
  phases,
  verdicts,
} from './round.ts';
import { Figures } from './table.ts';

const { values } = parseArgs({
  options: {
    kills: { type: 'string', default: '10000' },
    sizes: { type: 'string', default: '2-16' },
    seed: { type: 'string' },
    phases: { type: 'string', default: Object.keys(phases).join(',') },
    lanes: { type: 'string', default: '1' },
    quiet: { type: 'boolean', default: false },
    /** Fail where survivors knew too late, unless the machine was busy with other things. */
    limits: { type: 'boolean', default: false },
  },
});

const wanted = Number(values.kills);
const [least = 2, most = least] = values.sizes.split('-').map(Number);
const random = new Random(seedOf(values.seed));
const chosen = values.phases.split(',') as Phase[];
console.log(
  `faults: ${wanted} kills over ${least} to ${most} ranks, phases ${chosen.join(', ')}, seed ${random.seed}`,
);

interface Failure {
  kill: number;
  size: number;
  phase: Phase;
  victim: number;
  what: string;
}
const failures: Failure[] = [];
const latency = new Figures();
const together = 'all sizes';
/** Share of the processors' time; above it this machine is busy with other things. */
const mostBusy = 0.15;
const outcomes = new Map<string, number>();

async function victimDies(victim: Sailor): Promise<number> {
  victim.doomed = true;
  const at = now();
  victim.child.kill('SIGKILL');
  return at;
}

/** One kill; throws what is wrong. */
async function kill(crew: Crew, storePort: number, draw: Random): Promise<void> {
  const size = draw.whole(least, most);
  const phase = phaseOf(draw, chosen);
  const victim = draw.whole(0, size - 1);
  const sailors = await muster({ crew, storePort, random: draw, size, phase });
  const dying = sailors[victim] as Sailor;
  const others = sailors.filter((sailor) => sailor !== dying);
  if (phase !== 'joining') await formed(sailors);
  if (phase === 'closing') for (const sailor of sailors) sailor.send({ do: 'leave' });
  // Most moments are early, where much happens; some are late.
  await moment(draw.next() ** 3 * (phase === 'joining' ? 60 : phase === 'closing' ? 5 : 40));
  const at = await victimDies(dying);
  try {
    if (phase === 'closing') {
      await Promise.all(others.map((sailor) => sailor.next(['left'], hangMs)));
      // Who had closed before heard nothing; who heard of a loss has to name this one.
      const heard = sailors.flatMap((sailor, rank) => {
        const error = sailor === dying ? undefined : sailor.peek('knew')?.error;
        return error === undefined ? [] : [{ rank, error }];
      });
      judge(heard, { rank: victim, pid: dying.pid, early: false, size });
      for (const { error } of heard) count(`${error.code} while closing`);
      count('closed');
      for (const sailor of sailors) crew.giveBack(sailor);
      return;
    }
    const said = await verdicts(sailors, phase);
    await dying.gone();
    // A group that stood on any rank stood for all: nobody was missing.
    const early = phase === 'joining' && !sailors.some((sailor) => sailor.formed);
    judge(said, { rank: victim, pid: dying.pid, early, size });
    if (phase !== 'joining') {
      const wrong = disagreed(await causes(sailors, phase, said));
      if (wrong !== undefined) throw new Error(wrong);
      const took = (Math.max(...said.map((each) => each.at)) - at) / 1e6;
      latency.add(`${size} ranks`, took);
      latency.add(together, took);
    }
    for (const each of said) count(each.error.code);
    await disband(crew, sailors);
  } catch (error) {
    for (const sailor of sailors) {
      sailor.doomed = true;
      sailor.child.kill('SIGKILL');
    }
    const what = (error as Error).message;
    failures.push({ kill: done, size, phase, victim, what });
    console.log(
      `FAILED at kill ${done}: ${size} ranks, ${phase}, rank ${victim} (pid ${dying.pid}) killed: ${what}`,
    );
  }
}

/** Throws what is wrong. */
function judge(said: readonly { rank: number; error: Facts }[], blame: Blame): void {
  const wrong = misjudged(said, blame);
  if (wrong !== undefined) throw new Error(wrong);
}

/** The promise is p50 under 20 ms, p99 under 100 ms; a machine that is busy with other things cannot show it. */
function tooLate(busy: number): { failed: boolean; text: string } | undefined {
  const [p50, p99] = [latency.of(together, 0.5), latency.of(together, 0.99)];
  if (p50 < 20 && p99 < 100) return undefined;
  const over = `p50 ${p50.toFixed(1)} ms and p99 ${p99.toFixed(1)} ms, where 20 and 100 are the limits`;
  if (busy < mostBusy) return { failed: true, text: `TOO LATE: ${over}` };
  return {
    failed: false,
    text: `not judged, others use ${Math.round(busy * 100)} % of this machine: ${over}`,
  };
}

function count(outcome: string): void {
  outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
}

let begun = 0;
let done = 0;
async function lane(storePort: number): Promise<void> {
  await using crew = new Crew();
  while (begun < wanted && failures.length < 20) {
    begun += 1;
    await kill(crew, storePort, random.fork());
    done += 1;
    crew.reserve(2);
    if (!values.quiet && done % 500 === 0) console.log(`  ${done} kills, ${failures.length} failures`);
  }
}

const before = values.limits ? await othersUse() : 0;
const began = performance.now();
await using store = await TcpStore.listen();
await Promise.all(Array.from({ length: Number(values.lanes) }, () => lane(store.port)));

const seconds = (performance.now() - began) / 1000;
console.log(
  `${done} kills in ${seconds.toFixed(0)} s; survivors said: ${[...outcomes].map(([what, n]) => `${what} ${n}`).join(', ')}`,
);
console.log('From SIGKILL to the last survivor that knew (kills while the group worked or was idle):\n');
console.log(latency.table('group'));
const late = values.limits ? tooLate(Math.max(before, await othersUse())) : undefined;
if (late !== undefined) console.log(`\n${late.text}`);
console.log(
  `\nseed ${random.seed}: ${failures.length === 0 ? 'no hang, no crash, every name right' : `${failures.length} FAILED`}`,
);
process.exitCode = failures.length === 0 && done >= wanted && !late?.failed ? 0 : 1;
