/**
 * Rank processes over the stand-ins for GPU libraries (docs/gpu-standins.md):
 *
 *     describe.skipIf(!standinsBuilt('nccl'))('over NCCL', () => {
 *       const ranks = startRanks('gpu/rank.mjs', 2, () => ({ env: standins({ flavour: 'nccl' }) }));
 *
 * `npm test` builds them; alone, `npm run standins` does.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { RankProcess } from './ranks.ts';

const folder =
  process.env['NC_STANDIN_FOLDER'] ?? fileURLToPath(new URL('../../build/standins', import.meta.url));

export type Flavour = 'nccl' | 'rccl';

/** The files of each flavour, and the variants of its collective library by version. */
const files = {
  nccl: {
    driver: 'libcuda.so.1',
    collectives: {
      '2.9.8': 'libnccl-2.9.so.2',
      '2.10.3': 'libnccl-2.10.so.2',
      '2.22.3': 'libnccl.so.2',
      '2.29.7': 'libnccl-2.29.so.2',
    },
  },
  rccl: {
    driver: 'libamdhip64.so.6',
    collectives: { '2.13.4': 'librccl-2.13.so.1', '2.18.3': 'librccl.so.1' },
  },
} as const;

export interface StandinOptions {
  flavour: Flavour;
  /** Of NCCL or RCCL; 2.22.3 and 2.18.3 unless given. */
  version?: keyof (typeof files)['nccl']['collectives'] | keyof (typeof files)['rccl']['collectives'];
  /** Another file than the usual driver, e.g. `libcuda-11.0.so.1`. */
  driver?: string;
  /** Devices of the machine; 8 unless given. */
  devices?: number;
  /** Bytes of each device. */
  memory?: number;
  /** Faults by name, `true` for one without a value: `{ 'init-hang': true, 'async-error': 3 }`. */
  faults?: Readonly<Record<string, string | number | true>>;
  /** A file that holds further faults, read again whenever it changes. */
  control?: string;
  /** A lost rank is never noticed by the others' library (as mostly in NCCL), or is an asynchronous error. */
  peerLoss?: 'hang' | 'error';
  /** The process must give everything back: it ends with code 86 otherwise. Not for ones that call exit(). */
  strictExit?: boolean;
  /** Say on stderr what a real library would be silent about. On unless turned off. */
  report?: boolean;
  seed?: number;
}

/** Full path of one of the built files. */
export const standinFile = (name: string): string => join(folder, name);

/** The environment of a process that is to find the stand-ins of one flavour. */
export function standins(options: StandinOptions): NodeJS.ProcessEnv {
  const { driver, collectives } = files[options.flavour];
  const version = options.version ?? (options.flavour === 'nccl' ? '2.22.3' : '2.18.3');
  const library = (collectives as Record<string, string>)[version];
  if (library === undefined) throw new Error(`there is no stand-in for ${options.flavour} ${version}`);
  const faults = Object.entries(options.faults ?? {}).map(([name, value]) =>
    value === true ? name : `${name}=${value}`,
  );
  const variables: Record<string, string | number | undefined> = {
    [options.flavour === 'nccl' ? 'NODE_COLLECTIVES_CUDA_PATH' : 'NODE_COLLECTIVES_HIP_PATH']: standinFile(
      options.driver ?? driver,
    ),
    NODE_COLLECTIVES_NCCL_PATH: standinFile(library),
    NC_STANDIN_DEVICES: options.devices,
    NC_STANDIN_MEMORY: options.memory,
    NC_STANDIN_FAULTS: faults.length > 0 ? faults.join(',') : undefined,
    NC_STANDIN_CONTROL: options.control,
    NC_STANDIN_PEER_LOSS: options.peerLoss,
    NC_STANDIN_STRICT_EXIT: options.strictExit === true ? '1' : undefined,
    NC_STANDIN_REPORT: options.report === false ? undefined : '1',
    NC_STANDIN_SEED: options.seed,
  };
  return Object.fromEntries(
    Object.entries(variables).flatMap(([name, value]) =>
      value === undefined ? [] : [[name, String(value)]],
    ),
  );
}

/** False, with the reason printed, where the stand-ins of that flavour are not built. */
export function standinsBuilt(flavour: Flavour): boolean {
  const { driver, collectives } = files[flavour];
  const missing = [driver, ...Object.values(collectives)].filter((name) => !existsSync(standinFile(name)));
  if (missing.length === 0) return true;
  console.log(`skipped: ${missing.join(', ')} not in ${folder}; \`npm run standins\` builds them`);
  return false;
}

/** What the stand-ins said in a process, without the lines' beginning. */
export function standinLines(rank: RankProcess): string[] {
  return [...rank.output.matchAll(/^stand-in: (.*)$/gm)].map((match) => match[1] as string);
}
