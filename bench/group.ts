/** The group of a rank of a benchmark, whose place is in the environment (processes.ts). */
import { ProcessGroup } from 'node-collectives';

export const onDevice = process.env['BACKEND'] === 'nccl';
const rank = Number(process.env['RANK']);

export const group = await ProcessGroup.create({
  masterAddr: '127.0.0.1',
  masterPort: Number(process.env['MASTER_PORT']),
  rank,
  worldSize: Number(process.env['WORLD_SIZE']),
  ...(rank === 0 ? { listenFd: 3 } : {}),
  ...(onDevice ? { backend: 'nccl', votes: 'device' } : {}),
});
