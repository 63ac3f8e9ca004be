// Node without a framework, twice: the path read by the WHATWG parser, and by the older `url.parse`.
// plain.js ROOT PORT PORT
const fs = require('fs'), http = require('http'), path = require('path'), url = require('url')
const [root, byUrl, byParse] = process.argv.slice(2)
const readers = [
  [byUrl, target => new URL(target, 'http://localhost').pathname],
  [byParse, target => url.parse(target).pathname],
]
process.removeAllListeners('warning')
for (const [port, read] of readers) {
  let served = 0
  const answer = (request, response) => {
    const name = path.normalize(decodeURIComponent(read(request.url)))
    if (name.endsWith('/echo')) return echo(request, response)
    if (name === '/public/served') return response.end(String(served))
    const content = fs.readFileSync(path.join(root, name))
    served += name === '/private/secret'
    response.setHeader('Content-Length', content.length)
    response.end(content)
  }
  http.createServer((request, response) => {
    try {
      answer(request, response)
    } catch {
      response.statusCode = 404
      response.end('not here\n')
    }
  }).listen(port, '127.0.0.1')
}

// Once the body is over: only then are the fields behind it known.
function echo(request, response) {
  const lines = raw => raw.map((text, i) => text + (i % 2 ? '\n' : ': ')).join('')
  request.resume().on('end', () => response.end(lines(request.rawHeaders) + lines(request.rawTrailers)))
}
