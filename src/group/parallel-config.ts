/** ParallelConfig: a parallel configuration that can form the groups it describes. */

import { refuse } from '../arguments.ts';
import type { ConfigContext } from '../config/context.ts';
import { hashJson } from '../config/hash.ts';
import { type ParallelConfigInput, ParallelSettings } from '../config/parallel-settings.ts';
import { isPlainObject } from '../config/python.ts';
import { listenFdFromEnvironment, takeListenFd } from '../net/listen-fd.ts';
import type { OperationOptions } from './collectives.ts';
import {
  type BackendChoice,
  type DpGroupConfig,
  type StatelessInitOptions,
  statelessInitDpGroup,
  type VotesChoice,
} from './dp.ts';
import type { ProcessGroup } from './process-group.ts';
import { hasUnfinishedDp, syncKvCacheMemorySize } from './votes.ts';

/**
 * How a model is spread over ranks: vLLM's ParallelConfig, with the same resolved values, refusals and hash.
 *
 * ```ts
 * const config = new ParallelConfig({ tensorParallelSize: 2 }); // the data-parallel part from VLLM_DP_*
 * const group = await config.statelessInitDpGroup();
 * ```
 *
 * Construction fills defaults, converts and checks every field, then resolves them from the environment and
 * the machine; docs/configuration.md has the table of fields. After construction nothing is checked.
 */
export class ParallelConfig extends ParallelSettings implements DpGroupConfig {
  /**
   * @param settings by camelCase names; unknown names are refused.
   * @throws ConfigValidationError with all wrong fields, or the first broken rule; MissingVariableError and
   *   ZeroDivisionError under external_launcher, see docs/configuration.md.
   */
  constructor(settings: ParallelConfigInput = {}, context: ConfigContext = {}) {
    super(settings, context);
  }

  /** From the origin's names, as JSON from Python has them; unknown names are dropped without a word. */
  static fromSnakeCase(
    settings: Readonly<Record<string, unknown>>,
    context: ConfigContext = {},
  ): ParallelConfig {
    if (!isPlainObject(settings))
      throw refuse('fromSnakeCase', 'settings', 'an object of settings', settings);
    return new ParallelConfig(ParallelSettings.snakeCase(settings), context);
  }

  /**
   * Forms the data-parallel group: see statelessInitDpGroup(). The backend follows the platform, and the
   * hashed fields have to be the same on all ranks.
   */
  statelessInitDpGroup(options: StatelessInitOptions = {}): Promise<ProcessGroup> {
    return statelessInitDpGroup(this, options);
  }

  /** See hasUnfinishedDp(). */
  static hasUnfinishedDp(
    group: ProcessGroup,
    hasUnfinished: boolean,
    options?: OperationOptions,
  ): Promise<boolean> {
    return hasUnfinishedDp(group, hasUnfinished, options);
  }

  /** See syncKvCacheMemorySize(). */
  static syncKvCacheMemorySize(
    group: ProcessGroup,
    bytes: bigint | number,
    options?: OperationOptions,
  ): Promise<bigint> {
    return syncKvCacheMemorySize(group, bytes, options);
  }

  /** What all ranks of a group have to agree on: the hashed fields, each as JSON. @internal */
  dpSettings(): Record<string, string> {
    return Object.fromEntries(
      Object.entries(this.hashFactors()).map(([name, value]) => [name, hashJson(value)]),
    );
  }

  /** The backend of the platform. @internal */
  dpBackend(): BackendChoice {
    const { platform, distBackend, deviceCount } = this.hostFacts;
    if (distBackend === 'gloo')
      return { platformBackend: 'gloo', backend: 'gloo', reason: `platform ${platform}` };
    if (deviceCount === 0) {
      const reason = `platform ${platform} has ${distBackend}, but this process sees no device`;
      return { platformBackend: distBackend, backend: 'gloo', reason, fellBack: true };
    }
    if (distBackend === 'nccl') {
      return { platformBackend: 'nccl', backend: 'nccl', reason: `platform ${platform}` };
    }
    const reason = `platform ${platform} has ${distBackend}, which this package does not have`;
    return { platformBackend: distBackend, backend: 'gloo', reason, fellBack: true };
  }

  /**
   * The votes' way: disableNcclForDpSynchronization true keeps them off the device; unset counts as false.
   * @internal
   */
  dpVotes(backend: 'gloo' | 'nccl'): VotesChoice {
    const setting = this.disableNcclForDpSynchronization ?? null;
    const given = `disableNcclForDpSynchronization is ${setting}`;
    if (backend === 'gloo') return { path: 'cpu', reason: `${given}; the group has no device` };
    return { path: setting === true ? 'cpu' : 'device', reason: given };
  }

  /** Whether this process has the port bound: by resolution, or by the launcher. @internal */
  holdsPort(port: number): boolean {
    return this.heldPorts.includes(port) || this.#launcherFd(port) !== undefined;
  }

  /** See DpGroupConfig. @internal */
  handOver(port: number): number | undefined {
    const held = this.takeHeldPort(port);
    if (held?.take !== undefined) return held.take();
    held?.release();
    if (held !== undefined) return undefined;
    return this.#launcherFd(port) === undefined ? undefined : takeListenFd(this.environment);
  }

  /** The socket that `node-collectives launch` handed to rank 0, if it listens on that port. */
  #launcherFd(port: number): number | undefined {
    const env = this.environment;
    return Number(env['VLLM_DP_MASTER_PORT']) === port ? listenFdFromEnvironment(env) : undefined;
  }
}
