// Node's own HTTP server, by its documentation.
const http = require('node:http')

const server = http.createServer((req, res) => {
  if (req.url === '/heavy') {
    let n = 0
    for (let i = 0; i < 5000000; i++) n++
    res.end(String(n))
  } else {
    res.end(String(process.pid))
  }
})

server.listen(process.env.PORT, process.env.HOST, () => {
  console.log(`listening on port ${server.address().port}`)
})
