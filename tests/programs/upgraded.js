// What workers do in the scenarios of tests/it/node_upgrade.rs: a server that says who answers, on any
// port, and a line every few milliseconds that is written in two pieces.
'use strict'
const http = require('node:http')

const server = http.createServer((req, res) => {
  const text = `Handled by process ${process.pid}\n`
  // Some take their time.
  const wait = req.url === '/slow' ? 700 : 0
  setTimeout(() => res.end(text), wait)
})
server.listen(0, '127.0.0.1', () => {
  console.log(`listening on port ${server.address().port}`)
  tick()
})

let count = 0
const tick = () => {
  count++
  process.stdout.write(`tick ${count} of `)
  setTimeout(() => {
    process.stdout.write(`${process.pid}\n`)
    if (server.listening) setTimeout(tick, 3)
  }, 7)
}
