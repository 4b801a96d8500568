/** The data-parallel settings that a launcher leaves in the environment. */
import { checkInteger } from '../arguments.ts';
import { checkEnvironment } from '../environment.ts';
import { InvalidArgumentError } from '../errors.ts';
import type { DpGroupConfig } from '../group/dp.ts';
import { listenFdFromEnvironment, takeListenFd } from '../net/listen-fd.ts';

/** The configuration that the environment describes; see dpConfigFromEnv(). */
export class DpEnvironment implements DpGroupConfig {
  readonly dataParallelSize: number;
  readonly dataParallelRank: number;
  readonly dataParallelRankLocal: number;
  readonly dataParallelMasterIp: string;
  /** Moves on with every port handed out. */
  dataParallelMasterPort: number;
  readonly #env: NodeJS.ProcessEnv;
  readonly #launcherPort: number;

  constructor(env: NodeJS.ProcessEnv) {
    checkEnvironment('dpConfigFromEnv', env);
    this.dataParallelSize = integer(env, 'VLLM_DP_SIZE', 1);
    this.dataParallelRank = integer(env, 'VLLM_DP_RANK', 0);
    this.dataParallelRankLocal = integer(env, 'VLLM_DP_RANK_LOCAL', this.dataParallelRank);
    this.dataParallelMasterIp = env['VLLM_DP_MASTER_IP'] ?? '127.0.0.1';
    this.dataParallelMasterPort = integer(env, 'VLLM_DP_MASTER_PORT', 0);
    if (this.dataParallelMasterPort < 0 || this.dataParallelMasterPort > 65_535) {
      throw new InvalidArgumentError(
        `VLLM_DP_MASTER_PORT must be a port from 0 to 65535, but is ${this.dataParallelMasterPort}`,
        { op: 'dpConfigFromEnv' },
      );
    }
    this.#env = env;
    this.#launcherPort = this.dataParallelMasterPort;
  }

  getNextDpInitPort(): number {
    this.dataParallelMasterPort += 1;
    return this.dataParallelMasterPort - 1;
  }

  peekDpInitPorts(count: number): number[] {
    checkInteger('peekDpInitPorts', 'count', count, 0, 65_536);
    return Array.from({ length: count }, (_, i) => this.dataParallelMasterPort + i).filter(
      (port) => port <= 65535,
    );
  }

  /** Whether the launcher keeps that port bound for this process. @internal */
  holdsPort(port: number): boolean {
    return port === this.#launcherPort && listenFdFromEnvironment(this.#env) !== undefined;
  }

  /** statelessInitDpGroup() takes the launcher's descriptor by itself. @internal */
  handOver(port: number): number | undefined {
    return this.holdsPort(port) ? this.takeListenFd() : undefined;
  }

  /**
   * The listening descriptor that the launcher handed to rank 0, for the option `listenFd` of
   * ProcessGroup.create(); once, since it serves one group. The variable goes with it: the number may mean another file later.
   */
  takeListenFd(): number | undefined {
    return takeListenFd(this.#env);
  }
}

function integer(env: NodeJS.ProcessEnv, name: string, otherwise: number): number {
  const text = env[name]?.trim();
  if (text === undefined || text === '') return otherwise;
  if (!/^[+-]?\d+$/.test(text)) {
    throw new InvalidArgumentError(`${name} must be a whole number, but is '${text}'`, {
      op: 'dpConfigFromEnv',
    });
  }
  return Number(text);
}

/**
 * Reads `VLLM_DP_SIZE`, `VLLM_DP_RANK`, `VLLM_DP_RANK_LOCAL`, `VLLM_DP_MASTER_IP`, `VLLM_DP_MASTER_PORT` (as
 * `node-collectives launch` sets them) and `NODE_COLLECTIVES_LISTEN_FD`.
 *
 * @throws InvalidArgumentError for a value that is no whole number, or no port.
 */
export function dpConfigFromEnv(env: NodeJS.ProcessEnv = process.env): DpEnvironment {
  return new DpEnvironment(env);
}
