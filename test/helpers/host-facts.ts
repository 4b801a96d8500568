import type { HostFacts } from '../../src/config/host.ts';

/** A machine with eight CUDA devices, as a plain object. */
export const cudaHost: HostFacts = {
  platform: 'cuda',
  deviceCount: 8,
  distBackend: 'nccl',
  customAllReduce: true,
  rayAvailable: false,
  rayRunning: false,
  inPlacementGroup: false,
  batchInvariant: false,
  openPorts: () => [41001, 41002, 41003, 41004, 41005],
};
