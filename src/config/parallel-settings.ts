/** ParallelConfig without its groups: construction, derived values, hash, ports, the two spellings. */
import { checkInteger } from '../arguments.ts';
import { InvalidArgumentError } from '../errors.ts';
import { type ConfigContext, checkContext } from './context.ts';
import { EPLBConfig, type EPLBConfigInput } from './eplb-config.ts';
import { eplbNames } from './eplb-schema.ts';
import { type ConfigIssue, ConfigValidationError, ZeroDivisionError } from './errors.ts';
import { type HashFactor, hashFactors, hashJson, sha256 } from './hash.ts';
import { currentHost, type HostFacts } from './host.ts';
import { camelised, type Names } from './names.ts';
import type { ParallelConfigInput, ParallelFields } from './parallel-fields.ts';
import { computedNames, parallelSchema, parseArguments } from './parallel-schema.ts';
import type { HeldPort } from './ports.ts';
import { floorDivide, floorModulo, isPlainObject } from './python.ts';
import { type Environment, resolveFields, usesRay } from './resolve.ts';
import { unknownNames } from './unknown.ts';
import { issuesOf } from './zod.ts';

const saidOnce = new Set<string>();

function emitWarning(text: string, once: boolean): void {
  if (once && saidOnce.has(text)) return;
  if (once) saidOnce.add(text);
  process.emitWarning(text, { type: 'NodeCollectivesWarning', code: 'CONFIG' });
}

const title = 'ParallelConfig';

/** Marks settings that are spelled as the origin does. */
class SnakeCase {
  readonly settings: Readonly<Record<string, unknown>>;
  constructor(settings: Readonly<Record<string, unknown>>) {
    this.settings = settings;
  }
}

export interface ParallelSettings extends ParallelFields {}

/** See ParallelConfig, which adds groups. */
// biome-ignore lint/suspicious/noUnsafeDeclarationMerging: the constructor sets every field of the interface
export class ParallelSettings {
  readonly #env: Environment;
  readonly #host: HostFacts;
  readonly #held = new Map<number, HeldPort>();

  constructor(settings: ParallelConfigInput = {}, context: ConfigContext = {}) {
    checkContext(context);
    const { env = process.env, host = currentHost(), onWarning, onSource } = context;
    this.#env = env;
    this.#host = host;
    const fields = (settings as unknown) instanceof SnakeCase ? fromSnake(settings) : fromCamel(settings);
    resolveFields(fields, {
      env,
      host,
      warn: onWarning === undefined ? emitWarning : (text) => onWarning(text),
      note: (field, source) => onSource?.(field, source),
      hold: (ports) => this.#hold(ports),
    });
    Object.assign(this, fields);
  }

  /** The instance, from the origin's names. @internal */
  protected static snakeCase(settings: Readonly<Record<string, unknown>>): ParallelConfigInput {
    return new SnakeCase(settings) as unknown as ParallelConfigInput;
  }

  /** All fields by the origin's names, in the origin's order; also nested. */
  toSnakeCase(): Record<string, unknown> {
    const out: Record<string, unknown> = {};
    for (const [camel, snake] of parallelSchema().names.snakeOf) {
      const value: unknown = this[camel as keyof ParallelFields];
      out[snake] =
        value instanceof EPLBConfig ? value.toSnakeCase() : Array.isArray(value) ? [...value] : value;
    }
    return out;
  }

  /**
   * Ranks over all replicas. Under external_launcher with data parallelism the size counts twice.
   * @throws InvalidArgumentError beyond 2^53 - 1.
   */
  get worldSizeAcrossDp(): number {
    const ranks = this.worldSize * this.dataParallelSize;
    if (Number.isSafeInteger(ranks)) return ranks + 0;
    throw new InvalidArgumentError('worldSizeAcrossDp is beyond 2^53 - 1, the largest number kept exactly');
  }

  /** Whether batches are split into micro-batches. */
  get useUbatching(): boolean {
    return this.enableDbo || this.ubatchSize > 1;
  }

  /** Micro-batches of a batch. */
  get numUbatches(): number {
    return this.enableDbo ? 2 : this.ubatchSize;
  }

  /** Nodes that one replica spans. @throws ZeroDivisionError with several nodes and a local size of 0. */
  get nnodesWithinDp(): number {
    if (this.nnodes === 1) return 1;
    return divided(this.nnodes, divided(this.dataParallelSize, this.dataParallelSizeLocal));
  }

  /** This node's number within its replica. @throws ZeroDivisionError if nnodesWithinDp is 0. */
  get nodeRankWithinDp(): number {
    const nodes = this.nnodesWithinDp;
    if (nodes === 0) throw new ZeroDivisionError();
    return floorModulo(this.nodeRank, nodes);
  }

  /** Ranks of one replica on this node. @throws ZeroDivisionError if nnodesWithinDp is 0. */
  get localWorldSize(): number {
    return divided(this.worldSize, this.nnodesWithinDp);
  }

  /** Whether expert layers run with sequence parallelism. */
  get useSequenceParallelMoe(): boolean {
    const backends = ['allgather_reducescatter', 'naive', 'deepep_high_throughput', 'deepep_low_latency'];
    return (
      backends.includes(this.all2allBackend) &&
      this.enableExpertParallel &&
      this.tensorParallelSize > 1 &&
      this.dataParallelSize > 1
    );
  }

  /** Whether workers run with Ray. */
  get useRay(): boolean {
    return usesRay(this.distributedExecutorBackend);
  }

  /** Hashed fields in canonical form, by snake_case name. */
  hashFactors(): Record<string, HashFactor> {
    return hashFactors(this);
  }

  /** The text whose SHA-256 is the hash. */
  hashPreimage(): string {
    return hashJson(hashFactors(this));
  }

  /**
   * SHA-256 over everything that has to be the same on all replicas, 64 hexadecimal digits; the same as
   * vLLM's. Computed from the fields as they are now.
   */
  computeHash(): string {
    return sha256(this.hashPreimage());
  }

  /** The next port for a data-parallel group, which is used up by asking. A port that is held stays held. */
  getNextDpInitPort(): number {
    const last = this._dataParallelMasterPortList.pop();
    if (last !== undefined) return last;
    this.dataParallelMasterPort += 1;
    return this.dataParallelMasterPort - 1;
  }

  /** The `count` ports that would come next, without using them up. */
  peekDpInitPorts(count: number): number[] {
    checkInteger('peekDpInitPorts', 'count', count, 0, 65_536);
    const listed = this._dataParallelMasterPortList.toReversed().slice(0, count);
    const first = this.dataParallelMasterPort;
    return [...listed, ...Array.from({ length: count - listed.length }, (_, i) => first + i)];
  }

  /** The free ports of this configuration that are still bound by this process. */
  get heldPorts(): number[] {
    return [...this.#held.keys()];
  }

  /**
   * Takes a held port out of this configuration's hands, for whoever listens on it: release() it right
   * before, or take() its descriptor where that is offered. undefined if the port is not held.
   */
  takeHeldPort(port: number): HeldPort | undefined {
    checkInteger('takeHeldPort', 'port', port, 0, 65_535);
    const held = this.#held.get(port);
    this.#held.delete(port);
    return held;
  }

  /** Gives up all ports still held, e.g. because another process will listen on them. */
  releaseHeldPorts(): void {
    for (const held of this.#held.values()) held.release();
    this.#held.clear();
  }

  /** @internal */
  protected get environment(): Environment {
    return this.#env;
  }
  /** @internal */
  protected get hostFacts(): HostFacts {
    return this.#host;
  }

  #hold(ports: readonly HeldPort[]): void {
    if (ports.length === 0) return;
    for (const port of ports) this.#held.set(port.port, port);
    unreachable.register(this, this.#held);
  }
}

/** Nobody can use the ports of a configuration that is gone. */
const unreachable = new FinalizationRegistry<Map<number, HeldPort>>((held) => {
  for (const port of held.values()) port.release();
});

function divided(a: number, b: number): number {
  if (b === 0) throw new ZeroDivisionError();
  return floorDivide(a, b);
}

function fromCamel(settings: unknown): ParallelFields {
  if (!isPlainObject(settings)) {
    const msg = 'Input should be an object of settings';
    throw new ConfigValidationError(title, [{ loc: [], msg, type: 'object_type' }]);
  }
  const unknown = unknownNames(settings, parallelSchema().inputNames.camel, computedNames);
  return parsed(settings, true, unknown, (loc) => loc);
}

function fromSnake(settings: unknown): ParallelFields {
  const { inputNames } = parallelSchema();
  const given = camelised((settings as SnakeCase).settings, inputNames);
  if (isPlainObject(given['eplbConfig'])) given['eplbConfig'] = camelised(given['eplbConfig'], eplbNames());
  return parsed(given, false, [], (loc) => {
    const spelled = (part: string | number | undefined, names: Names) =>
      names.snakeOf.get(String(part)) ?? part;
    const out = [spelled(loc[0], inputNames), ...loc.slice(1)];
    if (loc[0] === 'eplbConfig' && loc.length > 1) out[1] = spelled(loc[1], eplbNames());
    return out as (string | number)[];
  });
}

function parsed(
  settings: Record<string, unknown>,
  strict: boolean,
  unknown: readonly ConfigIssue[],
  spell: (loc: readonly (string | number)[]) => readonly (string | number)[],
): ParallelFields {
  const result = parseArguments(settings, strict);
  const issues = [...(result.success ? [] : issuesOf(result.error)), ...unknown];
  if (result.success && issues.length === 0) {
    return { ...result.data, worldSize: 0, dataParallelIndex: 0 } as ParallelFields;
  }
  throw new ConfigValidationError(
    title,
    issues.map((issue) => ({ ...issue, loc: spell(issue.loc) })),
  );
}

export type { EPLBConfigInput, ParallelConfigInput, ParallelFields };
