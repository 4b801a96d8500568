/** Stages B, C and D: what follows from the arguments, the environment and the machine. */

import { variable } from '../environment.ts';
import type { executorNames } from './convert.ts';
import { MissingVariableError, ruleError, ZeroDivisionError } from './errors.ts';
import { type ExecutorClass, isExecutorClass, printClass } from './executor.ts';
import type { HostFacts } from './host.ts';
import type { ParallelFields } from './parallel-fields.ts';
import { type All2AllBackend, all2allBackends } from './parallel-schema.ts';
import type { HeldPort } from './ports.ts';
import { floorDivide, intLiteralMessage, isTruthy, pythonInt, pythonRepr } from './python.ts';

/** Environment variables, as in `process.env`. One of them is written to. */
export type Environment = Record<string, string | undefined>;

export interface ResolveContext {
  readonly env: Environment;
  readonly host: HostFacts;
  /** `once`: said only once in a process. */
  warn(text: string, once: boolean): void;
  /** Told where a field got its value from, whenever that is not its argument. */
  note(field: keyof ParallelFields, source: string): void;
  /** Takes the ports that were found. */
  hold(ports: readonly HeldPort[]): void;
}

const refuse = (text: string) => ruleError('ParallelConfig', text);
const variableIn = (env: Environment, name: string) => variable('ParallelConfig', env, name);

/** Resolves and checks the fields in place. */
export function resolveFields(fields: ParallelFields, context: ResolveContext): void {
  chooseAll2All(fields, context);
  const launcher = fields.distributedExecutorBackend === 'external_launcher';
  const { pipelineParallelSize, tensorParallelSize, prefillContextParallelSize } = fields;
  fields.worldSize = exact(pipelineParallelSize * tensorParallelSize * prefillContextParallelSize);
  if (launcher) fields.worldSize = exact(fields.worldSize * fields.dataParallelSize);
  context.note('worldSize', 'computed');
  if (fields.dataParallelSize > 1 || fields.dataParallelSizeLocal === 0) {
    settleDataParallel(fields, context, launcher);
  } else {
    readDataParallel(fields, context);
  }
  fields.dataParallelIndex = fields.dataParallelRank;
  context.note('dataParallelIndex', 'computed');
  if (launcher) context.env['VLLM_ENABLE_V1_MULTIPROCESSING'] = '0';
  if (fields.distributedExecutorBackend === null) {
    const choice = chooseExecutor(fields, context);
    if (choice !== undefined) {
      fields.distributedExecutorBackend = choice[0];
      context.note('distributedExecutorBackend', `chosen: ${choice[1]}`);
    }
  }
  if (fields.maxParallelLoadingWorkers !== null) {
    context.warn('max_parallel_loading_workers is currently not supported and will be ignored.', false);
  }
  const executor = fields.distributedExecutorBackend;
  if (fields.nnodes > 1 && executor !== 'mp' && executor !== 'uni' && executor !== 'external_launcher') {
    throw refuse(
      'nnodes > 1 can only be set when distributed executor backend is mp, uni or external_launcher.',
    );
  }
  checkSizes(fields, context.host);
  checkExecutor(fields, context);
}

/** Sizes multiply without bound; a number that lost digits must not be passed on. */
function exact(size: number): number {
  if (!Number.isSafeInteger(size))
    throw refuse('world_size is beyond 2^53 - 1, the largest number kept exactly here');
  return size + 0;
}

function integer(text: string): number {
  const value = pythonInt(text);
  if (Number.isNaN(value)) throw refuse(intLiteralMessage(text));
  if (!Number.isSafeInteger(value))
    throw refuse(`${text} is beyond 2^53 - 1, the largest number kept exactly here`);
  return value;
}

function divide(a: number, b: number): number {
  if (b === 0) throw new ZeroDivisionError();
  return floorDivide(a, b);
}

function chooseAll2All(fields: ParallelFields, { env, warn, note }: ResolveContext): void {
  const asked = variableIn(env, 'VLLM_ALL2ALL_BACKEND');
  if (asked === undefined) return;
  warn(
    'VLLM_ALL2ALL_BACKEND environment variable is deprecated and will be removed in v0.15.0. ' +
      'Please use the --all2all-backend command-line argument instead.',
    true,
  );
  if (!(all2allBackends as readonly string[]).includes(asked)) {
    const options = all2allBackends.map(pythonRepr).join(', ');
    throw refuse(`Invalid value '${asked}' for VLLM_ALL2ALL_BACKEND. Valid options: [${options}].`);
  }
  fields.all2allBackend = asked as All2AllBackend;
  note('all2allBackend', 'environment VLLM_ALL2ALL_BACKEND');
}

/** Data parallelism was asked for by argument. */
function settleDataParallel(fields: ParallelFields, context: ResolveContext, launcher: boolean): void {
  const { env, host, note } = context;
  if (launcher) {
    const rank = variableIn(env, 'RANK');
    if (rank === undefined) throw new MissingVariableError('RANK');
    fields.dataParallelRank = divide(integer(rank), divide(fields.worldSize, fields.dataParallelSize));
    note('dataParallelRank', 'environment RANK');
  }
  const ports = fields._dataParallelMasterPortList;
  if (ports.length === 0) {
    const found = host.openPorts(5, env, fields.dataParallelMasterIp);
    context.hold(found.filter((port) => typeof port !== 'number'));
    ports.push(...found.map((port) => (typeof port === 'number' ? port : port.port)));
    note('_dataParallelMasterPortList', 'free ports of this host');
  }
  fields.dataParallelMasterPort = ports.pop() ?? fields.dataParallelMasterPort;
  note('dataParallelMasterPort', 'taken off the port list');
  const { dataParallelRank: rank, dataParallelSize: size } = fields;
  if (!(rank >= 0 && rank < size))
    throw refuse(`data_parallel_rank (${rank}) must be in the range [0, ${size})`);
}

/** The environment decides, variable by variable: one that is not reached may hold anything. */
function readDataParallel(fields: ParallelFields, { env, note }: ResolveContext): void {
  const from = (name: string) =>
    variableIn(env, name) === undefined ? `default, as ${name} is not set` : `environment ${name}`;
  const read = (name: string, otherwise: number) => {
    const given = variableIn(env, name);
    return given === undefined ? otherwise : integer(given);
  };
  fields.dataParallelSize = read('VLLM_DP_SIZE', 1);
  note('dataParallelSize', from('VLLM_DP_SIZE'));
  fields.dataParallelRank = read('VLLM_DP_RANK', 0);
  note('dataParallelRank', from('VLLM_DP_RANK'));
  fields.dataParallelRankLocal = read('VLLM_DP_RANK_LOCAL', fields.dataParallelRank);
  note(
    'dataParallelRankLocal',
    from(variableIn(env, 'VLLM_DP_RANK_LOCAL') === undefined ? 'VLLM_DP_RANK' : 'VLLM_DP_RANK_LOCAL'),
  );
  fields.dataParallelMasterIp = variableIn(env, 'VLLM_DP_MASTER_IP') ?? '127.0.0.1';
  note('dataParallelMasterIp', from('VLLM_DP_MASTER_IP'));
  fields.dataParallelMasterPort = read('VLLM_DP_MASTER_PORT', 0);
  note('dataParallelMasterPort', from('VLLM_DP_MASTER_PORT'));
  if (fields.dataParallelSize > 1 && fields.isMoeModel === false) {
    throw refuse('Offline data parallel mode is not supported/useful for dense models.');
  }
}

type Choice = [name: (typeof executorNames)[number], why: string];

/** An executor for where none was named, and why that one; undefined where nothing is to run. */
function chooseExecutor(fields: ParallelFields, { env, host }: ResolveContext): Choice | undefined {
  const { worldSize } = fields;
  if (worldSize === 1) return ['uni', 'one process'];
  if (worldSize < 1) return undefined;
  if (host.platform === 'tpu' && integer(variableIn(env, 'VLLM_XLA_USE_SPMD') ?? '0') !== 0) {
    return ['uni', 'VLLM_XLA_USE_SPMD is on'];
  }
  if (host.platform === 'cuda') {
    if (fields.nnodes > 1) return ['mp', 'several nodes'];
    if (host.deviceCount < worldSize) {
      throw refuse(
        `World size (${worldSize}) is larger than the number of available GPUs (${host.deviceCount}) in this node. ` +
          "If this is intentional and you are using:\n- ray, set '--distributed-executor-backend ray'.\n" +
          "- multiprocessing, set '--nnodes' appropriately.",
      );
    }
  }
  if (fields.dataParallelBackend === 'ray') return ['ray', 'dataParallelBackend is ray'];
  if (host.rayAvailable) {
    if (isTruthy(fields.placementGroup)) return ['ray', 'a placement group was given'];
    if (host.rayRunning && host.inPlacementGroup) return ['ray', 'within a placement group'];
  }
  return ['mp', 'several processes'];
}

/** Stage C. */
function checkSizes(fields: ParallelFields, host: HostFacts): void {
  const { _apiProcessCount: count, _apiProcessRank: apiRank, dataParallelSize: size } = fields;
  if (apiRank >= count) {
    throw refuse(
      `Invalid value of \`_api_process_rank\`. Expected to be \`-1\` or \`[0, ${count})\`, but found: ${apiRank}`,
    );
  }
  const local = fields.dataParallelSizeLocal;
  if (local > size)
    throw refuse(`data_parallel_size_local (${local}) must be <= data_parallel_size (${size})`);
  if (size <= 1 && fields.dataParallelExternalLb) {
    throw refuse('data_parallel_external_lb can only be set when data_parallel_size > 1');
  }
  if (!fields.enableEplb) {
    const redundant = fields.eplbConfig.numRedundantExperts;
    if (redundant === 0) return;
    throw refuse(
      `num_redundant_experts is set to ${redundant} but EPLB is not enabled. ` +
        'Either enable EPLB or unset num_redundant_experts.',
    );
  }
  if (host.platform !== 'cuda' && host.platform !== 'rocm') {
    throw refuse('Expert parallelism load balancing is only supported on CUDA devices or ROCm devices now.');
  }
  if (!fields.enableExpertParallel) throw refuse('enable_expert_parallel must be True to use EPLB.');
  const tensor = fields.tensorParallelSize;
  if (tensor * size <= 1) {
    throw refuse(
      'EPLB requires tensor_parallel_size or data_parallel_size to be greater than 1, ' +
        `but got TP=${tensor},DP=${size}.`,
    );
  }
}

/** Whether workers run with Ray. */
export function usesRay(executor: unknown): boolean {
  return (
    executor === 'ray' ||
    (typeof executor === 'function' && isTruthy((executor as { usesRay?: unknown }).usesRay))
  );
}

/** Stage D. */
function checkExecutor(fields: ParallelFields, { host, note }: ResolveContext): void {
  const disable = (why: string) => {
    if (!fields.disableCustomAllReduce) note('disableCustomAllReduce', why);
    fields.disableCustomAllReduce = true;
  };
  if (host.batchInvariant) disable('environment VLLM_BATCH_INVARIANT');
  const executor = fields.distributedExecutorBackend;
  if (typeof executor === 'function' && !isExecutorClass(executor as ExecutorClass)) {
    throw refuse(
      `Unrecognized distributed executor backend ${printClass(executor as ExecutorClass)}. Supported values are ` +
        "'ray', 'mp' 'uni', 'external_launcher',  custom Executor subclass or its import path.",
    );
  }
  const ray = usesRay(executor);
  if (ray && !host.rayAvailable) {
    const reason = host.rayUnavailableReason ?? "No module named 'ray'";
    throw refuse(`Failed to import Ray: ${reason}.Please install Ray with \`pip install ray\`.`);
  }
  if (!host.customAllReduce) disable('the platform has no custom all-reduce');
  if (fields.nnodes > 1) disable('several nodes');
  if (fields.rayWorkersUseNsight && !ray) {
    throw refuse('Unable to use nsight profiling unless workers run with Ray.');
  }
}
