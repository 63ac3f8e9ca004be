// A certified OpenID provider for the integration tests, on loopback.
//
//   PORT=0 OIDC_CONFIG='{"clients": [...], "users": {...}}' node server.mjs
//
// Prints one JSON line, {"issuer", "port"}, once it listens; all else goes to stderr. Ends on SIGTERM, and
// when stdin closes, so that it cannot outlive the test that started it. README.md tells the interface.
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import dns from 'node:dns';
import { createServer } from 'node:http';

prepareRuntime();
const { default: Provider, errors, interactionPolicy } = await import('oidc-provider');

const ALGORITHMS = {
  RS256: ['rsa', { modulusLength: 2048 }],
  PS256: ['rsa', { modulusLength: 2048 }],
  ES256: ['ec', { namedCurve: 'P-256' }],
  EdDSA: ['ed25519', {}],
};
const SCOPES = ['openid', 'offline_access', 'profile', 'email', 'groups'];
const API_SCOPES = 'api:read api:write';
const MAX_FORM = 16 * 1024;

const config = {
  clients: [],
  users: {},
  access_token_ttl: 3600,
  rotate: true,
  claims_in_id_token: true,
  issuer_host: '127.0.0.1',
  ...JSON.parse(process.env.OIDC_CONFIG ?? '{}'),
};
const tokenClaims = new Map(config.clients.map((client) => [client.client_id, client.token_claims]));
const state = { grants: {}, userinfo: 0, jwks: 0, token_delay_ms: 0, token_status: 0 };

const server = createServer();
server.listen(Number(process.env.PORT ?? 0), '127.0.0.1', () => {
  const { port } = server.address();
  const issuer = `http://${config.issuer_host}:${port}`;
  const provider = openProvider(issuer);
  const oidc = provider.callback();
  server.on('request', (req, res) => {
    route(provider, oidc, req, res).catch((error) => fail(res, error));
  });
  process.stdout.write(`${JSON.stringify({ issuer, port })}\n`);
});
process.on('SIGTERM', () => process.exit(0));
process.stdin.on('end', () => process.exit(0)).on('error', () => process.exit(0)).resume();

async function route(provider, oidc, req, res) {
  const { pathname } = new URL(req.url, 'http://provider');
  if (pathname === '/test/state') return testState(req, res);
  if (pathname.startsWith('/interaction/')) return interact(provider, req, res);
  if (pathname === '/jwks') state.jwks += 1;
  if (pathname === '/me') state.userinfo += 1;
  if (pathname === '/token') {
    const { token_delay_ms: delay, token_status: status } = state;
    if (delay) await new Promise((resolve) => { setTimeout(resolve, delay); });
    if (status) return reply(res, status, 'application/json', '{"error":"server_error"}');
  }
  return oidc(req, res);
}

// What tests ask and set beside the protocol: how often a grant was used, and a token endpoint that is slow
// or down.
async function testState(req, res) {
  if (req.method === 'PUT') Object.assign(state, JSON.parse(await body(req)));
  reply(res, 200, 'application/json', JSON.stringify(state));
}

// The login page. Consent is never asked: where the protocol wants the step it is passed at once.
async function interact(provider, req, res) {
  const { prompt } = await provider.interactionDetails(req, res);
  if (prompt.name === 'consent') {
    return provider.interactionFinished(req, res, { consent: {} }, { mergeWithLastSubmission: true });
  }
  if (req.method !== 'POST') return reply(res, 200, 'text/html', loginPage(''));
  const form = new URLSearchParams(await body(req));
  const accountId = form.get('login');
  if (form.has('cancel')) {
    return provider.interactionFinished(req, res, { error: 'access_denied', error_description: 'cancelled' });
  }
  if (!Object.hasOwn(config.users, accountId) || form.get('password') !== accountId) {
    return reply(res, 401, 'text/html', loginPage('Wrong name or password.'));
  }
  return provider.interactionFinished(req, res, { login: { accountId }, consent: {} });
}

function loginPage(message) {
  return `<!doctype html><title>Sign in</title><h1>Sign in</h1><p>${message}</p>
<form method="post">
<input name="login" placeholder="name" autofocus> <input name="password" type="password" placeholder="password">
<button type="submit">Sign in</button> <button type="submit" name="cancel" value="1">Cancel</button>
</form>`;
}

function openProvider(issuer) {
  const provider = new Provider(issuer, {
    clients: config.clients.map(registration),
    jwks: { keys: Object.keys(ALGORITHMS).map(signingKey) },
    scopes: SCOPES,
    claims: {
      openid: ['sub', 'sid'],
      email: ['email', 'email_verified'],
      groups: ['groups'],
      profile: ['name', 'preferred_username', 'groups', ...extraClaims()],
    },
    conformIdTokenClaims: !config.claims_in_id_token,
    cookies: {
      keys: [randomUUID()],
      long: { signed: true, httpOnly: true, sameSite: 'lax' },
      short: { signed: true, httpOnly: true, sameSite: 'lax' },
    },
    features: {
      backchannelLogout: { enabled: true },
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      introspection: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => undefined,
        getResourceServerInfo: (_ctx, resource) => resourceServer(resource),
        useGrantedResource: () => true,
      },
      revocation: { enabled: true },
      rpInitiatedLogout: { enabled: true, logoutSource },
      userinfo: { enabled: true },
    },
    interactions: {
      policy: interactionPolicy.base(),
      url: (_ctx, interaction) => `/interaction/${interaction.uid}`,
    },
    ttl: {
      AccessToken: accessTokenTtl,
      ClientCredentials: accessTokenTtl,
      Grant: 86400,
      IdToken: 3600,
      Interaction: 900,
      RefreshToken: 86400,
      Session: 86400,
    },
    extraTokenClaims: (_ctx, token) => config.users[token.accountId] ?? tokenClaims.get(token.clientId),
    fetch: (url, { dispatcher: _guard, ...options }) => fetch(url, options),
    findAccount: (_ctx, id) => account(id),
    loadExistingGrant,
    rotateRefreshToken: () => config.rotate,
  });
  provider.use(consentForOfflineAccess);
  countGrants(provider);
  reportErrors(provider);
  return provider;
}

function registration({ token_claims: _claims, ...client }) {
  const signsIn = (client.redirect_uris ?? []).length > 0;
  const people = signsIn ? ['authorization_code', 'refresh_token'] : [];
  const programs = client.client_secret ? ['client_credentials'] : [];
  return {
    redirect_uris: [],
    response_types: signsIn ? ['code'] : [],
    grant_types: [...people, ...programs],
    token_endpoint_auth_method: client.client_secret ? 'client_secret_basic' : 'none',
    ...(client.backchannel_logout_uri ? { backchannel_logout_session_required: true } : {}),
    ...client,
  };
}

function signingKey(alg) {
  const [type, options] = ALGORITHMS[alg];
  const { privateKey } = generateKeyPairSync(type, options);
  return { ...privateKey.export({ format: 'jwk' }), kid: `test-${alg.toLowerCase()}`, alg, use: 'sig' };
}

// `urn:api:<algorithm>` is a resource whose access tokens are JWTs signed so; those of `urn:api:opaque` are
// opaque, for introspection.
function resourceServer(resource) {
  const alg = resource.replace(/^urn:api:/, '');
  const common = { scope: API_SCOPES, audience: resource, accessTokenTTL: config.access_token_ttl };
  if (alg === 'opaque') return { ...common, accessTokenFormat: 'opaque' };
  if (!Object.hasOwn(ALGORITHMS, alg)) throw new errors.InvalidTarget(`no such resource: ${resource}`);
  return { ...common, accessTokenFormat: 'jwt', jwt: { sign: { alg } } };
}

function accessTokenTtl() {
  return config.access_token_ttl;
}

function account(id) {
  if (!Object.hasOwn(config.users, id)) return undefined;
  return { accountId: id, claims: () => ({ ...config.users[id], sub: id }) };
}

// Claims that only some user has are released with the profile.
function extraClaims() {
  const known = new Set(['sub', 'email', 'email_verified', 'groups', 'name', 'preferred_username']);
  return [...new Set(Object.values(config.users).flatMap(Object.keys))].filter((claim) => !known.has(claim));
}

async function loadExistingGrant(ctx) {
  const { client, session, provider, resourceServers } = ctx.oidc;
  const known = session.grantIdFor(client.clientId);
  const grant = (known && await provider.Grant.find(known))
    || new provider.Grant({ accountId: session.accountId, clientId: client.clientId });
  grant.addOIDCScope(SCOPES.join(' '));
  for (const resource of Object.keys(resourceServers)) grant.addResourceScope(resource, API_SCOPES);
  await grant.save();
  return grant;
}

// The provider drops offline_access unless consent is asked for; this asks in the client's name.
async function consentForOfflineAccess(ctx, next) {
  const { scope = '', prompt } = ctx.query;
  if (ctx.path === '/auth' && prompt !== 'none' && scope.split(' ').includes('offline_access')) {
    ctx.query = { ...ctx.query, prompt: [...new Set([...(prompt?.split(' ') ?? []), 'consent'])].join(' ') };
  }
  return next();
}

function logoutSource(ctx, form) {
  const yes = '<input type="hidden" name="logout" value="yes"><button>Sign out</button>';
  const filled = form.replace('</form>', `${yes}</form>`);
  ctx.body = `<!doctype html><title>Sign out</title>${filled}<script>document.forms[0].submit()</script>`;
}

function countGrants(provider) {
  const count = (ctx, result) => {
    const used = (state.grants[ctx.oidc.params?.grant_type ?? 'none'] ??= { ok: 0, refused: 0 });
    used[result] += 1;
  };
  provider.on('grant.success', (ctx) => count(ctx, 'ok'));
  provider.on('grant.error', (ctx) => count(ctx, 'refused'));
}

// The bodies of error answers hide the cause.
function reportErrors(provider) {
  const events = ['authorization', 'grant', 'userinfo', 'introspection', 'revocation', 'end_session', 'server'];
  for (const event of events) {
    const name = event === 'server' ? 'server_error' : `${event}.error`;
    provider.on(name, (_ctx, error) => console.error(name, error.message, error.error_detail ?? '', error.cause ?? ''));
  }
  provider.on('backchannel.error', (_ctx, error, client) => console.error('backchannel.error', client.clientId, error));
}

async function body(req) {
  let text = '';
  for await (const chunk of req) {
    text += chunk;
    if (text.length > MAX_FORM) throw new Error('body too large');
  }
  return text;
}

function reply(res, status, type, text) {
  res.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' }).end(text);
}

function fail(res, error) {
  console.error(error);
  if (!res.headersSent) reply(res, 400, 'text/plain', `${error.message}\n`);
}

// Before the provider is loaded: stdout belongs to the one line, Node 20 lacks URL.parse, and names under
// .localhost, where a gateway under test may live, resolve in browsers only.
function prepareRuntime() {
  console.log = console.error;
  console.info = console.error;
  console.debug = console.error;
  URL.parse ??= (input, base) => (URL.canParse(input, base) ? new URL(input, base) : null);
  const { lookup } = dns;
  dns.lookup = (host, ...rest) => lookup(host.endsWith('.localhost') ? '127.0.0.1' : host, ...rest);
}
