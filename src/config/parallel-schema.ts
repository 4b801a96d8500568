/**
 * The fields of ParallelConfig. `npm run docs:config` writes their types, with comments, from the
 * descriptions.
 */
import { type executorNames, toBool, toExecutorBackend, toInt, toIntList, toLiteral } from './convert.ts';
import { defaultEplbConfig, EPLBConfig, toEplbConfig } from './eplb-config.ts';
import type { EPLBConfigInput } from './eplb-fields.ts';
import type { ExecutorClass } from './executor.ts';
import { namesOf } from './names.ts';
import { type Hashing, once, orNull, vocabulary, type Z, type Zod, zod } from './zod.ts';

export const all2allBackends = [
  'naive',
  'pplx',
  'deepep_high_throughput',
  'deepep_low_latency',
  'allgather_reducescatter',
  'flashinfer_all2allv',
] as const;
export type All2AllBackend = (typeof all2allBackends)[number];

export type ExecutorBackend = (typeof executorNames)[number] | (string & {}) | ExecutorClass;

/** Derived in resolution; not arguments. */
export const computedNames = ['worldSize', 'dataParallelIndex'] as const;

// Nested settings are checked for unknown names where the outer ones are; a schema has no other way to be
// told.
let strictNesting = false;

function define(z: Z) {
  const { field, plain, noted, isHashed } = vocabulary(z);
  const int = (otherwise: number, hash: Hashing, doc: string) => field(toInt, z.int(), otherwise, hash, doc);
  const intOrNull = (hash: Hashing, doc: string) =>
    field(orNull(toInt), z.nullable(z.int()), null, hash, doc);
  const bool = (otherwise: boolean, hash: Hashing, doc: string) =>
    field(toBool, z.boolean(), otherwise, hash, doc);
  const boolOrNull = (hash: Hashing, doc: string) =>
    field(orNull(toBool), z.nullable(z.boolean()), null, hash, doc);
  const text = (otherwise: string, hash: Hashing, doc: string) => plain(z.string(), otherwise, hash, doc);
  const anything = (hash: Hashing, doc: string) => plain<unknown>(z.unknown(), null, hash, doc);
  function literal<const N extends readonly [string, ...string[]]>(
    names: N,
    otherwise: N[number],
    hash: Hashing,
    doc: string,
  ) {
    type Name = N[number];
    const convert = toLiteral(names) as (input: unknown) => { value: Name };
    return field<Name>(convert, z.enum(names) as unknown as Zod.ZodType<Name>, otherwise, hash, doc);
  }

  const fields = z.object({
    pipelineParallelSize: int(1, 'hashed', 'Stages that the layers are split into.'),
    tensorParallelSize: int(1, 'hashed', 'Ranks that each layer is split over.'),
    prefillContextParallelSize: int(1, 'hashed', 'Ranks that the context of a prefill is split over.'),
    dataParallelSize: int(
      1,
      'hashed',
      'Replicas of the model that take requests. At 1 or less (and dataParallelSizeLocal other than 0) the ' +
        'environment decides: VLLM_DP_SIZE.',
    ),
    dataParallelSizeLocal: int(
      1,
      'free',
      'Replicas on this host. 0 stands for data parallelism set up from outside.',
    ),
    dataParallelRank: int(
      0,
      'free',
      'Number of this replica, from 0. Without data parallelism by argument: VLLM_DP_RANK.',
    ),
    dataParallelRankLocal: intOrNull(
      'free',
      'Number of this replica on its host. Without data parallelism by argument: VLLM_DP_RANK_LOCAL.',
    ),
    dataParallelMasterIp: text(
      '127.0.0.1',
      'free',
      'Address of rank 0 of the data-parallel group. Without data parallelism by argument: VLLM_DP_MASTER_IP.',
    ),
    dataParallelRpcPort: int(29550, 'free', 'Port for messages between replicas.'),
    dataParallelMasterPort: int(
      29500,
      'free',
      'Port given out once the port list is empty; then it counts up. Always replaced: by a free port with data ' +
        'parallelism by argument, else by VLLM_DP_MASTER_PORT.',
    ),
    dataParallelBackend: literal(['ray', 'mp'], 'mp', 'free', 'What starts the replicas.'),
    dataParallelExternalLb: bool(
      false,
      'free',
      'A load balancer outside chooses the replica. Needs data parallelism.',
    ),
    dataParallelHybridLb: bool(
      false,
      'free',
      'A load balancer outside chooses the host, the engine the replica.',
    ),
    isMoeModel: boolOrNull('hashed', 'Whether the model has experts; null where that is not known.'),
    enableExpertParallel: bool(false, 'hashed', 'Splits experts, not each of their layers.'),
    enableEplb: bool(false, 'hashed', 'Balances the load of experts. Needs enableExpertParallel.'),
    eplbConfig: field<EPLBConfig>(
      (input) => toEplbConfig(input, strictNesting),
      z.instanceof(EPLBConfig) as unknown as Zod.ZodType<EPLBConfig>,
      defaultEplbConfig,
      'hashed',
      'How the load of experts is balanced: an EPLBConfig, or settings for one.',
    ) as unknown as Zod.ZodDefault<Zod.ZodType<EPLBConfig, EPLBConfigInput>>,
    expertPlacementStrategy: literal(
      ['linear', 'round_robin'],
      'linear',
      'hashed',
      'Which experts go to which rank: neighbours together, or dealt out in turn.',
    ),
    all2allBackend: literal(
      all2allBackends,
      'allgather_reducescatter',
      'hashed',
      'How tokens travel between experts. VLLM_ALL2ALL_BACKEND, where set, comes before the argument.',
    ),
    maxParallelLoadingWorkers: intOrNull('free', 'Not supported and ignored, with a warning.'),
    disableCustomAllReduce: bool(
      false,
      'free',
      'No own all-reduce kernels. Becomes true where the platform has none, over several nodes, and for ' +
        'batch-invariant results.',
    ),
    enableDbo: bool(false, 'hashed', 'Two batches overlap: one computes while the other communicates.'),
    ubatchSize: int(0, 'hashed', 'Micro-batches that a batch is split into; 0 and 1 are none.'),
    dboDecodeTokenThreshold: int(32, 'hashed', 'Tokens from which a batch of decodes only is split.'),
    dboPrefillTokenThreshold: int(512, 'hashed', 'Tokens from which a batch with prefills is split.'),
    disableNcclForDpSynchronization: boolOrNull('hashed', 'Votes between replicas go over Gloo, not NCCL.'),
    rayWorkersUseNsight: bool(false, 'free', 'Profiles Ray workers with Nsight.'),
    rayRuntimeEnv: anything('free', 'Runtime environment for Ray workers; taken as it is.'),
    placementGroup: anything('free', 'Ray placement group of the workers; taken as it is.'),
    distributedExecutorBackend: field<ExecutorBackend | null>(
      orNull(toExecutorBackend<ExecutorClass>),
      z.any() as Zod.ZodType<ExecutorBackend | null>,
      null,
      'free',
      "What runs the workers: 'ray', 'mp', 'uni', 'external_launcher', the import path of an executor, or a class " +
        'derived from Executor. null chooses by world size and platform.',
    ),
    workerCls: text('auto', 'free', 'Import path of the worker class.'),
    sdWorkerCls: text('auto', 'free', 'Import path of the worker class for speculative decoding.'),
    workerExtensionCls: text('', 'free', 'Import path of a class that is added to the worker class.'),
    masterAddr: text('127.0.0.1', 'free', 'Address of the first node, for executors over several nodes.'),
    masterPort: int(29501, 'free', 'Port on the first node, for executors over several nodes.'),
    nodeRank: int(0, 'free', 'Number of this node, from 0.'),
    nnodes: int(1, 'free', 'Nodes of one deployment. Above 1 only with mp, uni or external_launcher.'),
    worldSize: noted(
      z.int(),
      'hashed',
      'Ranks of one replica: pipeline x tensor x prefill context; times dataParallelSize under external_launcher.',
    ),
    rank: int(0, 'free', "This process's number over all replicas, from 0."),
    _dataParallelMasterPortList: field<number[]>(
      toIntList,
      z.array(z.int()),
      () => [],
      'free',
      'Ports for data-parallel groups, given out from the end. Filled with 5 free ones with data parallelism by ' +
        'argument.',
    ),
    decodeContextParallelSize: int(1, 'hashed', 'Ranks that the context of a decode is split over.'),
    dcpKvCacheInterleaveSize: int(1, 'hashed', 'Tokens that stay together when decode context is split.'),
    cpKvCacheInterleaveSize: int(1, 'hashed', 'Tokens that stay together when context is split.'),
    dataParallelIndex: noted(z.int(), 'free', 'dataParallelRank as resolved.'),
    _apiProcessCount: field(toInt, z.int().gt(0), 1, 'free', 'API server processes.'),
    _apiProcessRank: field(
      toInt,
      z.int().gte(-1),
      0,
      'free',
      'Number of this API server process, from 0; -1 where this process is none.',
    ),
  });
  const input = fields.omit({ worldSize: true, dataParallelIndex: true });
  const names = namesOf(Object.keys(fields.shape));
  const hashed = names.camel.filter((name) => isHashed(fields.shape[name as keyof typeof fields.shape]));
  return { fields, input, names, inputNames: namesOf(Object.keys(input.shape)), hashed };
}

type Definition = ReturnType<typeof define>;

/** Schema, names and hashed fields. */
export const parallelSchema: () => Definition = once(() => define(zod()));

/** Types of the fields, as given and as resolved. */
export type ParallelInput = Zod.input<Definition['input']>;
export type ParallelOutput = Zod.output<Definition['fields']>;

/** The arguments converted, or zod's error. `strict` refuses unknown names inside `eplbConfig`. */
export function parseArguments(settings: unknown, strict: boolean) {
  strictNesting = strict;
  return parallelSchema().input.safeParse(settings);
}
