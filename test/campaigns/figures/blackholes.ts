/** The cable between two hosts is cut: nothing arrives any more, and nothing says so. */
import { randomUUID } from 'node:crypto';
import { makeHosts, whyNoHosts } from '../../helpers/hosts.ts';
import { Sailor } from '../crew.ts';
import { formed, moment, now } from '../round.ts';
import { Figures } from '../table.ts';
import { type Outcome, rounds, type Setting } from './section.ts';

const limitMs = 3_000 + 500;

export async function blackholes(setting: Setting): Promise<Outcome> {
  const skipped = whyNoHosts();
  if (skipped !== undefined) return { table: '', broken: [], skipped };
  const figures = new Figures();
  const broken: string[] = [];
  const row = '2 hosts x 2 ranks';
  for (let i = 0; i < rounds(setting, 10); i += 1) {
    using network = makeHosts(2);
    const phase = i % 2 === 0 ? 'busy' : 'idle';
    const berth = { env: { NODE_COLLECTIVES_SECRET: randomUUID() } };
    const sailors = [0, 0, 1, 1].map(
      (host) => new Sailor({ ...berth, command: network.hosts[host]!.command }),
    );
    await Promise.all(sailors.map((sailor) => sailor.next(['ready'], 60_000)));
    const common = { masterAddr: network.hosts[0]!.ipv4, masterPort: 29_500, worldSize: 4 };
    const seed = setting.random.whole(0, 2 ** 32 - 1);
    for (const [rank, sailor] of sailors.entries()) {
      sailor.send({ do: 'join', storePort: 0, options: { ...common, rank }, work: phase, seed });
    }
    await formed(sailors);
    await moment(setting.random.next() * 500);
    const at = now();
    network.cut(1);
    const events = phase === 'busy' ? (['ended'] as const) : (['knew'] as const);
    const said = await Promise.all(sailors.map((sailor) => sailor.next(events, 20_000)));
    figures.add(row, (Math.max(...said.map((each) => each.at)) - at) / 1e6);
    for (const [rank, { error }] of said.entries()) {
      // Each side loses the other.
      const other = rank < 2 ? [2, 3] : [0, 1];
      if (error.code !== 'RANK_LOST' || !other.includes(error.rank as number))
        broken.push(`rank ${rank}: ${JSON.stringify(error)}`);
    }
    for (const sailor of sailors) sailor.child.kill('SIGKILL');
  }
  if (figures.of(row, 1) > limitMs) broken.push(`${figures.of(row, 1)} ms is over ${limitMs}`);
  return { table: figures.table('a cut cable between'), broken };
}
