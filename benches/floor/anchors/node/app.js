'use strict'
// usage: node app.js PORT [STATIC_DIR]
//
// GET /, /heavy?n=N on the loop, and /static/NAME. With TAG in the environment the first says which process answered.
const fs = require('fs')
const http = require('http')
const path = require('path')

const port = Number(process.argv[2])
const dir = process.argv[3] || '.'
const PLAIN = { 'Content-Type': 'text/plain' }
const HOME = { ...PLAIN, 'Content-Length': 13 }
if (process.env.TAG) HOME['X-Worker'] = process.pid

function heavy (url) {
  const n = Number(/[?&]n=(\d+)/.exec(url)?.[1] ?? 5_000_000)
  let total = 0
  for (let i = 0; i < n; i++) total += i & 1
  return total
}

function send (name, response) {
  const file = path.join(dir, path.basename(name))
  fs.stat(file, (error, stat) => {
    if (error) return response.writeHead(404).end()
    response.writeHead(200, { ...PLAIN, 'Content-Length': stat.size })
    fs.createReadStream(file).pipe(response)
  })
}

const server = http.createServer((request, response) => {
  if (request.url === '/') return response.writeHead(200, HOME).end('Hello, World!')
  if (request.url.startsWith('/static/')) return send(request.url, response)
  if (!request.url.startsWith('/heavy')) return response.writeHead(404).end()
  const body = String(heavy(request.url))
  response.writeHead(200, { ...PLAIN, 'Content-Length': body.length }).end(body)
})
server.keepAliveTimeout = 300_000
server.requestTimeout = server.headersTimeout = server.timeout = 0
server.listen({ port, host: '127.0.0.1', backlog: 4096 })
