/**
 * A vote beside PyTorch's, in the same run and in turns: on the CPU over its Gloo, and with `--gpus N` on devices over
 * its NCCL. With fewer GPUs than ranks, ranks share them as in test/gpu (NC_TEST_GPU_SHARED): that compares what is
 * around the library, since both wait for the same kernels.
 */
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { ours, type Sample, type Surroundings, torch } from './processes.ts';
import { median } from './statistics.ts';

const root = fileURLToPath(new URL(process.env['NC_ROOT'] ?? '../../../', import.meta.url));

function onDevices(ranks: number, gpus: number): Surroundings {
  if (ranks <= gpus) return () => ({});
  return (rank) => ({
    NODE_COLLECTIVES_CUDA_PATH: `${root}build/standins/libcuda-shared.so`,
    NC_SHARED_DEVICES: String(Math.ceil(ranks / gpus)),
    NCCL_HOSTID: `rank-${rank}`,
    NCCL_SOCKET_IFNAME: 'lo',
  });
}

export async function peers(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      python: { type: 'string', default: 'python3' },
      ranks: { type: 'string', default: '2,4,8' },
      iterations: { type: 'string', default: '2000' },
      rounds: { type: 'string', default: '3' },
      gpus: { type: 'string', default: '0' },
    },
  });
  const gpus = Number(values.gpus);
  const iterations = Number(values.iterations);
  const program = `${root}bench/torch/rank.py`;
  console.log('one vote, awaited from JavaScript and from Python, µs');
  console.log('backend ranks   ours p50     p99   torch p50     p99   ratio p50    p99');
  for (const backend of gpus > 0 ? ['gloo', 'nccl'] : ['gloo']) {
    for (const ranks of values.ranks.split(',').map(Number)) {
      const around = backend === 'nccl' ? onDevices(ranks, gpus) : () => ({});
      const surroundings = (rank: number) => ({ ...around(rank), BACKEND: backend });
      const mine: Sample[] = [];
      const theirs: Sample[] = [];
      for (let round = 0; round < Number(values.rounds); round += 1) {
        mine.push(await ours(ranks, iterations, surroundings));
        theirs.push(await torch(values.python, program, ranks, iterations, surroundings));
      }
      const of = (samples: Sample[], key: keyof Sample) => median(samples.map((sample) => sample[key]));
      const cells = [of(mine, 'p50'), of(mine, 'p99'), of(theirs, 'p50'), of(theirs, 'p99')];
      const [p50 = 0, p99 = 0, torch50 = 0, torch99 = 0] = cells;
      console.log(
        `${backend.padEnd(7)} ${String(ranks).padStart(5)}   ${cells.map((n) => n.toFixed(1).padStart(9)).join(' ')}` +
          `   ${(p50 / torch50).toFixed(2).padStart(6)} ${(p99 / torch99).toFixed(2).padStart(6)}`,
      );
    }
  }
}
