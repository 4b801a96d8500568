/** A listening socket that this process was started with. */
import { fstatSync, readFileSync } from 'node:fs';
import { checkEnvironment } from '../environment.ts';
import { InvalidArgumentError } from '../errors.ts';

/** Name of the variable that holds the descriptor of the listening socket, in rank 0's environment only. */
export const listenFdVariable = 'NODE_COLLECTIVES_LISTEN_FD';

/**
 * The listening descriptor that the launcher handed to this process (rank 0), for the option `listenFd` of
 * the group; undefined where there is none. It is checked to be a listening TCP socket of this process,
 * because a grandchild inherits the variable but may have some other file under that number.
 *
 * @throws InvalidArgumentError the variable is no descriptor number, or that descriptor does not listen.
 */
export function listenFdFromEnvironment(env: NodeJS.ProcessEnv = process.env): number | undefined {
  checkEnvironment('listenFdFromEnvironment', env);
  const text = env[listenFdVariable]?.trim() ?? '';
  if (text === '') return undefined;
  if (!/^\d{1,9}$/.test(text)) {
    throw new InvalidArgumentError(
      `${listenFdVariable} must be a whole number >= 0, it is ${JSON.stringify(text)}`,
    );
  }
  const fd = Number(text);
  const inode = socketInode(fd);
  if (inode === undefined || !isListening(inode)) {
    throw new InvalidArgumentError(
      `${listenFdVariable}=${fd}, but descriptor ${fd} is ${inode === undefined ? 'no socket' : 'not listening'} ` +
        'in this process. Was the program started through something that closes descriptors? ' +
        'Unset the variable, or launch with --no-listen-fd',
    );
  }
  return fd;
}

/**
 * listenFdFromEnvironment(), once: it serves one group, and the variable goes with it, since the number may mean
 * another file later, also in a child.
 */
export function takeListenFd(env: NodeJS.ProcessEnv): number | undefined {
  const fd = listenFdFromEnvironment(env);
  delete env[listenFdVariable];
  return fd;
}

function socketInode(fd: number): number | undefined {
  try {
    const stat = fstatSync(fd);
    return stat.isSocket() ? stat.ino : undefined;
  } catch {
    return undefined;
  }
}

function isListening(inode: number): boolean {
  for (const table of ['/proc/self/net/tcp', '/proc/self/net/tcp6']) {
    let text: string;
    try {
      text = readFileSync(table, 'latin1');
    } catch {
      continue; // no IPv6, or no /proc
    }
    for (const line of text.split('\n')) {
      const fields = line.trim().split(/\s+/);
      if (fields[3] === '0A' && fields[9] === String(inode)) return true;
    }
  }
  return false;
}
