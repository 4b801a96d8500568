/** Free ports, held until the listener that uses them takes over. */
import { isIP } from 'node:net';
import { AddressUnavailableError } from '../errors.ts';
import { binding } from '../native/binding.ts';
import { pythonInt } from './python.ts';

/** A free port that this process has bound, so that nobody else gets it. */
export interface HeldPort {
  readonly port: number;
  /** The listening descriptor, where the holder can hand it over; who calls take() owns it. */
  take?(): number;
  /** Gives the port up. */
  release(): void;
}

/** Ports that the finder keeps clear of: the ten from VLLM_DP_MASTER_PORT, which groups count up from. */
export function reservedPorts(env: Readonly<Record<string, string | undefined>>): (port: number) => boolean {
  const from = pythonInt(env['VLLM_DP_MASTER_PORT'] ?? '');
  return (port) => port >= from && port < from + 10;
}

/**
 * Binds `count` distinct free ports and keeps them: on exactly `address` where it is a numeric one of this
 * host, on all addresses otherwise, in either case without listening. Whoever drops one without release() or
 * take() keeps the port bound for the life of the process.
 *
 * @throws ResourceError if the system has no more descriptors, NetworkError if it has no more ports.
 */
export function holdPorts(
  count: number,
  reserved: (port: number) => boolean = () => false,
  address = '127.0.0.1',
): HeldPort[] {
  const held: HeldPort[] = [];
  // Refused ports stay bound meanwhile: otherwise the kernel could offer them again.
  const refused: HeldPort[] = [];
  try {
    while (held.length < count) {
      const next = holdOne(address);
      (reserved(next.port) ? refused : held).push(next);
    }
    return held;
  } catch (error) {
    for (const port of held) port.release();
    throw error;
  } finally {
    for (const port of refused) port.release();
  }
}

function holdOne(address: string): HeldPort {
  const own = isIP(address) !== 0 ? tryHold(address) : undefined;
  const { fd, port } = own ?? binding().holdPort('0.0.0.0');
  let open = true;
  const held: HeldPort = {
    port,
    release: () => {
      if (!open) return;
      open = false;
      binding().closeFd(fd);
    },
  };
  // Only a socket on the very address may become the listener: a group never listens on all of them.
  if (own !== undefined) {
    held.take = () => {
      open = false;
      binding().listenOn(fd);
      return fd;
    };
  }
  return held;
}

/** Nothing where the address is another host's, as it is on every rank but those of the master's host. */
function tryHold(address: string): { fd: number; port: number } | undefined {
  try {
    return binding().holdPort(address);
  } catch (error) {
    if (error instanceof AddressUnavailableError) return undefined;
    throw error;
  }
}
