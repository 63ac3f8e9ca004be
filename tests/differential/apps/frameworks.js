// Fastify, Koa and serve-handler before a tree: frameworks.js ROOT PORT PORT PORT, with NODE_PATH
const http = require('http'), fastify = require('fastify'), Koa = require('koa')
const [root, ofFastify, ofKoa, ofHandler] = process.argv.slice(2)
const IS_ECHO = /^\/(public|private)\/echo$/
const shown = request => request.rawHeaders.map((text, i) => text + (i % 2 ? '\n' : ': ')).join('')

const server = fastify()
server.register(require('@fastify/static'), { root })
for (const method of ['GET', 'POST', 'PUT', 'OPTIONS'])
  for (const url of ['/public/echo', '/private/echo'])
    server.route({ method, url, handler: (request, reply) => reply.send(shown(request.raw)) })
server.listen({ host: '127.0.0.1', port: Number(ofFastify) })

const koa = new Koa()
koa.silent = true
koa.use((context, next) => { if (!IS_ECHO.test(context.path)) return next(); context.body = shown(context.req) })
koa.use(require('koa-static')(root))
koa.listen(ofKoa, '127.0.0.1')

const handler = require('serve-handler')
const settings = { public: root, cleanUrls: false }
http.createServer((request, response) => handler(request, response, settings)).listen(ofHandler, '127.0.0.1')
