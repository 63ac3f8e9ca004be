-- What the tests' glewlwyd knows, beside the schema and the administrator of Debian's package (admin / password).
-- To be filled in: @ISSUER@ @REDIRECT_URI@ @POST_LOGOUT_URI@ @KEY@ @PUBLIC_KEY@ (PEM, each line end as \n, both characters)
-- @JWT_TYPE@ (rsa, rsa-pss, ecdsa, eddsa) @ACCESS_TTL@ @REFRESH_TTL@ (seconds) @ONE_USE@ (always, never)
-- A password: base64(PBKDF2-HMAC-SHA256(password, salt, 1000 rounds, 32 bytes) then the 16 bytes of salt), comma, the rounds.
PRAGMA synchronous = OFF;
PRAGMA journal_mode = WAL;
BEGIN;
INSERT INTO g_scope (gs_name, gs_display_name, gs_description, gs_password_required, gs_password_max_age) VALUES
  ('profile', 'profile', '', 0, 0), ('email', 'email', '', 0, 0), ('groups', 'groups', '', 0, 0);
UPDATE g_user_module_instance SET gumi_parameters = json_set(gumi_parameters,
  '$.data-format.groups', json('{"multiple":true,"read":true,"write":true}'),
  '$.data-format.nickname', json('{"multiple":false,"read":true,"write":true}'));
-- The package's own format has "post_logout_redirect_uri", which its OpenID plugin never reads.
UPDATE g_client_module_instance SET gcmi_parameters = json_set(gcmi_parameters,
  '$.data-format.post_logout_redirect_uris', json('{"multiple":true,"read":true,"write":true}'));

INSERT INTO g_user_scope (gus_name) VALUES ('openid'), ('profile'), ('email'), ('groups');
INSERT INTO g_user (gu_username, gu_name, gu_email) VALUES
  ('alice', 'Alice', 'alice@corp.test'), ('bob', 'Bob', 'bob@corp.test');
INSERT INTO g_user_password (gu_id, guw_password)
  SELECT gu_id, '7WKB0Q6XxZIdGMS7FG8TT+TnUYA2MsJM0y1oc3A3PKxzYWx0LWZvci1hbGljZS0t,1000' FROM g_user WHERE gu_username = 'alice' UNION ALL
  SELECT gu_id, 'iF5LI61Lx+DomjenUijUJm2YFZJvvxBruHrjrU1tk2JzYWx0LWZvci1ib2ItLS0t,1000' FROM g_user WHERE gu_username = 'bob';
INSERT INTO g_user_property (gu_id, gup_name, gup_value)
  SELECT gu_id, 'groups', 'dev' FROM g_user WHERE gu_username IN ('alice', 'bob') UNION ALL
  SELECT gu_id, 'groups', 'ops' FROM g_user WHERE gu_username = 'alice' UNION ALL
  SELECT gu_id, 'nickname', 'al' FROM g_user WHERE gu_username = 'alice';
INSERT INTO g_user_scope_user (gu_id, gus_id)
  SELECT gu_id, gus_id FROM g_user, g_user_scope WHERE gu_username IN ('alice', 'bob') AND gus_name <> 'g_admin';

INSERT INTO g_client (gc_client_id, gc_name, gc_confidential) VALUES ('doorward', 'Doorward', 1);
INSERT INTO g_client_scope (gcs_name) VALUES ('openid');
INSERT INTO g_client_scope_client (gc_id, gcs_id) SELECT gc_id, gcs_id FROM g_client, g_client_scope;
INSERT INTO g_client_property (gc_id, gcp_name, gcp_value)
  SELECT gc_id, column1, column2 FROM g_client, (VALUES
    ('client_secret', 'doorward-secret'),
    ('redirect_uri', '@REDIRECT_URI@'),
    ('post_logout_redirect_uris', '@POST_LOGOUT_URI@'),
    ('authorization_type', 'code'), ('authorization_type', 'refresh_token'), ('authorization_type', 'client_credentials'),
    ('token_endpoint_auth_method', 'client_secret_basic'), ('token_endpoint_auth_method', 'client_secret_post'));
-- bob has consented before; alice will be asked.
INSERT INTO g_client_user_scope (gs_id, gcus_username, gcus_client_id)
  SELECT gs_id, 'bob', 'doorward' FROM g_scope WHERE gs_name NOT LIKE 'g\_%' ESCAPE '\';

INSERT INTO g_plugin_module_instance (gpmi_module, gpmi_name, gpmi_display_name, gpmi_parameters) VALUES ('oidc', 'oidc', 'oidc', '{
  "iss": "@ISSUER@", "subject-type": "public", "allowed-scope": ["openid", "profile", "email", "groups"],
  "jwt-type": "@JWT_TYPE@", "jwt-key-size": "256", "key": "@KEY@", "cert": "@PUBLIC_KEY@", "jwks-show": true, "jwks-x5c": [],
  "access-token-duration": @ACCESS_TTL@, "refresh-token-duration": @REFRESH_TTL@, "code-duration": 600,
  "refresh-token-rolling": false, "refresh-token-one-use": "@ONE_USE@",
  "auth-type-code-enabled": true, "auth-type-code-revoke-replayed": true, "auth-type-refresh-enabled": true,
  "auth-type-client-enabled": true, "allow-non-oidc": true, "auth-type-none-enabled": false,
  "auth-type-token-enabled": false, "auth-type-id-token-enabled": true, "auth-type-implicit-enabled": false,
  "auth-type-password-enabled": false, "auth-type-device-enabled": false,
  "name-claim": "on-demand", "name-claim-scope": ["profile"], "email-claim": "on-demand", "email-claim-scope": ["email"],
  "scope-claim": "no", "claims": [
    {"name": "groups", "user-property": "groups", "type": "string", "mandatory": false, "on-demand": false, "scope": ["groups"]},
    {"name": "preferred_username", "user-property": "nickname", "type": "string", "mandatory": false, "on-demand": false, "scope": ["profile"]}],
  "pkce-allowed": true, "pkce-method-plain-allowed": false, "pkce-required": false,
  "introspection-revocation-allowed": true, "introspection-revocation-allow-target-client": true,
  "introspection-revocation-auth-scope": [], "client-secret-parameter": "client_secret",
  "session-management-allowed": true, "session-cookie-name": "GLEWLWYD2_OIDC_SESSION", "session-cookie-expiration": 2419200,
  "back-channel-logout-allowed": true, "front-channel-logout-allowed": false,
  "oauth-as-iss-id": true, "request-parameter-allow": false, "register-client-allowed": false
}');
COMMIT;
