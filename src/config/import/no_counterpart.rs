//! Options of oauth2-proxy that become no key.

use crate::config::import::options::{NO, YES};

/// Options that need nothing here, whatever they say.
pub(super) const NOTHING_TO_DO: [&str; 3] = ["encode_state", "allow_query_semicolons", "set_xauthrequest"];

/// Options that have no counterpart, each with the values that ask for what is done anyway, and with what to do instead
/// of the others.
pub(super) const NOT_HERE: &[(&str, &[&str], &str)] = &[
    // Cookies and sessions.
    ("cookie_secret", &[], "sessions are kept in the store and sealed; see `store.secret`"),
    ("cookie_secret_file", &[], "sessions are kept in the store and sealed; see `store.secret`"),
    (
        "cookie_refresh",
        &["0", "0s"],
        "an access token is refreshed before it expires; see `session.refresh.before_expiry`",
    ),
    ("cookie_path", &["/"], "cookies are of the whole host"),
    ("cookie_secure", YES, "a cookie is Secure wherever its route is https"),
    ("cookie_httponly", YES, "scripts never see the session's cookie"),
    ("cookie_csrf_per_request", YES, "each login has a cookie of its own"),
    ("cookie_csrf_per_request_limit", &["0"], "the cookies of the oldest logins are cleared where they grow too long"),
    ("cookie_csrf_expire", &["15m", "15m0s", "900s"], "a login must end within 15 minutes"),
    ("cookie_csrf_samesite", &["lax"], "the cookie of a login is Lax, or None where the provider answers by a form"),
    ("session_cookie_minimal", NO, "sessions are in the store, and their tokens with them"),
    // Signing in.
    ("code_challenge_method", &["S256"], "PKCE is always used, with S256"),
    ("force_code_challenge_method", &["S256"], "PKCE is always used, with S256"),
    ("skip_provider_button", YES, "where a route has one provider, users are sent there at once"),
    ("relative_redirect_url", NO, "the callback is on the origin of the route, or at `redirect_uri`"),
    ("whitelist_domains", &[], "a return URL may lead to the origin of any route, and nowhere else"),
    ("insecure_oidc_allow_unverified_email", NO, "an address that the provider marks as unverified matches no rule"),
    ("insecure_oidc_skip_issuer_verification", NO, "the issuer is always compared; see `issuer` with `{tenantid}`"),
    ("insecure_oidc_skip_nonce", NO, "the nonce is always compared"),
    ("ssl_insecure_skip_verify", NO, "a provider's certificate is always verified; see `ca_file` of the provider"),
    ("use_system_trust_store", YES, "the authorities of the system are trusted beside `ca_file`"),
    ("oidc_public_key_files", &[], "keys are fetched from the provider; see `endpoints.jwks_uri`"),
    ("validate_url", &[], "tokens are verified by the provider's keys, or by `introspection`"),
    ("resource", &[], "see `authorization_params`"),
    ("jwt_key", &[], "see `private_key` of the provider, with `client_auth: private_key_jwt`"),
    ("jwt_key_file", &[], "see `private_key` of the provider, with `client_auth: private_key_jwt`"),
    ("pubjwk_url", &[], "the provider is given the public key when the client is registered"),
    ("entra_id_federated_token_auth", NO, "see `client_assertion_file`, with `client_auth: private_key_jwt`"),
    ("entra_id_allowed_tenants", &[], "see `tenants`, and `issuer` with `{tenantid}`"),
    ("azure_tenant", &[], "name the tenant in `issuer`, or its place by `{tenantid}`"),
    // Who may pass.
    ("skip_auth_preflight", NO, "write `cors` for the route: preflights are answered before a credential is asked for"),
    ("skip_auth_regex", &[], "there are no patterns: write a route with `auth: public`"),
    ("api_routes", &[], "programs get 401 wherever they do not ask for HTML; see `auth.on_unauthenticated`"),
    ("force_json_errors", NO, "programs get JSON, people a page"),
    ("htpasswd_file", &[], "there are no passwords here; give programs an API key"),
    ("htpasswd_user_groups", &[], "there are no passwords here; give programs an API key"),
    ("display_htpasswd_form", NO, "there are no passwords here; give programs an API key"),
    ("extra_jwt_issuers", &[], "write each issuer as a provider, and name it in `auth.bearer`"),
    ("trusted_ips", &[], "an address is no credential; write a public route, or guard it by the network"),
    // What an app gets.
    ("pass_basic_auth", NO, "no password is passed on; an app is told of its user by `headers.preset`"),
    ("set_basic_auth", NO, "no password is passed on; an app is told of its user by `headers.preset`"),
    ("basic_auth_password", &[], "no password is passed on; an app is told of its user by `headers.preset`"),
    ("prefer_email_to_user", NO, "write `X-Forwarded-User: \"{email}\"` into `headers.set` of the route"),
    ("skip_auth_strip_headers", YES, "what a client sends under the names of identity headers is always removed"),
    ("signature_key", &[], "see `headers.assertion`"),
    ("ssl_upstream_insecure_skip_verify", NO, "an app's certificate is always verified; see `upstream.ca_file`"),
    ("proxy_websockets", YES, "WebSockets are always passed on"),
    ("flush_interval", &[], "what an app sends is passed on at once"),
    ("disable_keep_alives", NO, "connections to an app are used again"),
    // Pages and logs.
    ("custom_templates_dir", &[], "see `pages`: name, contact, logo and style"),
    ("custom_sign_in_logo", &[], "see `pages.logo_file`"),
    ("banner", &[], "see `pages.name`"),
    ("footer", &[], "see `pages.contact`"),
    ("show_debug_on_error", NO, "a page shows no details; they are in the log, under the id that it shows"),
    ("standard_logging", YES, "see `logging.level`"),
    ("auth_logging", YES, "sign-ins and refusals are lines of one access log; see `logging.access`"),
    ("standard_logging_format", &[], "see `logging.format`: json or text"),
    ("auth_logging_format", &[], "see `logging.format`: json or text"),
    ("request_logging_format", &[], "see `logging.format`: json or text"),
    ("logging_filename", &[], "logs go to standard output; a service manager keeps them"),
    ("exclude_logging_paths", &[], "see `logging.access`"),
    ("silence_ping_logging", YES, "health checks are not logged"),
    ("request_id_header", &["X-Request-Id"], "the header is X-Request-Id"),
    // Listeners.
    ("ping_path", &[], "health is on the admin listener: /livez and /readyz"),
    ("ready_path", &[], "health is on the admin listener: /livez and /readyz"),
    ("ping_user_agent", &[], "health is on the admin listener: /livez and /readyz"),
    ("gcp_healthchecks", NO, "health is on the admin listener: /livez and /readyz"),
    ("metrics_secure_address", &[], "the admin listener has no TLS; keep it on loopback"),
    ("metrics_tls_cert_file", &[], "the admin listener has no TLS; keep it on loopback"),
    ("metrics_tls_key_file", &[], "the admin listener has no TLS; keep it on loopback"),
    ("tls_min_version", &["TLS1.2"], "clients choose between TLS 1.2 and 1.3"),
    ("tls_cipher_suites", &[], "the suites are those of rustls"),
    // Redis.
    ("redis_password", &[], "write it into the URL of `store.redis.urls`"),
    ("redis_username", &[], "write it into the URL of `store.redis.urls`"),
    ("redis_sentinel_password", &[], "see `store.redis.sentinel_password`"),
    ("redis_insecure_skip_tls_verify", NO, "the certificate of Redis is always verified; see `store.redis.ca_file`"),
    ("redis_connection_idle_timeout", &["0"], "a connection that Redis has closed is opened again"),
];
