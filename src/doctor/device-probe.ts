/** Looks at drivers and libraries. A program of its own, see child.ts; takes no arguments. */
import { binding } from '../native/binding.ts';
import { dieWithParent } from '../process/die-with-parent.ts';
import { say } from './child.ts';

dieWithParent();
say('device-probe', binding().probeDevices());
