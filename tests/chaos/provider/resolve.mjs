export function resolve(specifier, context, next) {
  const wanted = specifier === 'oidc-provider' && context.parentURL?.endsWith('/oidc_provider/server.mjs');
  return next(wanted ? new URL('./kept.mjs', import.meta.url).href : specifier, context);
}
