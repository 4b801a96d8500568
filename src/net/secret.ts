/**
 * Who may join: the secret that the processes of a group share, and what needs one. docs/security.md has the protocol.
 */
import { InvalidArgumentError } from '../errors.ts';

/** Name of the variable that holds the secret where the option does not say it. */
export const secretVariable = 'NODE_COLLECTIVES_SECRET';
/** `1`: as the option `allowUnauthenticated`. */
export const allowUnauthenticatedVariable = 'NODE_COLLECTIVES_ALLOW_UNAUTHENTICATED';
/** Shorter ones can be found by trying: whoever reads one handshake can try guesses at home. */
export const minSecretBytes = 16;

/** Options of everything that listens or connects. */
export interface AccessOptions {
  /**
   * What all processes of the group have and nobody else: 16 bytes of UTF-8 at least, random. Every connection proves
   * it, both ways; it never travels. Default `NODE_COLLECTIVES_SECRET`; null for none, whatever the environment says.
   */
  secret?: string | null;
  /**
   * Listen on an address that other hosts reach although there is no secret: whoever reaches it can then join. Default
   * `NODE_COLLECTIVES_ALLOW_UNAUTHENTICATED` (`1` or `0`), else false.
   */
  allowUnauthenticated?: boolean;
}

/** AccessOptions after checking. */
export interface Access {
  /** Empty: none. */
  secret: string;
  allowUnauthenticated: boolean;
}

/** @throws InvalidArgumentError, whose text never holds the secret. */
export function accessOf(op: string, options: AccessOptions, env: NodeJS.ProcessEnv = process.env): Access {
  const refuse = (text: string) => new InvalidArgumentError(`${op}: ${text}`, { op });
  const { secret: given, allowUnauthenticated: allowed } = options;
  if (given !== undefined && given !== null && typeof given !== 'string') {
    throw refuse(`secret must be a text, or null for none, it is of type ${typeof given}`);
  }
  if (allowed !== undefined && typeof allowed !== 'boolean') {
    throw refuse(`allowUnauthenticated must be true or false, it is of type ${typeof allowed}`);
  }
  const fromEnvironment = given === undefined;
  const name = fromEnvironment ? secretVariable : 'secret';
  const secret = fromEnvironment ? env[secretVariable] : (given ?? undefined);
  if (secret !== undefined) {
    const bytes = Buffer.byteLength(secret);
    const instead = fromEnvironment ? 'unset it for no secret' : 'leave it out, or give null for none';
    if (bytes === 0) throw refuse(`${name} is empty; give a random text, or ${instead}`);
    if (bytes < minSecretBytes) {
      throw refuse(
        `${name} has ${bytes} bytes, ${minSecretBytes} are the least; give a random text, ` +
          'e.g. of `openssl rand -base64 32`',
      );
    }
    if (secret.includes('\0')) throw refuse(`${name} must not contain a zero byte`);
  }
  return { secret: secret ?? '', allowUnauthenticated: allowed ?? allowedByEnvironment(op, env) };
}

function allowedByEnvironment(op: string, env: NodeJS.ProcessEnv): boolean {
  const text = env[allowUnauthenticatedVariable]?.trim() ?? '';
  if (text === '' || text === '0') return false;
  if (text === '1') return true;
  throw new InvalidArgumentError(
    `${op}: ${allowUnauthenticatedVariable} must be 1 or 0, it is ${JSON.stringify(text)}`,
    { op },
  );
}

/** Whether only this host reaches a numeric address. A wildcard address is not such a one. */
export function isLoopback(address: string): boolean {
  const plain = address.toLowerCase().replace(/^::ffff:(?=\d+\.)/, '');
  return plain === '::1' || /^127\.\d+\.\d+\.\d+$/.test(plain);
}

/** @throws InvalidArgumentError where other hosts would reach what listens there, and nobody would have to prove anything. */
export function checkExposure(op: string, addresses: readonly string[], access: Access): void {
  if (access.secret !== '' || access.allowUnauthenticated) return;
  const exposed = addresses.find((address) => !isLoopback(address));
  if (exposed !== undefined) throw new InvalidArgumentError(exposure(op, exposed), { op, address: exposed });
}

function exposure(op: string, address: string): string {
  return (
    `${op}: other hosts may reach ${address}, and without a secret whoever does can join. Give all ranks the same ` +
    `secret (option secret, or ${secretVariable}), or, on a network of which all hosts are trusted, set ` +
    `allowUnauthenticated: true (${allowUnauthenticatedVariable}=1)`
  );
}
