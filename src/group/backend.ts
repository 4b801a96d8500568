/** Which backend a group has, on which device, and which way its votes go. */

import { checkInteger, orDefault, refuse } from '../arguments.ts';
import { defaultDevice } from '../device/lane.ts';
import type { VotesChoice } from './dp.ts';
import type { ProcessGroupOptions } from './options.ts';

/** What is settled of these. */
export interface Backend {
  name: 'gloo' | 'nccl';
  reason: string;
  device: { index: number; ncclPath: string } | null;
  votes: VotesChoice;
  /** What has to be the same on all ranks, as names and values in turn. */
  settings: string[];
}

/** What is said about a device, also where there will be none. */
export function checkDevice(
  op: string,
  { device, ncclPath }: Pick<ProcessGroupOptions, 'device' | 'ncclPath'>,
): void {
  if (device !== undefined) checkInteger(op, 'device', device, 0, 65_535);
  if (ncclPath === undefined || typeof ncclPath === 'string') return;
  throw refuse(op, 'ncclPath', 'the path of a library', ncclPath);
}

export function backendOf(options: ProcessGroupOptions): Backend {
  const { backend: name = 'gloo', ncclPath = '', votes } = options;
  checkDevice('create', options);
  if (name !== 'gloo' && name !== 'nccl') throw refuse('create', 'backend', "'gloo' or 'nccl'", name);
  if (votes !== undefined && votes !== 'cpu' && votes !== 'device') {
    throw refuse('create', 'votes', "'cpu' or 'device'", votes);
  }
  if (name === 'gloo') {
    for (const option of ['device', 'ncclPath'] as const) {
      if (options[option] !== undefined) {
        throw refuse('create', option, "left out where backend is not 'nccl'", options[option]);
      }
    }
    if (votes === 'device') throw refuse('create', 'votes', "'cpu' where backend is not 'nccl'", votes);
  }
  const reason =
    options.backendReason ?? (options.backend === undefined ? 'gloo is the default' : 'asked for by name');
  if (name === 'gloo') {
    const path = { path: 'cpu', reason: options.votesReason ?? 'the group has no device' } as const;
    return { name, reason, device: null, votes: path, settings: ['backend', name] };
  }
  const index = orDefault(options.device, defaultDevice());
  const path = votes ?? 'device';
  const why =
    options.votesReason ?? (votes === undefined ? 'the default of GPU groups' : 'asked for by name');
  return {
    name,
    reason,
    device: { index, ncclPath },
    votes: { path, reason: why },
    settings: ['backend', name, 'votes', path],
  };
}
