// Puts `kept.mjs` in the place of the package that tests/oidc_provider/server.mjs loads.
import { register } from 'node:module';

register('./resolve.mjs', import.meta.url);
