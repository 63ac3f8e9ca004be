// Express, twice: `static` before a tree, and a router, whose paths are the same in any case of letters.
// express.js ROOT PORT PORT, with NODE_PATH
const express = require('express'), fs = require('fs')
const [root, ofFiles, ofRoutes] = process.argv.slice(2)

function app(more) {
  const app = express(), seen = { served: 0 }
  app.all(['/public/echo', '/private/echo'], (request, response) => {
    response.send(request.rawHeaders.map((text, i) => text + (i % 2 ? '\n' : ': ')).join(''))
  })
  app.get('/public/served', (request, response) => response.send(String(seen.served)))
  more(app, seen)
  app.use((error, request, response, next) => response.status(400).send('bad\n'))
  return app
}

app((app, seen) => {
  const setHeaders = (response, name) => { seen.served += name.endsWith('/private/secret') }
  app.use(express.static(root, { etag: false, setHeaders }))
}).listen(ofFiles, '127.0.0.1')

app((app, seen) => {
  app.get('/private/secret', (request, response) => {
    seen.served += 1
    response.send(fs.readFileSync(root + '/private/secret', 'latin1'))
  })
  app.get('/public/page', (request, response) => response.send(fs.readFileSync(root + '/public/page', 'latin1')))
}).listen(ofRoutes, '127.0.0.1')
