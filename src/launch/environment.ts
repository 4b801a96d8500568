/**
 * The environment between a launcher and the ranks it starts: what `node-collectives launch` sets, and how a
 * program reads its rank and world size back, from ours or from a cluster's launcher.
 */

import { checkOptions, refuse } from '../arguments.ts';
import { checkEnvironment } from '../environment.ts';
import { InvalidArgumentError } from '../errors.ts';
import { listenFdVariable } from '../net/listen-fd.ts';
import { secretVariable } from '../net/secret.ts';
import { optionNames } from '../option-names.ts';

/** An environment, as in `process.env`. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** Which family of variables said so: `torch` is RANK/WORLD_SIZE, also set by `node-collectives launch`. */
export type RankSource = 'torch' | 'vllm-dp' | 'slurm' | 'open-mpi' | 'pmi';

export interface RankInfo {
  /** 0 <= rank < worldSize. */
  readonly rank: number;
  readonly worldSize: number;
  /** Rank among those on this host, where the source tells it. */
  readonly localRank?: number;
  /** The families of variables that were set, all in agreement; the first one is the most specific. */
  readonly sources: readonly RankSource[];
}

interface Family {
  readonly source: RankSource;
  readonly rank: string;
  readonly size: string;
  readonly localRank?: string;
}

const families: readonly Family[] = [
  { source: 'vllm-dp', rank: 'VLLM_DP_RANK', size: 'VLLM_DP_SIZE', localRank: 'VLLM_DP_RANK_LOCAL' },
  { source: 'torch', rank: 'RANK', size: 'WORLD_SIZE', localRank: 'LOCAL_RANK' },
  { source: 'slurm', rank: 'SLURM_PROCID', size: 'SLURM_NTASKS', localRank: 'SLURM_LOCALID' },
  {
    source: 'open-mpi',
    rank: 'OMPI_COMM_WORLD_RANK',
    size: 'OMPI_COMM_WORLD_SIZE',
    localRank: 'OMPI_COMM_WORLD_LOCAL_RANK',
  },
  { source: 'pmi', rank: 'PMI_RANK', size: 'PMI_SIZE' },
];

const sourceName = optionNames<{ source?: RankSource }>({ source: true });

function count(env: Environment, name: string): number {
  const text = env[name] ?? '';
  if (!/^\d{1,9}$/.test(text.trim())) {
    throw new InvalidArgumentError(`${name} must be a whole number >= 0, it is ${JSON.stringify(text)}`);
  }
  return Number(text);
}

function isSet(env: Environment, name: string): boolean {
  return env[name] !== undefined && env[name] !== '';
}

function readFamily(env: Environment, family: Family): RankInfo {
  if (!isSet(env, family.size)) {
    throw new InvalidArgumentError(`${family.rank} is set but ${family.size} is not`);
  }
  const rank = count(env, family.rank);
  const worldSize = count(env, family.size);
  if (rank >= worldSize) {
    throw new InvalidArgumentError(
      `${family.rank}=${rank} is out of range: ${family.size}=${worldSize} allows 0 to ${worldSize - 1}`,
    );
  }
  const local = family.localRank;
  const localRank = local !== undefined && isSet(env, local) ? { localRank: count(env, local) } : {};
  return { rank, worldSize, ...localRank, sources: [family.source] };
}

/**
 * Rank and world size as the launcher or the cluster gave them: VLLM_DP_RANK/VLLM_DP_SIZE, RANK/WORLD_SIZE,
 * SLURM_PROCID/SLURM_NTASKS, OMPI_COMM_WORLD_RANK/_SIZE, PMI_RANK/PMI_SIZE. A family counts as set when its
 * rank variable is. Returns undefined where none is set.
 *
 * Several families may be set as long as they agree. Where they mean different things on purpose (a
 * data-parallel rank beside a global one, a job within a job), name the one to read with `source`.
 *
 * @throws InvalidArgumentError a value is no whole number or out of range, a size is missing, the families
 *   disagree, or the `source` asked for is not set.
 */
export function rankFromEnvironment(
  env: Environment = process.env,
  options: { readonly source?: RankSource } = {},
): RankInfo | undefined {
  checkEnvironment('rankFromEnvironment', env);
  checkOptions('rankFromEnvironment', options, sourceName);
  if (options.source !== undefined) {
    const family = families.find((f) => f.source === options.source);
    if (family === undefined) {
      const known = families.map((f) => f.source).join(', ');
      throw refuse('rankFromEnvironment', 'source', `one of ${known}`, options.source);
    }
    if (!isSet(env, family.rank)) {
      throw new InvalidArgumentError(`source ${family.source} was asked for, but ${family.rank} is not set`);
    }
    return readFamily(env, family);
  }

  const found = families
    .filter((f) => isSet(env, f.rank))
    .map((f) => ({ family: f, info: readFamily(env, f) }));
  const first = found[0];
  if (first === undefined) return undefined;
  const differs = found.some(
    (f) => f.info.rank !== first.info.rank || f.info.worldSize !== first.info.worldSize,
  );
  if (differs) {
    const said = found
      .map(({ family: f, info }) => `${f.rank}=${info.rank} ${f.size}=${info.worldSize}`)
      .join('; ');
    throw new InvalidArgumentError(
      `the environment names more than one rank: ${said}. Unset what is not meant, or choose with the option ` +
        `source (${found.map((f) => f.family.source).join(', ')})`,
    );
  }
  return { ...first.info, sources: found.map((f) => f.family.source) };
}

/** Name of the variable that holds the launcher's random job id. */
export const jobIdVariable = 'NODE_COLLECTIVES_JOB_ID';

/** What the launcher tells one rank. */
export interface RankPlace {
  readonly rank: number;
  readonly worldSize: number;
  readonly masterAddr: string;
  readonly masterPort: number;
  readonly jobId: string;
  /** For a job whose caller has set none. */
  readonly secret: string;
  /** Descriptor of the socket that already listens on masterAddr:masterPort; rank 0 only. */
  readonly listenFd?: number;
}

/**
 * The environment of a rank: that of the caller, minus what an outer launcher said about *its* rank, plus the
 * variables of `node-collectives launch`. All ranks are on this host, so local and global rank are the same.
 */
export function rankEnvironment(base: Environment, place: RankPlace): Record<string, string> {
  const env: Record<string, string> = {};
  // A launcher is often itself a task of a cluster's job; its own task's number would contradict RANK in
  // every rank.
  const foreign = new Set([...families.map((f) => f.rank), listenFdVariable]);
  for (const [name, value] of Object.entries(base)) {
    if (value !== undefined && !foreign.has(name)) env[name] = value;
  }
  const rank = String(place.rank);
  const size = String(place.worldSize);
  const port = String(place.masterPort);
  Object.assign(env, {
    RANK: rank,
    LOCAL_RANK: rank,
    WORLD_SIZE: size,
    LOCAL_WORLD_SIZE: size,
    MASTER_ADDR: place.masterAddr,
    MASTER_PORT: port,
    VLLM_DP_RANK: rank,
    VLLM_DP_RANK_LOCAL: rank,
    VLLM_DP_SIZE: size,
    VLLM_DP_MASTER_IP: place.masterAddr,
    VLLM_DP_MASTER_PORT: port,
    [jobIdVariable]: place.jobId,
  });
  env[secretVariable] ??= place.secret;
  if (place.listenFd !== undefined) env[listenFdVariable] = String(place.listenFd);
  return env;
}
