// Who needs a secret, where it comes from, and that it is never repeated.
import { describe, expect, it } from 'vitest';
import { accessOf, checkExposure, isLoopback } from '../../src/net/secret.ts';

const secret = 'a secret of the tests';

describe('accessOf', () => {
  it('takes the option before the environment, and null for none', () => {
    const env = { NODE_COLLECTIVES_SECRET: 'from the environment' };
    expect(accessOf('create', { secret }, env).secret).toBe(secret);
    expect(accessOf('create', {}, env).secret).toBe('from the environment');
    expect(accessOf('create', { secret: null }, env).secret).toBe('');
    expect(accessOf('create', {}, {})).toEqual({ secret: '', allowUnauthenticated: false });
  });

  it('counts bytes, not letters', () => {
    expect(accessOf('create', { secret: 'ü'.repeat(8) }, {}).secret).toBe('ü'.repeat(8));
    expect(() => accessOf('create', { secret: 'ü'.repeat(7) }, {})).toThrow('has 14 bytes');
  });

  it.each([['hunter2'], ['']])(
    'refuses %j from the environment, naming the variable and not the value',
    (value) => {
      const refused = () => accessOf('create', {}, { NODE_COLLECTIVES_SECRET: value });
      expect(refused).toThrow(/NODE_COLLECTIVES_SECRET/);
      if (value !== '') expect(refused).not.toThrow(new RegExp(value));
    },
  );

  it.each([
    ['1', true],
    ['0', false],
    ['', false],
  ])('NODE_COLLECTIVES_ALLOW_UNAUTHENTICATED=%s', (text, expected) => {
    const env = { NODE_COLLECTIVES_ALLOW_UNAUTHENTICATED: text };
    expect(accessOf('create', {}, env).allowUnauthenticated).toBe(expected);
    expect(accessOf('create', { allowUnauthenticated: !expected }, env).allowUnauthenticated).toBe(!expected);
  });

  it('refuses other words for yes', () => {
    const env = { NODE_COLLECTIVES_ALLOW_UNAUTHENTICATED: 'true' };
    expect(() => accessOf('create', {}, env)).toThrow('must be 1 or 0');
  });
});

describe('checkExposure', () => {
  const open = { secret: '', allowUnauthenticated: false };
  it.each(['127.0.0.1', '127.0.1.1', '::1', '::ffff:127.0.0.1'])('%s stays within the host', (address) => {
    expect(isLoopback(address)).toBe(true);
    expect(() => checkExposure('create', [address], open)).not.toThrow();
  });
  it.each(['0.0.0.0', '::', '10.0.0.1', '192.168.0.1', 'fe80::1%eth0', '::ffff:10.0.0.1', '1.127.0.1'])(
    '%s does not',
    (address) => {
      expect(isLoopback(address)).toBe(false);
      expect(() => checkExposure('create', ['127.0.0.1', address], open)).toThrow(address);
      expect(() => checkExposure('create', [address], { ...open, secret })).not.toThrow();
      expect(() => checkExposure('create', [address], { ...open, allowUnauthenticated: true })).not.toThrow();
    },
  );
});
