/**
 * `npm run figures`: the figures of docs/reliability.md. Each section is one thing that happens to a group; what must
 * hold is checked, what was measured is printed as a table, and `--write` puts the tables into the page.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { TcpStore } from 'node-collectives';
import { aborts } from './figures/aborts.ts';
import { blackholes } from './figures/blackholes.ts';
import { kills } from './figures/kills.ts';
import { reforms } from './figures/reforms.ts';
import type { Section, Setting } from './figures/section.ts';
import { stops } from './figures/stops.ts';
import { Random, seedOf } from './random.ts';

const sections: Record<string, Section> = { kills, stops, blackholes, aborts, reforms };

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: Object.keys(sections).join(',') },
    seed: { type: 'string' },
    write: { type: 'boolean', default: false },
    scale: { type: 'string', default: '1' },
  },
});

const page = join(process.env['NC_ROOT'] ?? process.cwd(), 'docs/reliability.md');

/** Replaces what stands between `<!-- figures NAME -->` and `<!-- end -->`. */
function write(name: string, text: string): void {
  const before = readFileSync(page, 'utf8');
  const pattern = new RegExp(`(<!-- figures ${name} -->\n)[^]*?(<!-- end -->)`);
  if (!pattern.test(before)) throw new Error(`docs/reliability.md has no place for '${name}'`);
  writeFileSync(
    page,
    before.replace(pattern, (_, open, close) => `${open}${text}\n${close}`),
  );
}

const random = new Random(seedOf(values.seed));
await using store = await TcpStore.listen();
console.log(`figures: seed ${random.seed}, Linux ${release()}, ${cpus().length} cores`);
let failed = 0;
for (const name of values.only.split(',')) {
  const section = sections[name];
  if (section === undefined)
    throw new Error(`there is no section '${name}'; there are ${Object.keys(sections)}`);
  const setting: Setting = { storePort: store.port, random: random.fork(), scale: Number(values.scale) };
  const { table, broken, skipped } = await section(setting);
  console.log(`\n## ${name}\n\n${skipped ? `skipped: ${skipped}` : table}`);
  for (const each of broken) console.log(`BROKEN: ${each}`);
  failed += broken.length;
  if (values.write && !skipped) write(name, `\n${table}\n\nSeed ${setting.random.seed}.\n`);
}
console.log(failed === 0 ? '\nall that must hold did' : `\n${failed} BROKEN`);
process.exitCode = failed === 0 ? 0 : 1;
