// `npm run check:gloo13`: compiles the native library against the Gloo of another Debian release (trixie,
// Debian 13). Its packages are fetched with apt into a private root below build/ and unpacked there; the
// system stays as it is. Only the static library is made: linking the addon would need that release's glibc
// as well.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { debianRoot } from './debian-root.mjs';
import { buildDir, capture, die, filesBelow, jobs, root, run, ScriptError } from './lib.mjs';
import { ensureSystem } from './system.mjs';

try {
  const { values } = parseArgs({ options: { suite: { type: 'string', default: 'trixie' } } });
  ensureSystem(['build']);
  const sysroot = debianRoot({
    name: `gloo-${values.suite}`,
    suite: values.suite,
    packages: ['libgloo-dev'],
    depends: /^libgloo/,
  });
  const config = filesBelow([join('build', `gloo-${values.suite}`, 'root')], (file) =>
    file.endsWith('/GlooConfig.cmake'),
  )[0];
  if (!config) throw new ScriptError(`There is no GlooConfig.cmake below ${sysroot}.`);
  const dir = join(buildDir, `check-${values.suite}`);
  const flags = [`-DGloo_DIR=${join(config, '..')}`, '-DNC_BUILD_ADDON=OFF', '-DNC_BUILD_TESTS=OFF'];
  capture('cmake', ['-S', root, '-B', dir, ...flags]);
  // Gloo's headers must come from there: the system's would prove nothing.
  const commands = readFileSync(join(dir, 'compile_commands.json'), 'utf8');
  if (!commands.includes(join(sysroot, 'usr/include'))) {
    throw new ScriptError(`The compile commands do not name ${sysroot}/usr/include.`);
  }
  run('cmake', ['--build', dir, '--parallel', String(jobs), '--target', 'nc']);
  console.log(`check-gloo: the native library compiles against Gloo of ${values.suite}`);
} catch (error) {
  die(error);
}
