/** Facts about the machine that a configuration depends on. */
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { checkInteger, refuse } from '../arguments.ts';
import { checkEnvironment } from '../environment.ts';
import { findDevices, type System, system } from './devices.ts';
import { type HeldPort, holdPorts, reservedPorts } from './ports.ts';
import { pythonInt } from './python.ts';

type Env = Readonly<Record<string, string | undefined>>;

/** What resolution asks of the machine. Read when needed and not before; tests give a plain object. */
export interface HostFacts {
  readonly platform: 'cuda' | 'rocm' | 'tpu' | 'xpu' | 'cpu';
  /** Devices that this process may use. */
  readonly deviceCount: number;
  /** Backend for collectives on this platform. */
  readonly distBackend: 'nccl' | 'gloo' | 'xccl';
  /** Whether the platform has own all-reduce kernels. */
  readonly customAllReduce: boolean;
  /** Whether workers can run with Ray. */
  readonly rayAvailable: boolean;
  /** Why it is not, as part of a message. */
  readonly rayUnavailableReason?: string;
  /** Whether a Ray cluster runs that this process would use. */
  readonly rayRunning: boolean;
  /** Whether this process runs inside a Ray placement group. */
  readonly inPlacementGroup: boolean;
  /** Whether results must not depend on how requests are batched. */
  readonly batchInvariant: boolean;
  /** Distinct free ports of `address`, rank 0's; those given as HeldPort stay bound until they are used. */
  openPorts(count: number, env: Env, address: string): readonly (number | HeldPort)[];
}

/** The origin reads it when it starts, so a change later has no effect. */
const batchInvariantAtStart = isOn(process.env['VLLM_BATCH_INVARIANT']);

function isOn(text = '0'): boolean {
  const value = pythonInt(text);
  return !Number.isNaN(value) && value !== 0;
}

/**
 * This machine. CUDA devices are found without creating a context, ROCm's through the kernel's list;
 * `deviceCount` is what CUDA_VISIBLE_DEVICES, or HIP_VISIBLE_DEVICES and ROCR_VISIBLE_DEVICES, leave of them.
 * Neither: CPU.
 *
 * Ray cannot be imported into Node: "available" means a `ray` command in PATH or RAY_ADDRESS, "running" means
 * RAY_ADDRESS. Whether the process is in a placement group cannot be asked: no.
 */
export function detectHost(env?: Env): HostFacts;
/** With a stand-in for the operating system. @internal */
export function detectHost(env: Env, on: System): HostFacts;
export function detectHost(env: Env = process.env, on: System = system): HostFacts {
  checkEnvironment('detectHost', env);
  let found: ReturnType<typeof findDevices> | undefined;
  const devices = () => {
    found ??= findDevices(env, on);
    return found;
  };
  const rayAddress = Boolean(env['RAY_ADDRESS']);
  return {
    get platform() {
      return devices().platform;
    },
    get deviceCount() {
      return devices().visible;
    },
    get distBackend() {
      return devices().platform === 'cpu' ? ('gloo' as const) : ('nccl' as const);
    },
    get customAllReduce() {
      return devices().customAllReduce;
    },
    get rayAvailable() {
      return rayAddress || inPath('ray', env);
    },
    rayUnavailableReason: 'there is no `ray` command in PATH, and RAY_ADDRESS is not set',
    rayRunning: rayAddress,
    inPlacementGroup: false,
    batchInvariant: batchInvariantAtStart,
    openPorts: (count, environment, address) => {
      checkInteger('openPorts', 'count', count, 0, 65_536);
      checkEnvironment('openPorts', environment);
      if (typeof address !== 'string') throw refuse('openPorts', 'address', 'a text', address);
      return holdPorts(count, reservedPorts(environment), address);
    },
  };
}

function inPath(program: string, env: Env): boolean {
  return (env['PATH'] ?? '').split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK);
      return folder !== '';
    } catch {
      return false;
    }
  });
}

let thisHost: HostFacts | undefined;

/** detectHost() for this process's environment, asked once. */
export function currentHost(): HostFacts {
  thisHost ??= detectHost();
  return thisHost;
}
