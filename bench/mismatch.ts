/**
 * What it costs that ranks compare their calls: the addon beside a build of it that compares nothing. A group of each
 * is there all the time, and they take turns every few calls, so that whatever else the machine does meets both. The
 * groups on devices run over the tests' stand-ins without their usual delays: little else is left of an operation than
 * this package's part, so that a real library's share can only make the ratio smaller.
 */
import { type ChildProcess, execFileSync, fork } from 'node:child_process';
import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { withListeningPort } from '../src/launch/listener.ts';
import type { Turn, Turned } from './mismatch-rank.ts';
import { place } from './processes.ts';
import { median, quantile } from './statistics.ts';

const root = fileURLToPath(new URL(process.env['NC_ROOT'] ?? '../../../', import.meta.url));
const program = fileURLToPath(new URL('./mismatch-rank.js', import.meta.url));
/** What an operation may take, of what it takes without comparing. */
const limit = 1.1;

/** Both with the same flags, of which one has the definition besides. */
function build(name: string, flags: string): string {
  const folder = `${root}build/bench-${name}`;
  const quiet = { stdio: ['ignore', 'ignore', 'inherit'] as ('ignore' | 'inherit')[] };
  const options = ['-DCMAKE_BUILD_TYPE=Release', `-DCMAKE_CXX_FLAGS=${flags}`];
  execFileSync('cmake', ['-S', root, '-B', folder, ...options], quiet);
  execFileSync('cmake', ['--build', folder, '--target', 'node_collectives', '-j2'], quiet);
  return `${folder}/node_collectives.node`;
}

/** A rank's process, which answers one turn after the other. */
class Rank {
  readonly child: ChildProcess;
  #said = '';
  #answered: (answer: Turned) => void = () => {};
  #failed: (error: Error) => void = () => {};

  constructor(child: ChildProcess) {
    this.child = child;
    child.stderr?.on('data', (text) => {
      this.#said += text;
    });
    child.on('message', (answer) => this.#answered(answer as Turned));
    child.on('exit', (code) => this.#failed(new Error(`a rank ended with ${code}: ${this.#said}`)));
  }

  answer(): Promise<Turned> {
    return new Promise((resolve, reject) => {
      this.#answered = resolve;
      this.#failed = reject;
    });
  }
}

/** A group of them. */
class Ranks {
  readonly #ranks: Rank[];
  names: string[] = [];

  private constructor(ranks: Rank[]) {
    this.#ranks = ranks;
  }

  static async start(size: number, env: NodeJS.ProcessEnv): Promise<Ranks> {
    const ranks = await withListeningPort('127.0.0.1', (port, fd) =>
      Array.from({ length: size }, (_, rank) => {
        // Each on one core, the same for both builds: where the system would put it counts for more than the difference.
        const core = String(rank % availableParallelism());
        const child = fork(program, [], {
          execPath: 'taskset',
          execArgv: ['-c', core, process.execPath],
          env: { ...process.env, ...env, ...place(rank, size, port) },
          stdio: ['ignore', 'ignore', 'pipe', rank === 0 ? fd : 'ignore', 'ipc'],
        });
        return new Rank(child);
      }),
    );
    const group = new Ranks(ranks);
    group.names = (await Promise.all(ranks.map((rank) => rank.answer())))[0]?.names ?? [];
    return group;
  }

  /** Median of the calls, on the rank where it is largest: a broadcast's source waits for nobody. µs. */
  async turn(turn: Turn): Promise<number> {
    const answers = Promise.all(this.#ranks.map((rank) => rank.answer()));
    for (const rank of this.#ranks) rank.child.send(turn);
    return Math.max(...(await answers).map(({ micros }) => micros));
  }

  async end(): Promise<void> {
    const ends = this.#ranks.map(({ child }) => once(child, 'exit'));
    for (const { child } of this.#ranks) child.disconnect();
    await Promise.all(ends);
  }
}

export async function mismatch(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      ranks: { type: 'string', default: '2,4' },
      calls: { type: 'string', default: '20' },
      turns: { type: 'string', default: '20' },
      groups: { type: 'string', default: '7' },
    },
  });
  const compared = build('compared', '');
  const uncompared = build('uncompared', '-DNC_WITHOUT_COMPARISON');
  const standins = `${root}build/standins/`;
  const onDevices = {
    BACKEND: 'nccl',
    NC_STANDIN_DELAY_US: '0',
    NC_STANDIN_SEED: '1',
    NODE_COLLECTIVES_CUDA_PATH: `${standins}libcuda.so.1`,
    NODE_COLLECTIVES_NCCL_PATH: `${standins}libnccl.so.2`,
  };
  console.log(
    "a call, µs (medians); the ratio is the median of the turns', with its quarter and three quarters",
  );
  console.log(`where    ranks ${'operation'.padEnd(26)} compared   without   ratio (spread)`);
  for (const [where, env] of [['CPU', {}] as const, ['devices', onDevices] as const]) {
    for (const ranks of values.ranks.split(',').map(Number)) {
      const pairs = new Map<string, Pair[]>();
      // What else a process has of its own, such as its memory's places, stays for its life.
      for (let i = 0; i < Number(values.groups); i += 1) {
        const comparing = await Ranks.start(ranks, { ...env, NODE_COLLECTIVES_ADDON: compared });
        const plain = await Ranks.start(ranks, { ...env, NODE_COLLECTIVES_ADDON: uncompared });
        for (const operation of comparing.names) {
          const turn = { operation, calls: Number(values.calls) };
          const taken = pairs.get(operation) ?? [];
          for (let j = 0; j < Number(values.turns); j += 1)
            taken.push(await both(comparing, plain, turn, j % 2 === 0));
          pairs.set(operation, taken);
        }
        await Promise.all([comparing.end(), plain.end()]);
      }
      for (const [operation, taken] of pairs)
        report(`${where.padEnd(8)} ${String(ranks).padStart(5)} ${operation.padEnd(26)}`, taken);
    }
  }
}

/** One after the other, either first. */
async function both(comparing: Ranks, plain: Ranks, turn: Turn, comparingFirst: boolean): Promise<Pair> {
  if (comparingFirst) return { with: await comparing.turn(turn), without: await plain.turn(turn) };
  const without = await plain.turn(turn);
  return { with: await comparing.turn(turn), without };
}

interface Pair {
  with: number;
  without: number;
}

function report(row: string, turns: Pair[]): void {
  const ratios = turns.map((turn) => turn.with / turn.without).sort((a, b) => a - b);
  const ratio = quantile(ratios, 0.5);
  const met = ratio <= limit;
  if (!met) process.exitCode = 1;
  const cells = [median(turns.map((turn) => turn.with)), median(turns.map((turn) => turn.without))];
  console.log(
    `${row} ${cells.map((n) => n.toFixed(1).padStart(8)).join('  ')}  ${ratio.toFixed(3).padStart(6)} ` +
      `(${quantile(ratios, 0.25).toFixed(2)} to ${quantile(ratios, 0.75).toFixed(2)})${met ? '' : `  OVER ${limit}`}`,
  );
}
