// The certified provider with a memory that outlives its process, keys that rotate, and a log of every grant.
//
//   KEPT=folder   `store` (what it knows), `keys.json`, `log` (one JSON line for each event), `secrets` (what must
//                 never be seen elsewhere, one on each line)
//   ISSUER=url    how clients reach it, where that is not its own port
//   NEW_KEYS=1    signs with new keys from this start on; those before them stay published, older ones do not
//   FORGETFUL=1   forgets all that it knew
import { createHash } from 'node:crypto';
import { appendFileSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import Real, { errors, interactionPolicy } from '../../oidc_provider/node_modules/oidc-provider/lib/index.js';

const { KEPT: folder, ISSUER: outside, NEW_KEYS: renew, FORGETFUL: forgetful } = process.env;
const STORE = `${folder}/store`;
const KEYS = `${folder}/keys.json`;
const known = new Map();
let calls = 0;

if (forgetful) rmSync(STORE, { force: true });
if (existsSync(STORE)) {
  for (const line of readFileSync(STORE, 'utf8').split('\n')) {
    // The last line may be cut off where the process was killed.
    try { change(JSON.parse(line)); } catch { break; }
  }
}
writeFileSync(STORE, [...known].map(([key, entry]) => `${JSON.stringify(['set', key, entry])}\n`).join(''));

function change([verb, key, entry]) {
  if (verb === 'set') known.set(key, entry);
  if (verb === 'delete') known.delete(key);
  if (verb === 'consume' && known.has(key)) known.get(key).payload.consumed = entry;
  if (verb === 'revoke') {
    for (const [name, { payload }] of known) {
      if (payload.grantId === key && !name.startsWith('Session:')) known.delete(name);
    }
  }
}

function keep(...step) {
  appendFileSync(STORE, `${JSON.stringify(step)}\n`);
  change(step);
}

class Kept {
  constructor(model) { this.model = model; }

  key(id) { return `${this.model}:${id}`; }

  async upsert(id, payload, expiresIn) {
    keep('set', this.key(id), { payload, ends: expiresIn ? Date.now() + expiresIn * 1000 : null });
  }

  async find(id) {
    const entry = known.get(this.key(id));
    return entry && (entry.ends === null || entry.ends > Date.now()) ? structuredClone(entry.payload) : undefined;
  }

  async findByUid(uid) {
    for (const [key, { payload }] of known) {
      if (payload.uid === uid && key.startsWith('Session:')) return structuredClone(payload);
    }
    return undefined;
  }

  async consume(id) { keep('consume', this.key(id), Math.floor(Date.now() / 1000)); }

  async destroy(id) { keep('delete', this.key(id)); }

  async revokeByGrantId(grantId) { keep('revoke', grantId); }
}

function keys(fresh) {
  const before = existsSync(KEYS) ? JSON.parse(readFileSync(KEYS, 'utf8')) : { generation: 0, sets: [] };
  if (renew || before.sets.length === 0) {
    before.generation += 1;
    const named = fresh.map((key) => ({ ...key, kid: `${before.generation}-${key.alg.toLowerCase()}` }));
    before.sets = [named, ...before.sets].slice(0, 2);
    writeFileSync(KEYS, JSON.stringify(before));
  }
  return before.sets.flat();
}

const short = (token) => token && createHash('sha256').update(token).digest('hex').slice(0, 16);

function tell(event) {
  appendFileSync(`${folder}/log`, `${JSON.stringify({ at: Date.now() / 1000, ...event })}\n`);
}

function listen(provider) {
  provider.use((ctx, next) => {
    ctx.began = Date.now() / 1000;
    return next();
  });
  const grant = (ctx, more) => {
    const { params = {}, entities = {} } = ctx.oidc;
    const { refresh_token: made } = ctx.body ?? {};
    const call = calls += 1;
    tell({
      event: 'grant', call: `${process.pid}-${call}`, began: ctx.began, type: params.grant_type,
      spent: short(params.refresh_token), made: more.ok ? short(made) : undefined,
      grant: entities.Grant?.jti ?? entities.RefreshToken?.grantId, account: entities.Account?.accountId,
      port: ctx.req.socket.remotePort, ...more,
    });
    ctx.res.once('close', () => tell({
      event: 'answer', call: `${process.pid}-${call}`, whole: ctx.res.writableFinished,
    }));
    const secrets = [params.refresh_token, params.code, ctx.body?.access_token, ctx.body?.id_token, made];
    appendFileSync(`${folder}/secrets`, secrets.filter(Boolean).map((secret) => `${secret}\n`).join(''));
  };
  provider.on('grant.success', (ctx) => grant(ctx, { ok: true }));
  provider.on('grant.error', (ctx, error) => grant(ctx, { ok: false, error: error.error, why: error.error_detail }));
  provider.on('backchannel.success', (_ctx, _client, account) => tell({ event: 'logout', account, ok: true }));
  provider.on('backchannel.error', (_ctx, error, _client, account) => tell({
    event: 'logout', account, ok: false, why: error.message,
  }));
}

export default class extends Real {
  constructor(issuer, config) {
    super(outside ?? issuer, {
      ...config,
      adapter: Kept,
      cookies: { ...config.cookies, keys: ['kept'] },
      jwks: { keys: keys(config.jwks.keys) },
    });
    listen(this);
    setInterval(() => {
      for (const [key, { ends }] of known) if (ends !== null && ends < Date.now()) known.delete(key);
    }, 5000).unref();
  }
}
export { errors, interactionPolicy };
