/** `npm run bench -- NAME [options]` */
import { config } from './config.ts';
import { mismatch } from './mismatch.ts';
import { peers } from './peers.ts';
import { votes } from './votes.ts';

const benches: Record<string, (args: string[]) => Promise<void>> = {
  config,
  mismatch,
  peers,
  votes,
};

const [name = '', ...args] = process.argv.slice(2);
const bench = benches[name];
if (bench === undefined) {
  console.error(`usage: npm run bench -- ${Object.keys(benches).join(' | ')} [options]`);
  process.exitCode = 2;
} else {
  await bench(args);
}
