/** Variables that change what groups do. Secrets are only said to be there. */
import { type Finding, ok, warning } from './finding.ts';

const interesting =
  /^(NODE_COLLECTIVES_|NCCL_|RCCL_|GLOO_|VLLM_DP_|VLLM_NCCL|CUDA_VISIBLE|HIP_VISIBLE|ROCR_VISIBLE|MASTER_|RANK$|LOCAL_RANK$|WORLD_SIZE$)/;

export function environment(env: NodeJS.ProcessEnv): Finding[] {
  const set = Object.keys(env)
    .filter((name) => interesting.test(name))
    .sort();
  const shown = set.map((name) => `${name}=${/SECRET/.test(name) ? '(set)' : env[name]}`);
  const findings = [ok('variables', shown.join(' ') || 'none that matter here', { set })];
  if (env['NODE_COLLECTIVES_SECRET'] === undefined) {
    findings.push(
      ok(
        'secret',
        'none: groups and stores may listen on loopback only, unless allowUnauthenticated says otherwise',
      ),
    );
  }
  if (
    env['NCCL_SOCKET_IFNAME'] &&
    env['GLOO_SOCKET_IFNAME'] &&
    env['NCCL_SOCKET_IFNAME'] !== env['GLOO_SOCKET_IFNAME']
  ) {
    findings.push(
      warning(
        'interfaces',
        'GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME differ: CPU links follow the first, NCCL the second',
        'set one of them, or both alike, unless that is what you want',
      ),
    );
  }
  return findings;
}
