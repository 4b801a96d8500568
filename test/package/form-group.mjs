// Runs inside the clean root: two ranks of one group in one process vote and part.
import { createServer } from 'node:net';
import { hasUnfinishedDp, ProcessGroup } from 'node-collectives';

const masterPort = await new Promise((done) => {
  const server = createServer().listen(0, '127.0.0.1', () => {
    const { port } = server.address();
    server.close(() => done(port));
  });
});
const groups = await Promise.all(
  [0, 1].map((rank) =>
    ProcessGroup.create({ masterAddr: '127.0.0.1', masterPort, rank, worldSize: 2, backend: 'gloo' }),
  ),
);
const votes = await Promise.all(groups.map((group) => hasUnfinishedDp(group, group.rank === 1)));
groups.forEach((group, i) => {
  console.log(`rank ${group.rank} of ${group.size}: ${votes[i]}`);
});
await Promise.all(groups.map((group) => group.close()));
