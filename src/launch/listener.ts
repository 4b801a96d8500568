/** The port of a job: bound, and kept bound until rank 0 has it. */

import { createServer } from 'node:net';
import { AddressInUseError, AddressUnavailableError, NetworkError } from '../errors.ts';

/**
 * Listens on a free port of `host`, calls `use(port, fd)` and then closes this process's copy of the socket.
 * What `use` spawns with the descriptor keeps it open: at no moment is the port free for somebody else. `use`
 * must be synchronous: it runs before the event loop turns, so this process never accepts a connection meant
 * for rank 0.
 *
 * @throws AddressUnavailableError `host` is no address of this machine.
 */
export function withListeningPort<T>(host: string, use: (port: number, fd: number) => T): Promise<T> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) => {
      const facts = { address: host, ...(error.code === undefined ? {} : { errno: error.code }) };
      if (error.code === 'EADDRNOTAVAIL' || error.code === 'ENOTFOUND' || error.code === 'EINVAL') {
        reject(new AddressUnavailableError(`cannot listen on ${host}: it is no address of this host`, facts));
      } else if (error.code === 'EADDRINUSE') {
        reject(new AddressInUseError(`no free port on ${host}`, facts));
      } else {
        reject(new NetworkError(`cannot listen on ${host}: ${error.message}`, facts));
      }
    });
    // As many as rank 0 lets wait: before it looks, strangers may have come.
    server.listen({ host, port: 0, backlog: 1_024 }, () => {
      try {
        const address = server.address();
        const fd = (server as unknown as { _handle?: { fd?: number } })._handle?.fd;
        if (address === null || typeof address === 'string' || typeof fd !== 'number' || fd < 0) {
          throw new NetworkError(
            'this runtime does not tell the descriptor of a listening socket; use --no-listen-fd',
          );
        }
        resolve(use(address.port, fd));
      } catch (error) {
        reject(error);
      } finally {
        server.close();
      }
    });
  });
}
